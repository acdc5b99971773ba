"""The overlap flag: whether a training set holds test records of an evaluation, by the content of the recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ecg_transformers.data.content import ContentFingerprints, content_fingerprints
from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.data.overlap import FINGERPRINTS, compare, fingerprints_of
from ecg_transformers.training.errors import usage_errors
from ecg_transformers.training.process.start import say
from ecg_transformers.training.samples.splits import Split


def split_fingerprints(split: Split) -> ContentFingerprints:
    """The fingerprints of a split as `load_split` gives it."""
    records: Any = getattr(split.records, "dataset", split.records)
    return content_fingerprints(records, split.name)


def evaluation_fingerprints(texts: str | None) -> dict[str, ContentFingerprints]:
    """The test records of evaluations (all records where a set has no test part), by what they were called.

    Raises:
        UsageError: no such corpus or folder.
    """
    found = {}
    for text in filter(None, (part.strip() for part in (texts or "").split(","))):
        with usage_errors(ECGDataError):
            prints = fingerprints_of(text)
        name = text.partition("=")[0] if "=" in text else Path(text).name
        has_test = "test" in prints.splits
        found[f"{name}, test part" if has_test else name] = prints.select("test") if has_test else prints
    return found


def overlap_flags(training: ContentFingerprints, evaluations: dict[str, ContentFingerprints]) -> list[dict[str, Any]]:
    """For each evaluation how many of its records the training set holds: a sentence for the log, and plain data for the card."""
    flags = []
    for name, prints in evaluations.items():
        result = compare(training, prints, "the training set", name)
        examples = [f"{pair.record_b} = {pair.source_a} {pair.record_a}" for pair in result.pairs[:5]]
        flags.append(
            {
                "evaluation": name,
                "records": len(prints),
                "found": result.found(),
                "sentence": result.sentence(),
                "examples": examples,
            }
        )
    return flags


def say_flags(flags: list[dict[str, Any]]) -> None:
    """The sentences of the flags, one a line."""
    for flag in flags:
        say(flag["sentence"])


def pretraining_fingerprints(model: str) -> ContentFingerprints | None:
    """What a model was pre-trained on, where its folder tells."""
    path = Path(model) / FINGERPRINTS
    return ContentFingerprints.load(path) if path.is_file() else None
