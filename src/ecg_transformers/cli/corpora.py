"""Verbs on corpora: `datasets`, `build`, `overlap`."""

import argparse
import dataclasses
import sys

from ecg_transformers.cli.output import Verbs, add_corpus, add_json, add_verb, for_people, print_json, print_table
from ecg_transformers.words import key_value


def add_verbs(verbs: Verbs) -> None:
    text = "List the corpora, or print the fact sheet of one: what to download, which folder is expected."
    datasets = add_verb(verbs, "datasets", text, "datasets code15")
    datasets.add_argument("name", nargs="?", help="corpus (none: a table of all)")
    add_json(datasets)
    datasets.set_defaults(run=_datasets)
    text = "Read a corpus in its native layout and write parquet shards. A build that was killed goes on where it was."
    build = add_verb(verbs, "build", text, "build ptb_xl --data_dir PTB_XL --output_dir SHARDS")
    build.add_argument("name", help="corpus, as `ecg-transformers datasets` lists them")
    add_corpus(build)
    text = "folder for the shards; a path or an address (s3://…)"
    build.add_argument("--output_dir", required=True, metavar="DIR", help=text)
    build.add_argument("--engine", choices=("local", "ray"), default="local", help="processes here, or a Ray cluster")
    build.add_argument("--shard", metavar="I/N", help="only part I of N, counted from 0; all parts write to one folder")
    text = "processes (default: 1), or tasks at once on Ray (default: its processors)"
    build.add_argument("--num_proc", type=int, help=text)
    add_json(build)
    build.set_defaults(run=_build)
    text = "Find recordings that occur in both of two sets. Exit code 1 where there are some."
    overlap = add_verb(verbs, "overlap", text, "overlap cinc2021=CINC2021 ptb_xl=PTB_XL")
    overlap.add_argument("a", metavar="A", help="NAME=DIR (a corpus), a folder of records, a build or a model's folder")
    overlap.add_argument("b", metavar="B", help="the other set; what is found is counted by its splits")
    add_json(overlap)
    overlap.set_defaults(run=_overlap)


def _datasets(options: argparse.Namespace) -> int:
    from ecg_transformers.data.loading import describe_corpora
    from ecg_transformers.data.sheets import corpora_table, corpus_sheet, sheet_text

    if not for_people(options):
        print_json([corpus_sheet(options.name)] if options.name else describe_corpora())
    elif options.name:
        print(sheet_text(corpus_sheet(options.name)))
    else:
        print_table([{"Hz" if key == "sampling_rates" else key: row[key] for key in row} for row in corpora_table()])
    return 0


def _overlap(options: argparse.Namespace) -> int:
    from ecg_transformers.data.overlap import overlap

    result = overlap(options.a, options.b)
    if for_people(options):
        print(result.sentence())
        if result.pairs:
            print_table([dataclasses.asdict(pair) for pair in result.pairs[:20]])
    else:
        print_json([result.to_dict()])
    return 1 if result.pairs else 0


def _build(options: argparse.Namespace) -> int:
    from ecg_transformers.data.building.build import build_corpus

    report = build_corpus(
        options.name,
        options.data_dir,
        options.output_dir,
        num_proc=options.num_proc,
        engine=options.engine,
        progress=sys.stderr.isatty() or None,
        shard=_shard(options.shard),
        **dict(map(key_value, options.option)),
    )
    if for_people(options):
        print(report, *report.notes[-1:] if options.shard else (), sep="\n")
    else:
        print_json([dataclasses.asdict(report)])
    return 0


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    index, separator, count = text.partition("/")
    if not separator or not index.isdigit() or not count.isdigit():
        raise ValueError(f"--shard takes I/N, for example 0/4, not {text!r}.")
    return int(index), int(count)
