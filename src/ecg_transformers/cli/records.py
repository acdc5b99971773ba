"""Verbs on records: `info`, `plot`, `convert-record`. They load neither torch nor transformers."""

import argparse
import sys
from typing import Any

from ecg_transformers.cli.output import (
    Verbs,
    add_json,
    add_signal_hints,
    add_verb,
    for_people,
    named_files,
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
    text = "Write records of any readable format as WFDB, NPZ or CSV, without the patient's identity."
    convert = add_verb(verbs, "convert-record", text, "convert-record exports/*.xml -o records --to wfdb")
    convert.add_argument("files", nargs="+", metavar="FILE", help="record files or globs; - reads a list from stdin")
    convert.add_argument("-o", "--output", required=True, metavar="DIR", help="folder to write into")
    convert.add_argument("--to", choices=("wfdb", "npz", "csv"), default="wfdb", help="format to write")
    convert.add_argument("--keep_identity", action="store_true", help="write the patient's own id, name and birth date")
    add_signal_hints(convert)
    add_json(convert)
    convert.set_defaults(run=_convert_record)


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


def _convert_record(options: argparse.Namespace) -> int:
    from ecg_transformers.data.converting import convert_records

    failed = 0
    hints = {**signal_hints(options), "keep_identity": options.keep_identity}
    for result in convert_records(named_files(options.files), options.output, options.to, **hints):
        failed += result.written is None
        if result.written is None:
            print(f"ecg-transformers convert-record: {result.problem}", file=sys.stderr)
        elif for_people(options):
            print(result.written)
        else:
            print_json([{"file": result.source, "written": str(result.written)}])
    return 1 if failed else 0
