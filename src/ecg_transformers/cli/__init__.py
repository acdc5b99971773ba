"""The command `ecg-transformers`: parses, calls one function, prints.

One module a family of verbs; every verb imports what it needs when it runs, so that `--help` answers at once.

Exit codes: 0 done, 1 some inputs failed (each is named), 2 wrong arguments or data, 130 interrupted; those of training
stand in `docs/command_line.md`.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from ecg_transformers._version import __version__
from ecg_transformers.cli import checkpoints, corpora, doctor, embedding, models, records, training
from ecg_transformers.cli.output import NOT_A_DEVICE, in_flags, long_options
from ecg_transformers.words import did_you_mean, nearest

FAMILIES = (records, embedding, checkpoints, models, corpora, training, doctor)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="ecg-transformers",
        description="ECG models for the Hugging Face ecosystem.",
        epilog=f"`ecg-transformers VERB --help` shows an example of each verb. {NOT_A_DEVICE}",
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for family in FAMILIES:
        family.add_verbs(verbs)
    parser.set_defaults(verbs=tuple(verbs.choices))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] != "doctor" and "torch" not in sys.modules:  # `doctor` says what the user's programs have
        # threads that spin while they wait take the cores from other programs; must be set before torch is loaded
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        if not sys.stderr.isatty():  # no bars of the libraries in logs
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        return _run(words)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130


def _run(words: list[str]) -> int:
    if words and words[0] in training.VERBS:  # their options are those of the dataclasses of arguments
        return training.run(words[0], words[1:])
    options = _parse(build_parser(), words)
    if options.verb is None:
        build_parser().print_help()
        return 2
    try:
        return int(options.run(options))
    except BrokenPipeError:
        return 1
    except (ValueError, OSError, ImportError) as error:
        print(f"ecg-transformers {options.verb}: {in_flags(options, _sentence(error))}", file=sys.stderr)
        return 2


def _sentence(error: Exception) -> str:
    """What an error says; one of the system (a full disk, a read-only folder) without its number."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'}: {error.strerror}."
    return str(error)


def _parse(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """The options; a verb or an option that there is not ends with the nearest one that there is, and code 2."""
    verbs = parser.get_default("verbs")
    if words and not words[0].startswith("-") and words[0] not in verbs:
        parser.error(f"there is no verb {words[0]!r}{did_you_mean(words[0], verbs)}")
    options, unknown = parser.parse_known_args(words)
    if unknown:
        close = nearest(unknown[0].split("=")[0], long_options(options)) if unknown[0].startswith("-") else None
        of_verb = getattr(options, "parser", parser)
        of_verb.error(f"unrecognized arguments: {' '.join(unknown)}{f' (did you mean {close}?)' if close else ''}")
    return options
