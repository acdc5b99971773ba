"""Pre-train any method of the package on any corpus, with the published recipe by default.

    accelerate launch examples/pretrain.py --method st_mem --dataset ptb_xl --data_dir PTB_XL_FOLDER --output_dir OUT
    python examples/pretrain.py --method st_mem --recipe tiny --max_steps 200 --output_dir OUT        # synthetic
    records, CPU torchrun --nproc_per_node 2 examples/pretrain.py …                                                #
    two CPU processes

`OUT` then holds the model with its feature extractor and card, `train_log.jsonl`, `loss_curve.png` and `checkpoints/`.
"""

import sys

from ecg_transformers.training.arguments import PretrainingArguments, parse_arguments
from ecg_transformers.training.errors import run_command
from ecg_transformers.training.pretraining import pretrain


def main() -> None:
    args = parse_arguments(PretrainingArguments, "Pre-train a method on a corpus.")
    summary = pretrain(args)
    if summary.is_main_process:
        from ecg_transformers.hub.cards import write_card

        write_card(args.output_dir)
        print(
            f"saved {summary.model_class} to {args.output_dir}; loss {summary.final['loss']:.4f} after "
            f"{summary.steps} steps"
        )


if __name__ == "__main__":
    sys.exit(run_command(main))
