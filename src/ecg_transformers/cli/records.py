"""Verbs on single records: `info`, `plot`. They load neither torch nor transformers."""

import argparse
from typing import Any

from ecg_transformers.cli.output import (
    Verbs,
    add_json,
    add_signal_hints,
    add_verb,
    for_people,
    print_json,
    print_table,
    signal_hints,
)


def add_verbs(verbs: Verbs) -> None:
    info = add_verb(verbs, "info", "Describe one record: format, rate, leads, units, what is odd.", "info record.hea")
    info.add_argument("record", help="path of the record")
    add_signal_hints(info)
    add_json(info)
    info.set_defaults(run=_info)
    text = "Draw a record on ECG paper (25 mm/s, 10 mm/mV)."
    plot = add_verb(verbs, "plot", text, "plot record.hea -o record.png")
    plot.add_argument("record", help="path of the record")
    plot.add_argument("-o", "--output", required=True, help="picture to write: .png, .svg or .pdf")
    add_signal_hints(plot)
    plot.set_defaults(run=_plot)


def _info(options: argparse.Namespace) -> int:
    from ecg_transformers.data.readers import describe_record

    sheet = describe_record(options.record, **signal_hints(options))
    if for_people(options):
        print_sheet(sheet)
    else:
        print_json([sheet])
    return 0


def print_sheet(sheet: dict[str, Any]) -> None:
    """A record in sentences, its leads as a table."""
    print(f"{sheet['path']}: {sheet['format']}, record {sheet['record_id']}")
    print(
        f"{sheet['duration_s']:g} s at {sheet['sampling_rate']:g} Hz ({sheet['num_samples']:,} samples), "
        f"{len(sheet['lead_names'])} leads, in millivolts:"
    )
    print_table(sheet["leads"])
    for name, value in sheet["metadata"].items():
        print(f"{name}: {value}")
    if sheet["flags"]:
        print(f"what the reader noticed: {', '.join(sheet['flags'])}")


def _plot(options: argparse.Namespace) -> int:
    from ecg_transformers.analysis.ecg_paper import plot_ecg
    from ecg_transformers.analysis.figures import save_figure
    from ecg_transformers.data.readers import read_record

    save_figure(plot_ecg(read_record(options.record, **signal_hints(options))), options.output)
    print(options.output)
    return 0
