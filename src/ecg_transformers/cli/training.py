"""`pretrain` and `finetune`: the two example scripts as verbs of the installed package."""

import argparse
import sys
from collections.abc import Sequence

from ecg_transformers.cli.output import Verbs

VERBS = {
    "pretrain": "Pre-train a method on a corpus without labels.",
    "finetune": "Fine-tune, probe or train a classifier from scratch, and evaluate it on the test split.",
}


def add_verbs(verbs: Verbs) -> None:
    """Their names in the list; their options are shown by `ecg-transformers VERB --help`."""
    for name, text in VERBS.items():
        verbs.add_parser(name, help=text, add_help=False, formatter_class=argparse.RawDescriptionHelpFormatter)


def run(verb: str, arguments: Sequence[str]) -> int:
    """Train with the options of `ecg_transformers.training.arguments`; returns the exit code."""
    from ecg_transformers.training.errors import run_command

    return run_command(lambda: (_pretrain if verb == "pretrain" else _finetune)(list(arguments)))


def _shown(example: str) -> dict[str, str]:
    return {"prog": f"ecg-transformers {example.split()[0]}", "epilog": f"example: ecg-transformers {example}"}


def _pretrain(arguments: list[str]) -> None:
    from ecg_transformers.hub.cards import write_card
    from ecg_transformers.training.arguments import PretrainingArguments, parse_arguments
    from ecg_transformers.training.pretraining import pretrain

    example = "pretrain --method st_mem --recipe tiny --dataset ptb_xl --data_dir PTB_XL --output_dir pretrained"
    args = parse_arguments(PretrainingArguments, VERBS["pretrain"], arguments, **_shown(example))
    summary = pretrain(args)
    if summary.is_main_process:
        write_card(args.output_dir)
        loss = f"loss {summary.final['loss']:.4f} after {summary.steps} steps"
        print(f"saved {summary.model_class} to {args.output_dir}; {loss}", file=sys.stdout)


def _finetune(arguments: list[str]) -> None:
    from ecg_transformers.hub.cards import write_card
    from ecg_transformers.training.arguments import FinetuningArguments, parse_arguments
    from ecg_transformers.training.finetuning import finetune

    example = "finetune --model_name_or_path pretrained --dataset folder --data_dir MY_RECORDS --output_dir tuned"
    args = parse_arguments(FinetuningArguments, VERBS["finetune"], arguments, **_shown(example))
    summary = finetune(args)
    if summary.is_main_process:
        write_card(args.output_dir)
        auroc = summary.metrics["test"]["macro_auroc"]
        shown = "undefined" if auroc["mean"] is None else f"{auroc['mean']:.3f}, 95 % interval {auroc['ci95']}"
        print(f"saved {summary.model_class} to {args.output_dir}; test macro AUROC {shown}")
