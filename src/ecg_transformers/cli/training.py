"""`pretrain` and `finetune`: training as verbs of the installed package."""

from collections.abc import Sequence

from ecg_transformers.cli.output import Verbs

VERBS = {
    "pretrain": "Pre-train a method on a corpus without labels.",
    "finetune": "Fine-tune, probe or train a classifier from scratch, and evaluate it on the test split.",
}
EXAMPLES = {
    "pretrain": "--method st_mem --recipe tiny --dataset ptb_xl --data_dir PTB_XL --output_dir pretrained",
    "finetune": "--model_name_or_path pretrained --dataset folder --data_dir MY_RECORDS --output_dir tuned",
}


def add_verbs(verbs: Verbs) -> None:
    """Their names in the list; their options are shown by `ecg-transformers VERB --help`."""
    for name, text in VERBS.items():
        verbs.add_parser(name, help=text, add_help=False)


def run(verb: str, arguments: Sequence[str]) -> int:
    """Train with the options of `ecg_transformers.training.arguments`; returns the exit code."""
    from ecg_transformers.training import finetuning, pretraining
    from ecg_transformers.training.errors import run_command

    train = {"pretrain": pretraining.main, "finetune": finetuning.main}[verb]
    command = f"ecg-transformers {verb}"
    shown = {"prog": command, "epilog": f"example: {command} {EXAMPLES[verb]}"}
    return run_command(lambda: train(list(arguments), **shown))
