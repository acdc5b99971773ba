"""Where the waves are: models from a pre-trained encoder and from random weights against neurokit2, on unseen subjects.

    python experiments/delineation.py --model_name_or_path PRETRAINED --data_dir LUDB_FOLDER --output_dir OUT

Trains `…ForTokenClassification` on fractions of the training subjects, from the checkpoint and from random weights of the
same config and with the same budget, and measures them and neurokit2's `dwt` and `peak` on the test subjects: F1 of
onsets and offsets within 150 ms, mean and SD of their errors, by wave and by lead, and how far rate, PR, QRS, QT and QTc
are off those of the expert's marks. neurokit2 works on the record's own signal, cleaned by itself, with R peaks that it
finds in each lead (`own R peaks`), and with those that it finds in lead II (`R peaks of II`). `OUT/table.md` holds the
tables, `OUT/results.json` all figures; a cell that is there already is not made again. What stands behind `--` goes to
every fine-tuning run.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ecg_transformers as ecg
from ecg_transformers.data.loading import RecordTable
from ecg_transformers.evaluation.delineation import LeadScore, interval_report, macro_f1, pool, report, score_record
from ecg_transformers.features.wave_labels import marked_waves
from ecg_transformers.files import write_json, write_text
from ecg_transformers.signal.beats import detect_r_peaks
from ecg_transformers.signal.classical_delineation import METHODS, neurokit_waves
from ecg_transformers.signal.wave_intervals import UNITS
from ecg_transformers.signal.waves import WAVES
from ecg_transformers.training import finetuning
from ecg_transformers.training.arguments import FinetuningArguments, parse_arguments
from ecg_transformers.training.errors import run_command

STARTS = {"pre-trained": "finetune", "random weights": "scratch"}
Rows = Sequence[Sequence[str]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, measure, print the tables."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    own, further = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    options = build_parser().parse_args(own)
    out = Path(options.output_dir)
    results: dict[str, Any] = {}
    for start in options.starts.split(","):
        for fraction in map(float, options.fractions.split(",")):
            name = f"{start}, {fraction:.0%} of the subjects"
            folder = out / "cells" / f"{STARTS[start]}-{fraction:g}"
            if not (folder / "metrics.json").is_file():
                train(options, STARTS[start], fraction, folder, further)
            results[name] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["test"]
    for name, rows in classical(options, out):
        results[name] = rows
    write_json(out / "results.json", results)
    write_text(out / "table.md", tables(results))
    print(tables(results))


def build_parser() -> argparse.ArgumentParser:
    """The options of the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--model_name_or_path", required=True, help="pre-trained encoder of a method that labels tokens"
    )
    parser.add_argument("--dataset", default="ludb", help="corpus with wave marks")
    parser.add_argument("--data_dir", required=True, help="its folder")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--fractions", default="1,0.2,0.05", help="of the training subjects")
    parser.add_argument("--starts", default=",".join(STARTS), help="pre-trained, random weights, or both")
    parser.add_argument("--leads", help="leads of all methods, e.g. II,V2,V5 (default: all)")
    parser.add_argument("--seeds", default="0")
    return parser


def train(options: argparse.Namespace, mode: str, fraction: float, folder: Path, further: Sequence[str]) -> None:
    """One fine-tuning run, by the command that anybody would give."""
    given = {"model_name_or_path": options.model_name_or_path, "mode": mode, "dataset": options.dataset}
    given |= {"data_dir": options.data_dir, "task": "delineation", "label_fraction": str(fraction)}
    given |= {"seeds": options.seeds, "output_dir": str(folder)}
    given |= {"leads": options.leads} if options.leads else {}
    words = [*(part for key, value in given.items() for part in (f"--{key}", value)), *further]
    finetuning.main(parse_arguments(FinetuningArguments, "One cell of the table.", words))


def classical(options: argparse.Namespace, out: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and figures of neurokit2's methods on the test records."""
    dataset = ecg.load_ecg_dataset(options.dataset, options.data_dir, split="test", task="delineation")
    for method in METHODS:
        for source in ("own R peaks", "R peaks of II"):
            kept = out / "cells" / f"neurokit2-{method}-{source.replace(' ', '-')}.json"
            if not kept.is_file():
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_json(kept, classical_figures(RecordTable(dataset), method, source, options.leads))
            yield f"neurokit2 {method}, {source}", json.loads(kept.read_text(encoding="utf-8"))


def classical_figures(records: RecordTable, method: str, source: str, leads: str | None = None) -> dict[str, Any]:
    """The figures of a classical method, in the form of `metrics.json`."""
    by_lead: dict[str, list[LeadScore]] = {}
    pairs = []
    for index in range(len(records)):
        record = records[index]
        rate, peaks = record.sampling_rate, None
        if source == "R peaks of II":
            peaks = detect_r_peaks(record.signal[:, record.lead_names.index("II")], rate, "neurokit")
        chosen = record.lead_names if leads is None else leads.split(",")
        columns = {lead: record.signal[:, record.lead_names.index(lead)] for lead in chosen}
        found = {lead: neurokit_waves(values, rate, method, peaks) for lead, values in columns.items()}
        marks = marked_waves(record.annotations, rate)
        pairs.append((marks, found))
        for lead, score in score_record(marks, found).items():
            by_lead.setdefault(lead, []).append(score)
    whole = pool(score for scores in by_lead.values() for score in scores)
    each = {lead: report(pool(scores)) for lead, scores in by_lead.items()}
    figures = {"macro_f1": {"mean": macro_f1(whole)}, "waves": report(whole), "leads": each}
    return figures | {"intervals": interval_report(pairs), "n_records": len(records)}


def tables(results: Mapping[str, Mapping[str, Any]]) -> str:
    """For every method F1 and errors by border and by lead, and the intervals: one figure a cell."""
    records = next(iter(results.values()))["n_records"]
    borders = [(wave, edge) for wave in WAVES for edge in ("onset", "offset")]
    head = [f"{wave} {edge}" for wave, edge in borders]
    leads = list(dict.fromkeys(lead for figures in results.values() for lead in figures["leads"]))

    def by_border(show: Callable[[Mapping[str, Any]], str]) -> Rows:
        return [
            [name, *(show(figures["waves"][wave][edge]) for wave, edge in borders)] for name, figures in results.items()
        ]

    def by_lead(show: Callable[[Mapping[str, Any]], str]) -> Rows:
        return [
            [
                name,
                f"{wave} {edge}",
                *(show(figures["leads"][lead][wave][edge]) if lead in figures["leads"] else "" for lead in leads),
            ]
            for name, figures in results.items()
            for wave, edge in borders
        ]

    def intervals(show: Callable[[Mapping[str, Any]], str]) -> Rows:
        return [[name, *(show(figures["intervals"][kind]) for kind in UNITS)] for name, figures in results.items()]

    f1 = [[name, _number(results[name]["macro_f1"]["mean"]), *cells] for name, *cells in by_border(_f1)]
    parts = [
        f"{records} unseen subjects, all leads together: F1 within 150 ms.",
        _table(["method", "macro F1", *head], f1),
        "Mean of the error in ms (below 0: too early).",
        _table(["method", *head], by_border(lambda edge: _signed(edge["mean_ms"], 0))),
        "SD of the error in ms.",
        _table(["method", *head], by_border(lambda edge: _plain(edge["sd_ms"], 0))),
        "By lead: F1.",
        _table(["method", "border", *leads], by_lead(_f1)),
        "By lead: SD of the error in ms.",
        _table(["method", "border", *leads], by_lead(lambda edge: _plain(edge["sd_ms"], 0) or "–")),
        "Rate and intervals of a record (medians over beats and leads) less those of the expert's marks: mean in ms, the "
        "rate in beats a minute.",
        _table(["method", *UNITS], intervals(lambda figures: _signed(figures["mean"], 1))),
        "SD of the same.",
        _table(["method", *UNITS], intervals(lambda figures: _plain(figures["sd"], 1))),
        "For how many records both give it.",
        _table(["method", *UNITS], intervals(lambda figures: str(figures["both"]))),
        "For how many records the marks do.",
        _table(["method", *UNITS], intervals(lambda figures: str(figures["reference"]))),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Rows) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def _f1(edge: Mapping[str, Any]) -> str:
    return _number(edge["f1"]) if edge["detected"] else ""  # the method does not give that border


def _signed(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:+.{digits}f}"


def _plain(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(run_command(main))
