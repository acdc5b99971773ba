"""Figures and predictions of a delineating run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.evaluation.delineation import (
    EDGES,
    TOLERANCE_S,
    LeadScore,
    interval_report,
    macro_f1,
    pool,
    report,
    score_record,
    wave_f1,
)
from ecg_transformers.evaluation.statistics import cluster_index, percentile_interval, resample_weights
from ecg_transformers.files import QuietFile, replacing
from ecg_transformers.signal.waves import WAVES, Wave
from ecg_transformers.training.errors import write_errors
from ecg_transformers.training.samples.splits import Split

Delineation = Sequence[Mapping[str, Sequence[Wave]]]


def metrics_of_seeds(
    split: Split, marks: Delineation, answers: Mapping[int, Delineation], n_boot: int
) -> dict[str, Any]:
    """F1 of every wave and their mean, by seed, with the patient bootstrap's 95 % interval; and every edge's errors.

    `intervals` holds what people read off, PR to QTc, against the expert's marks; all seeds together.

    Args:
        marks: the expert's waves, by record and lead.
        answers: seed -> the model's.
    """
    scores = {seed: [score_record(*pair) for pair in zip(marks, found, strict=True)] for seed, found in answers.items()}
    by_record = {seed: [pool(record.values()) for record in records] for seed, records in scores.items()}
    result: dict[str, Any] = {}
    for name in ("macro_f1", *(f"f1_{wave}" for wave in WAVES)):
        values = [_figure(pool(records), name) for records in by_record.values()]
        result[name] = _over_seeds(values) | {"ci95": _interval(split, list(by_record.values()), name, n_boot)}
    result["waves"] = report(pool(score for records in by_record.values() for score in records))
    leads = list(dict.fromkeys(lead for records in scores.values() for record in records for lead in record))
    result["leads"] = {
        lead: report(pool(record[lead] for records in scores.values() for record in records if lead in record))
        for lead in leads
    }
    result["intervals"] = interval_report(pair for found in answers.values() for pair in zip(marks, found, strict=True))
    return {**result, "tolerance_ms": 1000 * TOLERANCE_S, "n_records": len(split), "n_boot": n_boot}


def _figure(score: LeadScore, name: str) -> float | None:
    return macro_f1(score) if name == "macro_f1" else wave_f1(score)[name.removeprefix("f1_")]


def _over_seeds(values: list[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    complete = len(known) == len(values)
    return {
        "per_seed": values,
        "mean": float(np.mean(known)) if complete else None,
        "sd": float(np.std(known, ddof=1)) if complete and len(known) > 1 else None,
    }


def _interval(split: Split, seeds: list[list[LeadScore]], name: str, n_boot: int) -> list[float | None] | None:
    """Percentile interval of the figure's mean over seeds, patients drawn with replacement."""
    clusters, _ = cluster_index(split.patient_ids, len(split))
    weights = resample_weights(clusters, n_boot, np.random.default_rng(0))  # (n_boot, records)
    waves = WAVES if name == "macro_f1" else (name.removeprefix("f1_"),)
    draws = []
    for records in seeds:
        parts = []
        for wave in waves:
            counts = np.array([_counts(record, wave) for record in records], dtype=np.float64)  # (records, 2)
            found, total = (weights @ counts).T
            parts.append(np.where(total > 0, 2 * found / np.maximum(total, 1), np.nan))
        draws.append(np.mean(parts, axis=0))
    values = np.mean(draws, axis=0)
    values = values[np.isfinite(values)]
    return [float(bound) for bound in percentile_interval(values)] if len(values) else None


def _counts(score: LeadScore, wave: str) -> tuple[int, int]:
    edges = [score[wave, edge] for edge in EDGES]
    found = sum(len(edge.errors_ms) for edge in edges)
    return found, sum(edge.num_reference + edge.num_detected for edge in edges)


def write_waves(path: Path, split: Split, marks: Delineation, answers: Mapping[int, Delineation]) -> None:
    """`predictions.parquet`: one row a wave, of the expert (`seed` null) and of the model of every seed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for seed, delineation in ((None, marks), *answers.items()):
        for index, leads in enumerate(delineation):
            patient = split.patient_ids[index]
            ids = {"record_id": split.record_ids[index], "patient_id": None if patient is None else str(patient)}
            rows += [
                {**ids, "seed": seed, "lead": lead, **wave.to_dict()} for lead, waves in leads.items() for wave in waves
            ]
    kinds = {"record_id": pa.string(), "patient_id": pa.string(), "seed": pa.int64(), "lead": pa.string()}
    kinds |= {"wave": pa.string(), "onset_s": pa.float64(), "peak_s": pa.float64(), "offset_s": pa.float64()}
    with write_errors("the predictions", path), replacing(path) as beside, QuietFile(beside) as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(kinds)), file)
