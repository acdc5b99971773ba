"""Fine-tune, probe or train from scratch on a labelled corpus, and evaluate on its test split.

All weights, three seeds; then a linear probe on a tenth of the labels of own records, which the model sees on three leads:

    accelerate launch examples/finetune_classification.py --model_name_or_path CHECKPOINT --dataset ptb_xl \\
        --task superclass --data_dir PTB_XL_FOLDER --output_dir OUT --mode finetune --seeds 0,1,2
    python examples/finetune_classification.py --model_name_or_path CHECKPOINT --dataset folder --data_dir MY_RECORDS \\
        --output_dir OUT --mode linear --label_fraction 0.1 --leads I,II,V2

`OUT` then holds the classifier with its feature extractor and card, `metrics.json`, `predictions.parquet`,
`selection.json` (what the validation split decided, written before the test split is read), the models of all seeds
and `checkpoints/`.
"""

import sys

from ecg_transformers.cli import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
