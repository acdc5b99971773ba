"""Tables of the trained ECG-SL classifiers: cost per record, saliency on the waves, attention over beats.

`ecg_sl_report.py` prints them or writes them into a card.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification

from ecg_transformers.analysis.beat_plots import abnormal_weight_ratio, attention_entropy
from ecg_transformers.analysis.saliency import WAVES, explain_record
from ecg_transformers.data.loading import RecordTable, label_names, load_ecg_dataset
from ecg_transformers.training.errors import UsageError
from ecg_transformers.training.samples.loader import collate

ABNORMAL = ("S", "V", "F")


def markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table."""
    lines = [list(map(str, head)), ["---"] * len(head), *(list(map(str, row)) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def lead_text(leads: Sequence[str]) -> str:
    """One lead by name, several by number."""
    return str(len(leads)) if len(leads) > 1 else "".join(leads)


def cost_table(options: argparse.Namespace) -> str:
    """CPU time per record: preparing one by one, forward pass one by one and in batches of 32 (one thread)."""
    torch.set_num_threads(1)
    table, _ = _test_records(options, "ptb_xl", task="superclass")
    records = [table.record(index) for index in range(min(len(table), options.num_records))]
    rows = []
    for folder, model, extractor in _models(options.model):
        beats = model.main_input_name == "beats"
        samples: list[Any] = []
        extractor.finish(extractor.prepare(records[0]))  # what is only done once does not count
        prepare = _milliseconds(lambda x=extractor, s=samples: s.extend(x.finish(x.prepare(r)) for r in records))
        named = [sample if beats else {"input_values": sample} for sample in samples]
        chunks = {size: [collate(named[at : at + size]) for at in range(0, len(named), size)] for size in (1, 32)}
        forward = {
            size: _milliseconds(lambda m=model, c=batches: [m(**batch) for batch in c], repeat=3)
            for size, batches in chunks.items()
        }
        parameters = sum(parameter.numel() for parameter in model.parameters())
        times = [prepare, forward[1], forward[32], prepare + forward[1]]
        rows.append(
            [
                folder.name,
                model.config.model_type,
                lead_text(extractor.lead_names or []),
                f"{parameters:,}",
                *(f"{value / len(records):.2f}" for value in times),
            ]
        )
    head = ["run", "model", "leads", "parameters", "prepare (ms)", "forward, one record (ms)"]
    return markdown([*head, "forward in batches of 32 (ms)", "prepare and forward, one record (ms)"], rows)


def _milliseconds(call: Callable[[], Any], repeat: int = 1) -> float:
    """CPU time of this process; the best of several."""
    times = []
    with torch.no_grad():
        for _ in range(repeat):
            started = time.process_time()
            call()
            times.append(1000 * (time.process_time() - started))
    return min(times)


def waves_table(options: argparse.Namespace) -> str:
    """Share of the saliency on P, QRS and ST-T over their share of time, mean over records; a row a class of records."""
    table, names = _test_records(options, "ptb_xl", task="superclass")
    matrix = table.label_matrix()[: options.num_records]
    rows = []
    for folder, model, extractor in _models(options.model):
        explained = [explain_record(model, extractor, table.record(index)).shares for index in range(len(matrix))]
        values = np.array([[shares[wave] for wave in (*WAVES, "rest")] for shares in explained])
        groups = {"all": np.ones(len(matrix), bool)} | {name: matrix[:, at] == 1 for at, name in enumerate(names)}
        for name, inside in groups.items():
            means = np.nanmean(values[inside], axis=0) if inside.any() else np.full(len(WAVES) + 1, np.nan)
            rows.append([folder.name, model.config.model_type, name, int(inside.sum()), *(f"{v:.2f}" for v in means)])
    return markdown(["run", "model", "records with", "number", *WAVES, "rest"], rows)


def attention_table(options: argparse.Namespace) -> str:
    """Aggregation weights on windows of MIT-BIH that hold normal and abnormal beats; beats as annotated."""
    dataset = load_ecg_dataset("mitdb", options.data_dir, window_s=10)
    rows = []
    for folder, model, extractor in _models(options.model):
        ratios: dict[str, list[float]] = {name: [] for name in ABNORMAL}
        entropies: list[float] = []
        for part in dataset.values():
            table = RecordTable(part)
            for index in range(len(table)):
                record = table.record(index)
                classes = np.asarray(record.annotations["beat_labels"]) if record.annotations else np.array([])
                present = [name for name in ABNORMAL if name in classes]
                if not present or "N" not in classes:
                    continue
                features = extractor(record, rpeaks=record.annotations["beat_samples"], return_tensors="pt")
                with torch.no_grad():
                    weights = model(**features).aggregation_weights[0].numpy()[: len(classes)]
                entropies.append(attention_entropy(weights))
                for name in present:
                    pair = (classes == name) | (classes == "N")
                    ratios[name].append(abnormal_weight_ratio(weights[pair], classes[pair] == name))
        shown = [(f"{np.mean(found):.2f}" if found else "–", len(found)) for found in ratios.values()]
        rows.append([folder.name, f"{np.nanmean(entropies):.3f}", *chain.from_iterable(shown)])
    head = chain.from_iterable((f"{name} over N", f"windows with {name}") for name in ABNORMAL)
    return markdown(["run", "entropy / log n", *head], rows)


def _test_records(options: argparse.Namespace, corpus: str, **settings: Any) -> tuple[RecordTable, list[str]]:
    dataset = load_ecg_dataset(corpus, options.data_dir, split="test", **settings)
    return RecordTable(dataset), list(label_names(dataset))


def _models(folders: Sequence[str]) -> list[tuple[Path, Any, Any]]:
    if not folders:
        raise UsageError("Name at least one classifier with --model.")
    return [
        (
            Path(folder),
            AutoModelForSequenceClassification.from_pretrained(folder).eval(),
            AutoFeatureExtractor.from_pretrained(folder),
        )
        for folder in folders
    ]
