"""Verbs on records: `info`, `plot`, `convert-record`. They load neither torch nor transformers."""

import argparse
import contextlib
import dataclasses
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from ecg_transformers.cli.output import (
    Verbs,
    add_corpus,
    add_json,
    add_signal_hints,
    add_verb,
    for_people,
    in_flags,
    print_json,
    print_table,
    record_files,
    signal_hints,
)
from ecg_transformers.words import key_value

_MOST_SHOWN = 100


def add_verbs(verbs: Verbs) -> None:
    _add_check(verbs)
    info = add_verb(verbs, "info", "Describe one record: format, rate, leads, units, what is odd.", "info record.hea")
    info.add_argument("record", help="path of the record")
    add_signal_hints(info)
    add_json(info)
    info.set_defaults(run=_info)
    text = "Draw a record on ECG paper (25 mm/s, 10 mm/mV)."
    plot = add_verb(verbs, "plot", text, "plot record.hea -o record.png")
    plot.add_argument("record", help="path of the record")
    plot.add_argument("-o", "--output", required=True, help="picture to write: .png, .svg or .pdf")
    plot.add_argument("--waves", metavar="MODEL", help="draw P, QRS and T as this delineating model finds them")
    add_signal_hints(plot)
    plot.set_defaults(run=_plot)
    text = "Write records of any readable format as WFDB, NPZ or CSV, without the patient's identity."
    convert = add_verb(verbs, "convert-record", text, "convert-record exports/*.xml -o records --to wfdb")
    convert.add_argument(
        "files", nargs="+", metavar="FILE", help="record files, globs or folders; - reads a list from stdin"
    )
    convert.add_argument("-o", "--output", required=True, metavar="DIR", help="folder to write into")
    convert.add_argument("--to", choices=("wfdb", "npz", "csv"), default="wfdb", help="format to write")
    convert.add_argument(
        "--gaps",
        choices=("nan", "split"),
        default="nan",
        help="gaps of EDF+D: missing values, or a record of each part",
    )
    convert.add_argument("--start", type=int, metavar="N", help="first sample to write, counted from 0")
    convert.add_argument("--stop", type=int, metavar="N", help="sample to end before")
    convert.add_argument("--keep_identity", action="store_true", help="write the patient's own id, name and birth date")
    add_signal_hints(convert)
    add_json(convert)
    convert.set_defaults(run=_convert_record)


def _add_check(verbs: Verbs) -> None:
    text = "Every problem of a record, a folder or a corpus at once, each with what to do."
    check = add_verb(verbs, "check", text, "check my_records --method st_mem")
    check.add_argument("path", metavar="PATH", help="record, folder (with or without labels.csv), or name of a corpus")
    check.add_argument("--method", metavar="NAME", help="leads and length that this method needs are errors")
    check.add_argument("--recipe", metavar="NAME", help="the recipe of the method, which may take shorter crops")
    add_corpus(check)
    add_signal_hints(check)
    add_json(check)
    check.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ecg_transformers.features.checking import check

    with tqdm(unit=" records", disable=not sys.stderr.isatty(), leave=False) as bar:
        report = check(
            options.path,
            options.data_dir,
            method=options.method,
            recipe=options.recipe,
            progress=bar.update,
            **signal_hints(options),
            **dict(map(key_value, options.option)),
        )
    report.problems = [
        dataclasses.replace(problem, sentence=in_flags(options, problem.sentence)) for problem in report.problems
    ]
    if for_people(options):
        print(report)
    else:
        print_json(report.to_rows())
    return 0 if report.ok else 1


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
        if value not in (None, "", [], {}):
            print(f"{name}: {_in_short(value) if isinstance(value, list) else value}")
    if sheet["flags"]:
        print(f"what the reader noticed: {', '.join(sheet['flags'])}")


def _in_short(values: list[Any]) -> str:
    """The first values of a list, and how many there are: a recording may have a gap behind each second of a day."""
    rest = f"; … ({len(values):,} in all)" if len(values) > _MOST_SHOWN else ""
    return "; ".join(map(str, values[:_MOST_SHOWN])) + rest


def _plot(options: argparse.Namespace) -> int:
    from ecg_transformers.analysis.ecg_paper import plot_ecg
    from ecg_transformers.analysis.figures import save_figure
    from ecg_transformers.data.readers import read_record

    record, waves, intervals = read_record(options.record, **signal_hints(options)), None, None
    if options.waves:
        from ecg_transformers.cli.waves import delineated  # torch and transformers, for this option alone

        waves, intervals = delineated(record, options.waves)
    save_figure(plot_ecg(record, waves=waves, intervals=intervals), options.output)
    print(options.output)
    return 0


def _convert_record(options: argparse.Namespace) -> int:
    from ecg_transformers.data.converting import convert_records

    failed = 0
    hints = {name: getattr(options, name) for name in ("keep_identity", "start", "stop")}
    hints |= signal_hints(options)
    with _sigterm_as_exit():
        for result in convert_records(record_files(options.files), options.output, options.to, options.gaps, **hints):
            failed += result.written is None
            if result.written is None:
                print(f"ecg-transformers convert-record: {in_flags(options, result.problem)}", file=sys.stderr)
            elif for_people(options):
                print(result.written)
            else:
                print_json([{"file": result.source, "written": str(result.written)}])
    return 1 if failed else 0


@contextlib.contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that what is half written is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
