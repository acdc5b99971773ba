"""`pretrain` and `finetune`: training as verbs of the installed package."""

from collections.abc import Sequence

from ecg_transformers.cli.output import Verbs
from ecg_transformers.registration import postponed

VERBS = {
    "pretrain": "Pre-train a method on a corpus without labels.",
    "finetune": "Fine-tune, probe or train a classifier from scratch, and evaluate it on the test split.",
}
EXAMPLES = {
    "pretrain": "--method st_mem --recipe tiny --dataset ptb_xl \\\n    --data_dir PTB_XL --output_dir pretrained",
    "finetune": "--model_name_or_path pretrained --dataset folder \\\n    --data_dir MY_RECORDS --output_dir tuned",
}


def add_verbs(verbs: Verbs) -> None:
    """Their names in the list; their options are shown by `ecg-transformers VERB --help`."""
    for name, text in VERBS.items():
        verbs.add_parser(name, help=text, add_help=False)


def run(verb: str, arguments: Sequence[str]) -> int:
    """Train with the options of `ecg_transformers.training.arguments`; returns the exit code."""
    from ecg_transformers.training.errors import run_command

    return run_command(lambda: {"pretrain": _pretrain, "finetune": _finetune}[verb](list(arguments)))


def _pretrain(words: list[str]) -> None:
    with postponed():
        from ecg_transformers.training.arguments import PretrainingArguments, parse_arguments

        args = parse_arguments(PretrainingArguments, VERBS["pretrain"], words, **_shown("pretrain"))
    from ecg_transformers.training.pretraining import main

    main(args)


def _finetune(words: list[str]) -> None:
    with postponed():
        from ecg_transformers.training.arguments import FinetuningArguments, parse_arguments

        args = parse_arguments(FinetuningArguments, VERBS["finetune"], words, **_shown("finetune"))
    from ecg_transformers.training.finetuning import main

    main(args)


def _shown(verb: str) -> dict[str, str]:
    command = f"ecg-transformers {verb}"
    return {"prog": command, "epilog": f"example:\n  {command} {EXAMPLES[verb]}"}
