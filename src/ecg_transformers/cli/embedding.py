"""The verb `embed`: one vector a record, as a table."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_transformers.cli.output import (
    Verbs,
    add_corpus,
    add_engine,
    add_json,
    add_signal_hints,
    add_verb,
    check_table,
    for_people,
    in_flags,
    named_files,
    only_prepared,
    print_json,
    signal_hints,
)
from ecg_transformers.words import key_value

if TYPE_CHECKING:
    from ecg_transformers.pipelines.embed_table import TableReport


def add_verbs(verbs: Verbs) -> None:
    text = "Embed records: one vector each, as a parquet table. An interrupted run goes on where it stopped."
    embed = add_verb(verbs, "embed", text, "embed records --model ecgfounder -o features.parquet")
    embed.add_argument(
        "records",
        nargs="+",
        metavar="FILES|FOLDER|CORPUS",
        help="record files or globs, folders, - for a list, a corpus, or the folder of a prepared one",
    )
    embed.add_argument("--model", help="name that `ecg-transformers checkpoints` lists, folder, Hub repository or file")
    embed.add_argument("-o", "--output", metavar="FILE.parquet", help="table to write")
    add_corpus(embed)
    embed.add_argument("--windows", action="store_true", help="one row a window of a record, instead of their mean")
    embed.add_argument("--batch_size", type=int, default=32, help="windows that run through the model together")
    embed.add_argument("--num_proc", type=int, help="processes that read and preprocess; on Ray, models at once")
    add_engine(embed)
    embed.add_argument("--device", help="torch device (default: the accelerator where there is one)")
    embed.add_argument(
        "--on_error",
        choices=("skip", "raise"),
        default="skip",
        help="leave out a bad record, or stop at it",
    )
    add_signal_hints(embed)
    add_json(embed)
    embed.set_defaults(run=_embed)


def _embed(options: argparse.Namespace) -> int:
    if options.model is None:
        raise ValueError("name a model with --model; `ecg-transformers checkpoints` lists the published ones.")
    if options.output is None or Path(options.output).suffix != ".parquet":
        raise ValueError("name the table to write with -o FILE.parquet.")
    check_table(options.output)
    from ecg_transformers.pipelines.embed_table import embed_to_table, named_records

    words = list(named_files(options.records))
    if options.engine == "ray":
        return _told(options, _on_ray(options, words))
    records = named_records(words, options.data_dir, **dict(map(key_value, options.option)))
    report = embed_to_table(
        records,
        options.model,
        options.output,
        windows=options.windows,
        on_error=options.on_error,
        num_proc=options.num_proc,
        batch_size=options.batch_size,
        device=options.device,
        progress=_progress,
        tell=lambda sentence: print(f"ecg-transformers embed: {in_flags(options, sentence)}", file=sys.stderr),
        **signal_hints(options),
    )
    return _told(options, report)


def _on_ray(options: argparse.Namespace, words: Sequence[str]) -> "TableReport":
    from ecg_transformers.pipelines.on_ray import embed_on_ray

    report = embed_on_ray(
        only_prepared(words),
        options.model,
        options.output,
        windows=options.windows,
        on_error=options.on_error,
        num_workers=options.num_proc,
        batch_size=options.batch_size,
        device=options.device,
    )
    for sentence in report.failed:
        print(f"ecg-transformers embed: {sentence}", file=sys.stderr)
    return report


def _told(options: argparse.Namespace, report: "TableReport") -> int:
    facts = {"output": options.output, "rows": report.rows, "kept": report.kept, "failed": len(report.failed)}
    if for_people(options):
        failed = f"; {len(report.failed)} records failed" if report.failed else ""
        print(f"{report.rows} rows written to {options.output}{failed}.")
    else:
        print_json([facts])
    return 1 if report.failed else 0


def _progress(positions: Sequence[int]) -> Iterable[int]:
    """The positions, with a bar on a terminal."""
    from tqdm import tqdm

    bar: Iterable[int] = tqdm(positions, unit=" records", disable=not sys.stderr.isatty())
    return bar
