"""`predict --waves` and `plot --waves`: where P, QRS and T are, and the intervals that people read off them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_transformers.cli.output import (
    NOT_A_DEVICE,
    for_people,
    print_table,
    progress,
    record_files,
    signal_hints,
    tell_failure,
    write_table,
)
from ecg_transformers.signal.wave_intervals import UNITS, WaveIntervals, shown
from ecg_transformers.signal.waves import Wave

if TYPE_CHECKING:
    from ecg_transformers.data.record import ECGRecord
    from ecg_transformers.pipelines.base import ECGPipeline

OF_CLASSES = ("top_k", "num_crops", "windows")  # options of `predict` that mean nothing for waves


def predict_waves(options: argparse.Namespace) -> int:
    """The waves and intervals of the files: a table for people and in a file, JSON lines otherwise."""
    if given := [name for name in OF_CLASSES if getattr(options, name)]:
        raise ValueError(
            f"--{given[0]} has no meaning with --waves: windows that overlap always cover the whole record."
        )
    if options.engine != "local" or options.num_proc is not None:
        raise ValueError("--waves runs here, in one process: leave out --engine and --num_proc.")
    pipeline = model_pipeline("ecg-delineation", options.model, options.device)
    print(NOT_A_DEVICE, file=sys.stderr)
    people = for_people(options) and not options.output
    rows, failed = [], 0
    for path, result in run_all(pipeline, options, record_files(options.files), intervals=True):
        if isinstance(result, Exception):
            failed += 1
            tell_failure(options, path, result)
            continue
        intervals = WaveIntervals.from_dict(result)
        if people:
            rows.append({"file": path} | {name: shown(value, name) for name, value in intervals.values.items()})
            print("".join(f"{path}: {sentence}\n" for sentence in intervals.refused), end="", file=sys.stderr)
        elif options.output:
            rows.append({"file": path} | table_row(intervals))
        else:
            print(json.dumps({"file": path, **result}, ensure_ascii=False), flush=True)
    if options.output:
        write_table(rows, options.output, ["file", *table_row(WaveIntervals())])
        print(f"{len(rows)} record{'s' * (len(rows) != 1)} written to {options.output}", file=sys.stderr)
    elif people:
        print_table(rows, ["file", *UNITS])
        print("Median ± SD over beats. QTcB: Bazett, QTcF: Fridericia.")
    return 1 if failed else 0


def run_all(
    pipeline: ECGPipeline, options: argparse.Namespace, words: list[str], **given: Any
) -> Iterator[tuple[str, Any]]:
    """Name and result of every file, or of every record of a prepared corpus."""
    from ecg_transformers.data.prepared import is_prepared

    if len(words) != 1 or not is_prepared(words[0]):
        yield from pipeline.run_many(progress(words), options.batch_size, **signal_hints(options), **given)
        return
    from ecg_transformers.data.loading import load_ecg_dataset

    splits = load_ecg_dataset(words[0], streaming=True)
    rows = (row for split in splits.values() for row in split)
    for row, result in pipeline.run_many(rows, options.batch_size, **given):
        yield row["record_id"], result


def table_row(intervals: WaveIntervals) -> dict[str, Any]:
    """Median, SD (both to hundredths) and number of beats of each interval, empty where it is refused."""
    row: dict[str, Any] = {}
    for name, unit in UNITS.items():
        key = f"{name}_{'per_min' if unit == '/min' else unit}"
        value = intervals.values.get(name)
        row |= {key: value and round(value.median, 2), f"{key}_sd": value and value.sd and round(value.sd, 2)}
        row[f"{name}_beats"] = value and value.beats
    return {**row, "refused": " ".join(intervals.refused)}


def as_waves(result: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[Wave]]:
    """The pipeline's plain data as waves."""
    return {lead: [Wave(**wave) for wave in waves] for lead, waves in result.items()}


def delineated(record: ECGRecord, model: str) -> tuple[dict[str, list[Wave]], WaveIntervals]:
    """The waves of a record by lead, as a model finds them, and its intervals."""
    result = model_pipeline("ecg-delineation", model, "cpu")(record, intervals=True)
    return as_waves(result["waves"]), WaveIntervals.from_dict(result)


def model_pipeline(task: str, model: str, device: str) -> ECGPipeline:
    """The pipeline of a fine-tuned model.

    Raises:
        ValueError: a name that is neither a model folder nor a repository of the Hub.
    """
    from transformers import pipeline

    import ecg_transformers  # noqa: F401  (registers the task)
    from ecg_transformers.hub.folders import check_model_name

    check_model_name(model)
    try:
        return pipeline(task, model=model, device=device)
    except OSError as error:
        if Path(model).is_dir():
            raise
        raise ValueError(
            f"There is no model folder {model}, and the Hub gave no model of that name: {str(error).splitlines()[0]}"
        ) from error
