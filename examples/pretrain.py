"""Pre-train any method of the package on any corpus, with the published recipe by default.

Real records, on all GPUs that `accelerate config` named:

    accelerate launch examples/pretrain.py --method st_mem --dataset ptb_xl --data_dir PTB_XL_FOLDER --output_dir OUT

Synthetic records on a CPU; the same on two processes:

    python examples/pretrain.py --method st_mem --recipe tiny --max_steps 200 --output_dir OUT
    torchrun --nproc_per_node 2 examples/pretrain.py --method st_mem --recipe tiny --max_steps 200 --output_dir OUT

`OUT` then holds the model with its feature extractor and card, `train_log.jsonl`, `loss_curve.png` and `checkpoints/`.
`--help` lists every option; `--resume_from_checkpoint latest` goes on where a run stopped.
"""

import sys

from ecg_transformers.cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
