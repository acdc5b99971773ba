"""What can stop a training run, each with its exit code, and the one place that turns an exception into an exit code.

| code | class | meaning |
|---|---|---|
| 2 | `UsageError` (and the data errors of `ecg_transformers.data.errors`) | wrong arguments or data |
| 4 | `NonFiniteError` | loss or gradient not finite, state saved |
| 5 | `CheckpointWriteError` | a checkpoint or log could not be written, the last good one is intact |
| 6 | `OutputInUseError` | another run writes to the same folder |
| 130, 143 | `Interrupted` | SIGINT or SIGTERM, state saved |
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from inspect import signature
from pathlib import Path

from safetensors import SafetensorError

from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.words import in_options


class TrainingError(RuntimeError):
    """A run stopped for a reason that one sentence explains.

    Attributes:
        exit_code: of the command.
        is_shared: all processes of the run raise it together, so that the main one's message is enough.
    """

    exit_code = 1
    is_shared = False


class UsageError(TrainingError, ValueError):
    """Arguments, configuration or data are wrong; nothing was trained."""

    exit_code = 2


class FrozenParameterMoved(TrainingError):
    """A parameter or buffer that was declared frozen changed during training."""


class NonFiniteError(TrainingError):
    """The loss or the gradient was not finite; the state before the step was saved."""

    exit_code = 4
    is_shared = True


class CheckpointWriteError(TrainingError):
    """A checkpoint or a log could not be written (disk full, file size limit, folder not writable)."""

    exit_code = 5


class OutputInUseError(TrainingError):
    """Another run writes to the output folder."""

    exit_code = 6


class Interrupted(TrainingError):
    """The run was asked to stop by a signal; the state was saved."""

    is_shared = True

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def usage_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Turn the plain errors that wrong arguments or data cause during set-up into `UsageError`.

    Only set-up code stands inside this block: the same exceptions inside the training loop are defects and keep their
    traceback.
    """
    try:
        yield
    except TrainingError:
        raise
    except Exception as error:
        if isinstance(error, (ValueError, OSError, KeyError, NotImplementedError, *kinds)):
            raise UsageError(in_training_options(one_sentence(error))) from error
        raise


@contextmanager
def write_errors(what: str, path: Path) -> Iterator[None]:
    """Map all errors that a full disk or a file size limit causes (they differ by library) to `CheckpointWriteError`."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, TrainingError):
            raise
        raise CheckpointWriteError(
            f"Writing {what} to {path} failed ({error}); what was written before is intact, free some space and resume."
        ) from error


def one_sentence(error: BaseException) -> str:
    """The message of an exception on one line (a `KeyError` without its quotes)."""
    message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(message.split()) or type(error).__name__


def in_training_options(sentence: str) -> str:
    """A sentence of readers, corpora or extractors in the words of the two training commands."""
    said = in_options(sentence, _options())
    return re.sub(r"(--(?:dataset_options|preprocessing_overrides)) (\S+), \1 ", r"\1 \2,", said)  # one list of pairs


@cache
def _options() -> dict[str, str]:
    """What the commands call the arguments of extractors and the options of corpora.

    Imported here because the commands read their options, and refuse wrong ones, before torch is loaded.
    """
    from ecg_transformers.data.corpora import CORPORA, corpus_class
    from ecg_transformers.features.feature_extraction_beats import ECGSLFeatureExtractor
    from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor

    extractors = {name for one in (ECGFeatureExtractor, ECGSLFeatureExtractor) for name in signature(one).parameters}
    corpora = {field.name for name in CORPORA for field in fields(corpus_class(name).options_class)}
    return {
        **{name: f"--preprocessing_overrides {name}={{}}" for name in extractors},
        **{name: f"--dataset_options {name}={{}}" for name in corpora},
        "data_dir": "--data_dir {}",
    }


def run_command(main: Callable[[], None]) -> int:
    """Call `main()` and return the exit code; a foreseen error prints one sentence instead of a traceback."""
    try:
        main()
    except TrainingError as error:
        print(f"error: {error}" if error.exit_code else str(error), file=sys.stderr)
        return error.exit_code
    except ECGDataError as error:
        print(f"error: {in_training_options(one_sentence(error))}", file=sys.stderr)
        return UsageError.exit_code
    return 0
