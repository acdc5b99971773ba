"""How verbs answer: a table for people on a terminal, JSON lines for programs, a file where one is named."""

import argparse
import dataclasses
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Any, Literal

from ecg_transformers.files import QuietFile, replacing
from ecg_transformers.words import in_options

NOT_A_DEVICE = "Scores are for research. This is not a medical device."

LAYOUTS = """
what a file must hold (docs/file_layouts.md has an example of each):
  .hea        a WFDB header; its .dat or .mat beside it
  .npz        signal (samples x leads); sampling_rate, lead_names, units
  .npy        samples x leads; the rest by the options above
  .mat        val (leads x samples), or ECG as in CPSC 2018
  .csv .txt   a row a sample, a column a lead; names and units on top
  .edf .bdf   signals of one rate, or name the leads
  others      DICOM, HL7 aECG, Philips, MUSE, SCP-ECG, ISHNE
  labels.csv  file; label, labels (a;b) or 0/1 columns; patient_id;
              split or fold; sampling_rate"""

Verbs = Any  # argparse keeps the type of `add_subparsers()` to itself


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults are shown where there is one; the example and what stands in lines keep them, sentences are wrapped."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default else action.help


def add_verb(verbs: Verbs, name: str, text: str, example: str) -> argparse.ArgumentParser:
    """A verb with its help, defaults included, and one example below."""

    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=text, description=text, epilog=f"example:\n  ecg-transformers {example}", formatter_class=_Formatter
    )
    parser.set_defaults(parser=parser)  # its options are the words of its messages
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="JSON lines also on a terminal")


def add_signal_hints(parser: argparse.ArgumentParser) -> None:
    """What a file may not say of itself, and below the help what it may say."""
    parser.epilog = f"{parser.epilog}\n{LAYOUTS}"
    parser.add_argument("--sampling_rate", type=float, metavar="HZ", help="of files that do not state it")
    parser.add_argument("--leads", metavar="I,II,…", help="lead names of files that do not state them")
    parser.add_argument("--units", choices=("mV", "uV", "V", "nV"), help="unit of files that do not state it")


def add_corpus(parser: argparse.ArgumentParser) -> None:
    """Where a corpus lies, and its options."""
    parser.add_argument("--data_dir", metavar="DIR", help="folder of the corpus, where one is named")
    text = "option of the corpus, as `ecg-transformers datasets NAME` lists them (repeatable)"
    parser.add_argument("--option", action="append", default=[], metavar="K=V", help=text)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Where the model runs."""
    parser.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="here, or a prepared corpus on a Ray cluster"
    )


def only_prepared(words: Sequence[str]) -> str:
    """The one prepared corpus that the words name.

    Raises:
        ValueError: they name something else, which the machines of a cluster need not see.
    """
    from ecg_transformers.data.prepared import is_prepared

    if len(words) != 1 or not is_prepared(words[0]):
        raise ValueError(
            "--engine ray takes one prepared corpus: the folder or address that `ecg-transformers build` wrote to."
        )
    return words[0]


def signal_hints(options: argparse.Namespace) -> dict[str, Any]:
    """The hints that were given, under the names that readers and pipelines take."""
    leads = [name.strip() for name in options.leads.split(",")] if options.leads else None
    given = {"sampling_rate": options.sampling_rate, "lead_names": leads, "units": options.units}
    return {name: value for name, value in given.items() if value is not None}


def long_options(options: argparse.Namespace) -> dict[str, argparse.Action]:
    """The options of the verb, by the name that starts with `--`."""
    actions = getattr(getattr(options, "parser", None), "_actions", [])  # argparse has no public list of them
    return {name: action for action in actions for name in action.option_strings if name.startswith("--")}


def in_flags(options: argparse.Namespace, sentence: str) -> str:
    """A sentence of the library in the words of the verb: its options in place of arguments.

    What a corpus takes is `--option NAME=VALUE`, where the verb is about a corpus or a folder.
    """
    said = {}
    for flag, action in long_options(options).items():
        said[flag[2:]] = flag if action.nargs == 0 else f"{flag} {{}}"
    if "leads" in said:
        said["lead_names"] = said["leads"]
    for name in _corpus_options(options) if "option" in said else ():
        said.setdefault(name, f"--option {name}={{}}")
    return in_options(sentence, said)


def _corpus_options(options: argparse.Namespace) -> list[str]:
    """Names of the options of the corpus that the verb is about; of a folder of records where it names none."""
    from ecg_transformers.data.corpora import CORPORA, corpus_class

    words = [getattr(options, name, None) for name in ("name", "path")] + list(getattr(options, "records", []))
    named = next((word for word in words if word is not None), "folder")
    if named not in CORPORA and Path(named).is_file():
        return []
    fields = dataclasses.fields(corpus_class(named if named in CORPORA else "folder").options_class)
    return [*(field.name for field in fields), "max_skipped"]


def for_people(options: argparse.Namespace) -> bool:
    """Whether somebody looks at a terminal and did not ask for JSON."""
    return sys.stdout.isatty() and not options.json


def say(sentences: str) -> None:
    """Print sentences, fitted to the terminal."""
    print(textwrap.fill(sentences, shutil.get_terminal_size().columns))


def print_json(rows: Iterable[Any]) -> None:
    """One JSON object a line."""
    for row in rows:
        print(json.dumps(row, ensure_ascii=False, default=str), flush=True)


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Rows under their column names, fitted to the terminal; the first column, by which a row is called, keeps its line."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    names = list(columns or dict.fromkeys(name for row in rows for name in row))
    for name in names:
        number = all(isinstance(row.get(name), (int, float, type(None))) for row in rows)
        justify: Literal["left", "right"] = "right" if number else "left"
        table.add_column(name, justify=justify, overflow="fold", no_wrap=name == names[0])
    for row in rows:
        table.add_row(*(cell(row.get(name)) for name in names))
    Console(highlight=False, markup=False).print(table)


def cell(value: object) -> str:
    """A value as people read it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(cell, value))
    return str(value)


_TEXTS = ("file", "answer", "refused")
"""Columns of tables that hold texts; the others hold numbers."""


def write_table(rows: Sequence[Mapping[str, Any]], path: str | Path, columns: Sequence[str] | None = None) -> None:
    """A CSV or parquet file, there whole or not at all; its `columns` stand in it without any row, too.

    Raises:
        ValueError: another suffix, or a folder that does not exist.
    """
    import pandas as pd

    target = Path(path)
    check_table(target)
    frame = pd.DataFrame(list(rows), columns=list(columns) if columns else None)
    empty = [str(name) for name in frame.columns[frame.isna().all()]]  # parquet would have no type for them
    frame = frame.astype({name: "string" if name in _TEXTS else "float64" for name in empty})
    with replacing(target) as beside:
        if target.suffix == ".csv":
            frame.to_csv(beside, index=False)
        else:
            with QuietFile(beside) as file:
                frame.to_parquet(file, index=False)


def check_table(path: str | Path) -> None:
    """Refuse a table that could not be written, before any work is done for it."""
    target = Path(path)
    if target.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{target}: a table is written as .csv or .parquet.")
    if not target.absolute().parent.is_dir():
        raise ValueError(f"{target}: there is no folder {target.absolute().parent}.")


def named_files(patterns: Sequence[str]) -> Iterator[str]:
    """Paths named on the command line, by globs that the shell left alone, or on standard input (`-`)."""
    for pattern in patterns:
        if pattern == "-":
            yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        elif has_magic(pattern) and not Path(pattern).exists():
            found = sorted(glob(pattern, recursive=True))
            yield from found or [pattern]
        else:
            yield pattern


def record_files(patterns: Sequence[str]) -> list[str]:
    """Paths named on the command line, and the records of folders; a prepared corpus alone stays as it is named."""
    from ecg_transformers.data.corpora.folder.files import records_of
    from ecg_transformers.data.prepared import is_prepared

    paths = list(named_files(patterns))
    if len(paths) == 1 and is_prepared(paths[0]):
        return paths
    return [str(one) for path in paths for one in (records_of(path) if Path(path).is_dir() else [path])]


def tell_failure(options: argparse.Namespace, path: str, error: Exception) -> None:
    """Say what became of one of many inputs, and go on; with `--on_error raise` end there.

    Raises:
        ValueError: the sentence, with `--on_error raise`.
    """
    message = str(error) if path in str(error) else f"{path}: {error}"
    if options.on_error == "raise":
        raise ValueError(message) from error
    print(f"ecg-transformers {options.verb}: {in_flags(options, message)}", file=sys.stderr)


def progress(files: list[str]) -> Iterable[str]:
    """The files, with a bar on a terminal."""
    from tqdm import tqdm

    bar: Iterator[str] = iter(tqdm(files, unit=" records", disable=not sys.stderr.isatty()))
    return bar
