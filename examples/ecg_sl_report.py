"""Tables of the ECG-SL runs, written between the markers of a card.

    python examples/ecg_sl_report.py runs RUN RUN … [--card CARD --table NAME]
    python examples/ecg_sl_report.py segmentation RUN RUN …
    python examples/ecg_sl_report.py cost --model DIR --model DIR --data_dir PTB_XL
    python examples/ecg_sl_report.py waves --model DIR --model DIR --data_dir PTB_XL
    python examples/ecg_sl_report.py attention --model DIR --data_dir MITDB
    python examples/ecg_sl_report.py beat_saliency --model DIR --record RECORD -o PICTURE

`runs` and `segmentation` read the `metrics.json` of `ecg_sl_tasks.py` and of the common fine-tuning. `cost` measures CPU
time per record of preparing and of the forward pass. `waves` says how much of the saliency falls on P, QRS and ST-T, per
class; `attention` how much weight the aggregation gives to abnormal beats; `beat_saliency` draws the median beat of a
record and the saliency over it. A table goes between `<!-- NAME -->` and
`<!-- end of NAME -->`; without `--card` it is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.analysis.beat_plots import abnormal_weight_ratio, attention_entropy, plot_beat_saliency
from ecg_transformers.analysis.figures import save_figure
from ecg_transformers.analysis.saliency import WAVES, explain_record
from ecg_transformers.data.loading import RecordTable, label_names, load_ecg_dataset
from ecg_transformers.data.readers import read_record
from ecg_transformers.training.errors import UsageError, run_command
from ecg_transformers.training.views import collate

ABNORMAL = ("S", "V", "F")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Tables of the ECG-SL runs.")
    parser.add_argument("table_kind", choices=list(TABLES), metavar="KIND", help=", ".join(TABLES))
    parser.add_argument("folders", nargs="*", help="folders of runs")
    parser.add_argument("--model", action="append", default=[], help="folder of a classifier")
    parser.add_argument("--data_dir", help="PTB-XL, or MIT-BIH for the attention table")
    parser.add_argument("--num_records", type=int, default=200, help="test records that are looked at, at most")
    parser.add_argument("--record", help="path of the record to draw")
    parser.add_argument("-o", "--output", help="picture to write")
    parser.add_argument("--card", help="file whose marked part is replaced")
    parser.add_argument("--table", help="name of the marker (default: KIND)")
    options = parser.parse_args(arguments)
    text = TABLES[options.table_kind](options)
    if options.card is None:
        print(text)
    else:
        fill(Path(options.card), options.table or options.table_kind, text)


def fill(card: Path, name: str, text: str) -> None:
    """Replace what stands between the markers of a table."""
    before, start, rest = card.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    if not start or not end:
        raise UsageError(f"{card} has no markers <!-- {name} --> and <!-- end of {name} -->.")
    card.write_text(before + start + text + "\n" + end + after, encoding="utf-8")


def markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table."""
    lines = [list(map(str, head)), ["---"] * len(head), *(list(map(str, row)) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# ------------------------------------------------------------------------------------------------- tables of the runs


def runs_table(options: argparse.Namespace) -> str:
    """One row a run: what was trained, and the figures on the held-out records."""
    head = ["run", "pre-training", "leads", "beats to record", "seeds", "macro F1", "macro AUROC", "accuracy"]
    head += ["sensitivity", "specificity", "F1 per class", "CPU s"]
    rows = []
    for folder, metrics in _metrics(options.folders):
        test, variant = metrics["test"], metrics.get("ecg_sl", {})
        classes = ", ".join(f"{name} {entry['f1']['mean']:.2f}" for name, entry in test["per_class"].items())
        leads = variant.get("leads", metrics.get("leads", []))
        level = "(each beat)" if variant.get("task") == "mitdb_beats" else variant.get("aggregation", "–")
        cpu = variant.get("cpu_seconds", {}).get("task")
        names = ("macro_sensitivity", "macro_specificity")
        rows.append(
            [
                folder.name,
                variant.get("pretraining", "–"),
                len(leads) if len(leads) > 1 else "".join(leads),
                level,
                len(test["macro_f1"]["per_seed"]),
                _interval(test["macro_f1"]),
                _interval(test["macro_auroc"]),
                f"{test['accuracy']['mean']:.3f}",
                *(f"{test[name]['mean']:.3f}" for name in names),
                classes,
                "–" if cpu is None else f"{cpu:.0f}",
            ]
        )
    return markdown(head, rows)


def segmentation_table(options: argparse.Namespace) -> str:
    """One row a segmentation of the test records, one column pair a run."""
    found = [
        (folder, metrics, metrics.get("ecg_sl", {}).get("segmentation", {}))
        for folder, metrics in _metrics(options.folders)
    ]
    head = ["segmentation of the test"] + [f"{folder.name}: macro F1" for folder, _, _ in found]
    rows = [["clean", *(f"{metrics['test']['macro_f1']['mean']:.3f}" for _, metrics, _ in found)]]
    for name in dict.fromkeys(name for _, _, entries in found for name in entries):
        rows.append(
            [name, *(f"{entries[name]['macro_f1']['mean']:.3f}" if name in entries else "–" for _, _, entries in found)]
        )
    return markdown(head, rows)


def _interval(entry: dict[str, Any]) -> str:
    """Mean over seeds, their spread, and the interval over patients."""
    text = f"{entry['mean']:.3f}"
    if entry.get("sd") is not None:
        text += f" ± {entry['sd']:.3f}"
    low, high = entry.get("ci95") or (None, None)
    return text if low is None or high is None else f"{text} [{low:.3f}, {high:.3f}]"


def _metrics(folders: Sequence[str]) -> list[tuple[Path, dict[str, Any]]]:
    if not folders:
        raise UsageError("Name the folders of the runs.")
    paths = [Path(folder) for folder in folders]
    missing = [path for path in paths if not (path / "metrics.json").is_file()]
    if missing:
        raise UsageError(f"{missing[0]} holds no metrics.json.")
    return [(path, json.loads((path / "metrics.json").read_text(encoding="utf-8"))) for path in paths]


# ----------------------------------------------------------------------------------------------- tables of the models


def cost_table(options: argparse.Namespace) -> str:
    """CPU time per record: preparing one by one, forward pass one by one and in batches of 32 (one thread)."""
    import torch

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
        leads = list(extractor.lead_names or [])
        rows.append(
            [
                folder.name,
                model.config.model_type,
                len(leads) if len(leads) > 1 else "".join(leads),
                f"{parameters:,}",
                *(f"{value / len(records):.2f}" for value in times),
            ]
        )
    head = ["run", "model", "leads", "parameters", "prepare (ms)", "forward, one record (ms)"]
    return markdown([*head, "forward in batches of 32 (ms)", "prepare and forward, one record (ms)"], rows)


def _milliseconds(call: Callable[[], Any], repeat: int = 1) -> float:
    """CPU time of this process; the best of several."""
    import torch

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
    import torch

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
        shown = [f"{np.mean(found):.2f} ({len(found)})" if found else "–" for found in ratios.values()]
        rows.append([folder.name, f"{np.nanmean(entropies):.3f}", *shown])
    return markdown(["run", "entropy / log n", *(f"{name} over N (windows)" for name in ABNORMAL)], rows)


def beat_saliency(options: argparse.Namespace) -> str:
    """The median beat of a record with the saliency over it, as a picture."""
    if options.record is None or options.output is None:
        raise UsageError("beat_saliency needs --record and --output.")
    _, model, extractor = _models(options.model)[0]
    save_figure(plot_beat_saliency(read_record(options.record), model, extractor), options.output)
    return f"wrote {options.output}"


def _test_records(options: argparse.Namespace, corpus: str, **settings: Any) -> tuple[RecordTable, list[str]]:
    dataset = load_ecg_dataset(corpus, options.data_dir, split="test", **settings)
    return RecordTable(dataset), list(label_names(dataset))


def _models(folders: Sequence[str]) -> list[tuple[Path, Any, Any]]:
    from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification

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


TABLES: dict[str, Callable[[argparse.Namespace], str]] = {
    "runs": runs_table,
    "segmentation": segmentation_table,
    "cost": cost_table,
    "waves": waves_table,
    "attention": attention_table,
    "beat_saliency": beat_saliency,
}


if __name__ == "__main__":
    sys.exit(run_command(main))
