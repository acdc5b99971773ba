"""Verbs on corpora: `datasets`, `build`."""

import argparse
import dataclasses
from typing import Any

from ecg_transformers.cli.output import Verbs, add_json, add_verb, for_people, print_json, print_table
from ecg_transformers.words import key_value


def add_verbs(verbs: Verbs) -> None:
    text = "List the corpora and what is known of each."
    datasets = add_verb(verbs, "datasets", text, "datasets")
    add_json(datasets)
    datasets.set_defaults(run=_datasets)
    text = "Read a corpus in its native layout and write parquet shards."
    build = add_verb(verbs, "build", text, "build ptb_xl --data_dir PTB_XL --output_dir SHARDS --num_proc 4")
    build.add_argument("name", help="corpus, as `ecg-transformers datasets` lists them")
    build.add_argument("--data_dir", help="folder with the corpus")
    build.add_argument("--output_dir", required=True, help="folder for the shards")
    build.add_argument("--engine", choices=("local", "ray"), default="local", help="local is what this version has")
    build.add_argument("--shard", metavar="I/N", help="build part I of N only, counted from 0")
    build.add_argument("--num_proc", type=int, help="processes")
    build.add_argument("--option", action="append", default=[], metavar="K=V", help="builder option (repeatable)")
    add_json(build)
    build.set_defaults(run=_build)


def _datasets(options: argparse.Namespace) -> int:
    from ecg_transformers.data.loading import describe_corpora

    sheets = describe_corpora()
    if for_people(options):
        print_table([_row(sheet) for sheet in sheets])
    else:
        print_json(sheets)
    return 0


def _row(sheet: dict[str, Any]) -> dict[str, Any]:
    names = {"name": "name", "records": "records", "leads": "leads", "sampling_rates": "Hz", "labels": "labels"}
    row = {shown: sheet.get(name) for name, shown in names.items()}
    return row | {"licence": sheet.get("licence"), "ready": sheet["available"]}


def _build(options: argparse.Namespace) -> int:
    from ecg_transformers.data.building.build import build_corpus

    if options.engine == "ray":
        raise ValueError(
            "the engine ray is not available in this version; use --engine local, with --shard for machines."
        )
    report = build_corpus(
        options.name,
        options.data_dir,
        options.output_dir,
        num_proc=options.num_proc,
        shard=_shard(options.shard),
        **dict(map(key_value, options.option)),
    )
    if for_people(options):
        print(report)
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
