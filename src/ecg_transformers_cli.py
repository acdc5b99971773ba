"""The command `ecg-transformers`: parses, calls one function, prints.

It stands beside the package and not in it, because importing the package registers its classes with transformers, which
takes seconds: `ecg-transformers --help` must not wait for that. Every command imports what it needs when it runs.

Exit codes: 0 done, 1 some inputs failed (each is named), 2 wrong arguments or data, 130 interrupted.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

NOT_A_DEVICE = "Scores are for research. This is not a medical device."


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="ecg-transformers", description="ECG models for the Hugging Face ecosystem.", epilog=NOT_A_DEVICE
    )
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, text: str, **options: Any) -> argparse.ArgumentParser:
        formatter = argparse.ArgumentDefaultsHelpFormatter
        return commands.add_parser(name, help=text, description=text, formatter_class=formatter, **options)

    convert = command("convert", "Turn an official checkpoint into a folder that AutoModel loads.")
    convert.add_argument("method", help="name of the method, as `ecg-transformers methods` lists them")
    convert.add_argument("file", help="official checkpoint (.pth, .pt, .safetensors); read without executing anything")
    convert.add_argument("output_dir", help="new folder for model, preprocessor and card")
    convert.add_argument("--config", default="", metavar="K=V,…", help="config fields that the tensors cannot tell")

    predict = command("predict", "Print class probabilities of records as JSON lines. " + NOT_A_DEVICE)
    predict.add_argument("files", nargs="+", metavar="FILE", help="record files or globs; - reads a list from stdin")
    predict.add_argument("--model", required=True, help="folder or Hub name of a classification model")
    predict.add_argument("--top_k", type=int, default=None, help="only the best k classes")
    predict.add_argument("--num_crops", type=int, default=None, help="crops of a record (default: by its length)")
    predict.add_argument("--sampling_rate", type=float, default=None, help="in Hz, for files that do not state it")
    predict.add_argument("--leads", default=None, help="lead names of files that do not state them, comma-separated")
    predict.add_argument("--units", default=None, help="unit of files that do not state it: mV, uV or V")

    methods = command("methods", "List the methods of the package.")
    methods.add_argument("--markdown", action="store_true", help="as the table of the README")
    datasets = command("datasets", "List the corpora, or print the fact sheet of one: what to download, which folder.")
    datasets.add_argument("name", nargs="?", help="corpus (default: a table of all)")
    datasets.add_argument("--json", action="store_true", help="JSON lines instead of text")
    overlap = command("overlap", "Find recordings that occur in both of two sets. Exit code 1 where there are some.")
    overlap.add_argument("a", metavar="A", help="NAME=DIR (a corpus), a folder of records, or a prepared build")
    overlap.add_argument("b", metavar="B", help="the other set; its records are counted by split")
    overlap.add_argument("--json", action="store_true", help="all pairs as JSON")
    build = command("build", "Read a corpus in its native layout and write parquet shards.")
    build.add_argument("name", help="corpus, as `ecg-transformers datasets` lists them")
    build.add_argument("--data_dir", default=None, help="folder with the corpus")
    build.add_argument("--output_dir", required=True, help="folder for the shards")
    build.add_argument("--engine", choices=("local", "ray"), default="local", help="local is what this version has")
    build.add_argument("--shard", default=None, metavar="I/N", help="build part I of N only, counted from 0")
    build.add_argument("--num_proc", type=int, default=None, help="processes")
    build.add_argument("--option", action="append", default=[], metavar="K=V", help="builder option (repeatable)")

    info = command("info", "Describe one record: format, rate, leads, units, what is odd.")
    info.add_argument("record", help="path of the record")
    plot = command("plot", "Draw a record on ECG paper (25 mm/s, 10 mm/mV).")
    plot.add_argument("record", help="path of the record")
    plot.add_argument("-o", "--output", required=True, help="PNG to write")
    export = command("export", "Write the encoder as a graph that runs without this package.")
    export.add_argument("model", help="folder or Hub name of a model")
    export.add_argument("output", help="file to write")
    export.add_argument("--format", choices=("pt2", "onnx"), default="pt2", help="torch.export archive, or ONNX")
    command("doctor", "Print versions, devices and folders: what to paste into a bug report.")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.version:
        from importlib.metadata import version

        print(version("ecg_transformers"))
        return 0
    if options.command is None:
        parser.print_help()
        return 2
    try:
        return int(COMMANDS[options.command](options))
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError) as error:
        print(f"ecg-transformers {options.command}: {error}", file=sys.stderr)
        return 2


def _assignments(texts: Sequence[str]) -> dict[str, Any]:
    """`k=v` texts into a dictionary; values are read as JSON where they are JSON, else as text."""
    values: dict[str, Any] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"{text!r} is not of the form KEY=VALUE.")
        try:
            values[key.strip()] = json.loads(value)
        except json.JSONDecodeError:
            values[key.strip()] = {"True": True, "False": False, "None": None}.get(value, value)
    return values


def _convert(options: argparse.Namespace) -> int:
    from ecg_transformers.hub.folders import convert_to_folder
    from ecg_transformers.training.arguments import parse_overrides

    overrides = parse_overrides(options.config, "config")
    model = convert_to_folder(options.method, options.file, options.output_dir, **overrides)
    print(f"{type(model).__name__} with {model.num_parameters():,} parameters written to {options.output_dir}")
    return 0


def _files(patterns: Sequence[str]) -> Iterator[str]:
    """Paths named on the command line, by globs that the shell left alone, or on stdin."""
    from glob import glob, has_magic

    for pattern in patterns:
        if pattern == "-":
            yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        elif has_magic(pattern) and not Path(pattern).exists():
            found = sorted(glob(pattern, recursive=True))
            yield from found or [pattern]
        else:
            yield pattern


def _predict(options: argparse.Namespace) -> int:
    from transformers import pipeline

    import ecg_transformers  # noqa: F401  (registers the task)

    classify = pipeline("ecg-classification", model=options.model)
    leads = options.leads.split(",") if options.leads else None
    print(NOT_A_DEVICE, file=sys.stderr)
    failed = 0
    for path in _files(options.files):
        try:
            scores = classify(
                path,
                sampling_rate=options.sampling_rate,
                lead_names=leads,
                units=options.units,
                num_crops=options.num_crops,
                top_k=options.top_k,
            )
        except (ValueError, OSError, ImportError) as error:
            failed += 1
            message = str(error) if path in str(error) else f"{path}: {error}"
            print(f"ecg-transformers predict: {message}", file=sys.stderr)
            continue
        print(json.dumps({"file": path, "predictions": scores}, ensure_ascii=False), flush=True)
    return 1 if failed else 0


def _methods(options: argparse.Namespace) -> int:
    from ecg_transformers.models.registry import get_method, list_methods, method_table

    if options.markdown:
        print(method_table())
        return 0
    for name in list_methods():
        method = get_method(name)
        print(f"{name:12}  {method.title:10}  {method.summary}")
    return 0


def _datasets(options: argparse.Namespace) -> int:
    from ecg_transformers.data.loading import describe_corpora
    from ecg_transformers.data.sheets import corpora_table, corpus_sheet, sheet_text, table_text

    if options.json or not sys.stdout.isatty():
        for sheet in [corpus_sheet(options.name)] if options.name else describe_corpora():
            print(json.dumps(sheet, ensure_ascii=False, default=str))
    else:
        print(sheet_text(corpus_sheet(options.name)) if options.name else table_text(corpora_table()))
    return 0


def _overlap(options: argparse.Namespace) -> int:
    from ecg_transformers.data.overlap import overlap

    result = overlap(options.a, options.b)
    if options.json:
        print(json.dumps(result.to_dict(), ensure_ascii=False))
        return 1 if result.pairs else 0
    print(result.sentence())
    for pair in result.pairs[:20]:
        print(f"  {pair.record_b} ({pair.split_b or 'all'}) = {pair.record_a} ({pair.split_a or 'all'})")
    if len(result.pairs) > 20:
        print(f"  … {len(result.pairs) - 20} more (--json prints all)")
    return 1 if result.pairs else 0


def _build(options: argparse.Namespace) -> int:
    from ecg_transformers.data.building.build import build_corpus

    if options.engine == "ray":
        raise ValueError(
            "the engine ray is not available in this version; use --engine local, with --shard for machines."
        )
    shard = None
    if options.shard is not None:
        index, separator, count = options.shard.partition("/")
        if not separator or not index.isdigit() or not count.isdigit():
            raise ValueError(f"--shard takes I/N, for example 0/4, not {options.shard!r}.")
        shard = (int(index), int(count))
    report = build_corpus(
        options.name,
        options.data_dir,
        options.output_dir,
        num_proc=options.num_proc,
        shard=shard,
        **_assignments(options.option),
    )
    print(report)
    return 0


def _info(options: argparse.Namespace) -> int:
    from ecg_transformers.data.readers import describe_record

    print(json.dumps(describe_record(options.record), indent=2, ensure_ascii=False, default=str))
    return 0


def _plot(options: argparse.Namespace) -> int:
    from ecg_transformers.analysis.plots import plot_ecg, save_figure
    from ecg_transformers.data.readers import read_record

    save_figure(plot_ecg(read_record(options.record)), options.output)
    print(options.output)
    return 0


def _export(options: argparse.Namespace) -> int:
    from ecg_transformers.hub.export import export_encoder

    print(export_encoder(options.model, options.output, options.format))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    import os
    import platform
    from importlib import metadata

    packages = ("ecg_transformers", "torch", "transformers", "datasets", "safetensors", "huggingface-hub", "accelerate")
    facts: dict[str, Any] = {"python": platform.python_version(), "system": platform.platform()}
    for name in (*packages, "wfdb", "evaluate", "numpy", "scipy"):
        try:
            facts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            facts[name] = "not installed"
    import torch

    facts["devices"] = ["cpu"] + [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    facts["threads"] = torch.get_num_threads()
    facts["offline"] = os.environ.get("HF_HUB_OFFLINE", "0")
    print(json.dumps(facts, indent=2))
    return 0


COMMANDS = {
    "convert": _convert,
    "predict": _predict,
    "methods": _methods,
    "datasets": _datasets,
    "overlap": _overlap,
    "build": _build,
    "info": _info,
    "plot": _plot,
    "export": _export,
    "doctor": _doctor,
}

if __name__ == "__main__":
    sys.exit(main())
