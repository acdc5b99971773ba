"""Verbs on models: `methods`, `predict`, `convert`, `export`."""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from ecg_transformers.cli.output import (
    NOT_A_DEVICE,
    Verbs,
    add_engine,
    add_json,
    add_signal_hints,
    add_verb,
    check_table,
    for_people,
    only_prepared,
    print_json,
    print_table,
    record_files,
    tell_failure,
    write_table,
)
from ecg_transformers.words import key_values


def add_verbs(verbs: Verbs) -> None:
    methods = add_verb(verbs, "methods", "List the methods of the package.", "methods")
    methods.add_argument("--markdown", action="store_true", help="as the Markdown table of the README")
    methods.add_argument("--page", action="store_true", help="as the page docs/methods.md")
    add_json(methods)
    methods.set_defaults(run=_methods)
    _add_predict(verbs)
    text = "Turn an official checkpoint into a folder that AutoModel loads."
    convert = add_verb(verbs, "convert", text, "convert st_mem st_mem_vit_base_encoder.pth st-mem")
    convert.add_argument("method", help="name of the method, as `ecg-transformers methods` lists them")
    convert.add_argument("file", help="official checkpoint (.pth, .pt, .safetensors); read without executing anything")
    convert.add_argument("output_dir", help="new folder for model, preprocessor and card")
    convert.add_argument("--config", default="", metavar="K=V,…", help="config fields that the tensors cannot tell")
    convert.set_defaults(run=_convert)
    text = "Write the encoder as a graph that runs without this package."
    export = add_verb(verbs, "export", text, "export my-model encoder.onnx --format onnx")
    export.add_argument("model", help="folder or Hub name of a model")
    export.add_argument("output", help="file to write")
    export.add_argument("--format", choices=("pt2", "onnx"), default="pt2", help="torch.export archive, or ONNX")
    export.set_defaults(run=_export)


def _add_predict(verbs: Verbs) -> None:
    text = f"Class probabilities of records. {NOT_A_DEVICE}"
    predict = add_verb(verbs, "predict", text, "predict records/*.hea --model my-model -o predictions.csv")
    predict.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="record files, globs or folders, - for a list on stdin, or the folder of a prepared corpus",
    )
    predict.add_argument("--model", help="folder or Hub name of a fine-tuned model, or a published classifier's name")
    predict.add_argument("--top_k", type=int, help="only the best k classes")
    predict.add_argument("--num_crops", type=int, help="crops of a record, instead of those of the model's evaluation")
    predict.add_argument("--waves", action="store_true", help="where P, QRS and T are, and the intervals between them")
    predict.add_argument("--windows", action="store_true", help="slide over the whole of long records")
    predict.add_argument("--batch_size", type=int, default=32, help="crops that run through the model together")
    predict.add_argument("--device", default="cpu", help="torch device")
    add_engine(predict)
    predict.add_argument("--num_proc", type=int, help="models at once, on Ray")
    predict.add_argument(
        "--on_error",
        choices=("skip", "raise"),
        default="skip",
        help="leave out a bad file, or stop at it",
    )
    predict.add_argument("-o", "--output", metavar="FILE", help="write a table: .csv or .parquet")
    add_signal_hints(predict)
    add_json(predict)
    predict.set_defaults(run=_predict)


def _methods(options: argparse.Namespace) -> int:
    from ecg_transformers.models.registry import get_method, list_methods
    from ecg_transformers.models.tables import method_page, method_table

    if options.markdown or options.page:
        print(method_page() if options.page else method_table())
        return 0
    rows = [
        {
            "name": method.name,
            "title": method.title,
            "summary": method.summary,
            "pre-training": bool(method.stages),
            "recipes": list(method.recipes),
        }
        for method in map(get_method, list_methods())
    ]
    if for_people(options):
        print_table(rows)
    else:
        print_json(rows)
    return 0


def _predict(options: argparse.Namespace) -> int:
    if options.model is None:
        raise ValueError(
            "name a fine-tuned model with --model: a folder that `ecg-transformers finetune` wrote, a repository of the "
            "Hub, or a published checkpoint with a classifier (`ecg-transformers checkpoints`)."
        )
    if options.batch_size < 1:
        raise ValueError(f"--batch_size must be at least 1, got {options.batch_size}.")
    if options.top_k is not None and options.top_k < 1:
        raise ValueError(f"--top_k must be at least 1, got {options.top_k}.")
    if options.output:
        check_table(options.output)
    if options.waves:
        from ecg_transformers.cli.waves import predict_waves  # numpy, which the help does without

        return predict_waves(options)
    _check_classifier(options.model)
    parameters = {"top_k": options.top_k, "num_crops": options.num_crops, "windows": options.windows or None}
    given = {name: value for name, value in parameters.items() if value is not None}
    results = _results(options, record_files(options.files), given)
    print(NOT_A_DEVICE, file=sys.stderr)
    people = for_people(options) and not options.output
    rows, failed = [], 0
    for path, result in results:
        if isinstance(result, Exception):
            failed += 1
            tell_failure(options, path, result)
        elif options.output or people:
            rows.append({"file": path} | _answer(result) | {entry["label"]: entry["score"] for entry in result})
        else:
            print(json.dumps({"file": path, "predictions": result}, ensure_ascii=False), flush=True)
    if options.output:
        write_table(rows, options.output, None if rows else ["file"])
        print(f"{len(rows)} record{'s' * (len(rows) != 1)} written to {options.output}", file=sys.stderr)
    elif people:
        print_table([{name: _rounded(value) for name, value in row.items()} for row in rows])
    return 1 if failed else 0


def _results(options: argparse.Namespace, words: list[str], given: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Name and result of every file, or of every record of a prepared corpus."""
    if options.engine == "ray":
        from ecg_transformers.pipelines.on_ray import predict_on_ray

        return predict_on_ray(
            only_prepared(words),
            options.model,
            num_workers=options.num_proc,
            batch_size=options.batch_size,
            device=options.device,
            **given,
        )
    from ecg_transformers.cli.waves import model_pipeline, run_all

    classify = model_pipeline("ecg-classification", options.model, options.device)
    return run_all(classify, options, words, **given)


def _answer(result: list[dict[str, Any]]) -> dict[str, str]:
    """The thresholded answer in words; nothing for values of a regression."""
    if not all("positive" in entry for entry in result):
        return {}
    return {"answer": ", ".join(entry["label"] for entry in result if entry["positive"]) or "none"}


def _rounded(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) else value


def _check_classifier(name: str) -> None:
    """Refuse a published encoder before its file is fetched."""
    from ecg_transformers.models.checkpoints import CHECKPOINTS

    if name in CHECKPOINTS and CHECKPOINTS[name].labels is None:
        classifiers = ", ".join(row.name for row in CHECKPOINTS.values() if row.labels is not None)
        raise ValueError(
            f"{name} was published as an encoder, without a classifier: fine-tune it first (`ecg-transformers finetune "
            f"--model_name_or_path {name} …`). With a classifier: {classifiers}."
        )


def _convert(options: argparse.Namespace) -> int:
    from ecg_transformers.hub.folders import convert_to_folder

    model = convert_to_folder(options.method, options.file, options.output_dir, **key_values(options.config))
    print(f"{type(model).__name__} with {model.num_parameters():,} parameters written to {options.output_dir}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from ecg_transformers.hub.export import export_encoder
    from ecg_transformers.hub.folders import check_model_name

    check_model_name(options.model)
    print(export_encoder(options.model, options.output, options.format))
    return 0
