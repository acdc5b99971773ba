"""Model cards: `card.md.jinja`, filled from what a checkpoint folder holds: config, preprocessor, run description."""

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ecg_transformers.files import write_text
from ecg_transformers.models.registry import ECGMethod, get_method

TEMPLATE = Path(__file__).with_name("card.md.jinja")
LIMITS = (
    "Not a medical device: the outputs are for research and must not guide the care of a patient. "
    "The model was judged on the data named above only; other devices, populations, lead placements and label "
    "conventions can change its behaviour without notice."
)


def write_card(directory: str | Path) -> Path:
    """Render `README.md` of a checkpoint folder; its name is the folder's, in a temporary folder the class's.

    Args:
        directory: holds `config.json`, and `run.json` where a training made the weights.

    Raises:
        ValueError: when the folder holds no model, or a metric is not a finite number.
    """
    folder = Path(directory)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no config.json, so there is no model to write a card for.")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    path = folder / "run.json"
    run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    method = get_method(config["model_type"]).with_variant(config.get("variant"))
    kind = (config.get("architectures") or [method.title])[0]
    temporary = folder.resolve().name.startswith((".", "tmp"))  # saved here, to be moved or uploaded
    name = kind if temporary else folder.resolve().name
    reference = "." if temporary else folder.as_posix()
    card = ModelCard.from_template(
        _front_matter(method, config, run, name),
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        name=name,
        method=method,
        kind=(config.get("architectures") or ["model"])[0],
        task=_task(config),
        config=config,
        reference=reference,
        rate=config.get("sampling_rate") or 250,
        num_leads=config.get("num_leads", 12),
        steps=step_lines(_steps_of(folder)),
        limits=LIMITS,
        **_training(run),
        **_results(run),
        figure=_figure,
        interval=_interval,
        json=partial(json.dumps, default=str),
    )
    write_text(folder / "README.md", f"{card}\n")
    return folder / "README.md"


def _task(config: Mapping[str, Any]) -> str:
    """The pipeline of a model's class."""
    tasks = {"ForSequenceClassification": "ecg-classification", "ForTokenClassification": "ecg-delineation"}
    names = config.get("architectures") or []
    return next((task for end, task in tasks.items() if any(end in name for name in names)), "ecg-feature-extraction")


def _front_matter(method: ECGMethod, config: Mapping[str, Any], run: Mapping[str, Any], name: str) -> ModelCardData:
    dataset = str((run.get("dataset") or {}).get("name") or "")
    results = [
        EvalResult(
            task_type=_task(config),
            dataset_type=dataset or "unknown",
            dataset_name=dataset or "unknown",
            metric_type=metric,
            metric_value=value,
            dataset_split="test",
        )
        for metric, value in test_means(run).items()
    ]
    return ModelCardData(
        license="other" if config.get("weights_licence") else "apache-2.0",
        library_name="transformers",
        pipeline_tag=None,
        tags=["ecg", "electrocardiogram", "ecg_transformers", method.name, _task(config)],
        datasets=[dataset] if dataset and "/" in dataset else None,
        model_name=name if results else None,
        eval_results=results or None,
    )


def test_means(run: Mapping[str, Any]) -> dict[str, float]:
    """Means over seeds of the test metrics of a run.

    Raises:
        ValueError: when one is not finite (a card cannot say NaN).
    """
    means: dict[str, float] = {}
    for metric, entry in ((run.get("metrics") or {}).get("test") or {}).items():
        if not isinstance(entry, Mapping) or entry.get("mean") is None:
            continue
        value = float(entry["mean"])
        if not math.isfinite(value):
            raise ValueError(f"The metric {metric} is {value}; a card needs a finite number.")
        means[metric] = round(value, 6)
    return means


def _training(run: Mapping[str, Any]) -> dict[str, Any]:
    """What the template says of the training, from `run.json`."""
    dataset, recipe = run.get("dataset") or {}, run.get("recipe") or {}
    measured = (run.get("metrics") or {}).get("data") or {}
    spent = [f"{run['records_seen']:,} records seen" if run.get("records_seen") else ""]
    spent.append(f"{run['cpu_seconds']:,.0f} CPU seconds" if run.get("cpu_seconds") is not None else "")
    spent.append(f"{run['threads']} thread(s)" if run.get("threads") else "")
    spent.append(f"precision {run['precision']}" if run.get("precision") else "")
    absent = {"dataset": dataset, "recipe": recipe, "final": run.get("final") or {}}
    return {
        "run": run and {**run, **absent},
        "parent": Path(str(run.get("parent") or "")).name,
        "dataset_facts": {key: value for key, value in dataset.items() if key not in ("name", "overlap")},
        # flags of a set that was trained on records of an evaluation, in this run or in the one it started from
        "overlaps": [*(dataset.get("overlap") or []), *(measured.get("overlap_with_pretraining") or [])],
        "settings": {key: value for key, value in recipe.items() if key != "name"},
        "spent": list(filter(None, spent)),
    }


def _results(run: Mapping[str, Any]) -> dict[str, Any]:
    """What the template says of the test fold, from `run.json`."""
    test = (run.get("metrics") or {}).get("test") or {}
    return {"means": test_means(run), "test": test, "doubts": doubts(test)}


FEW_RECORDS, FEW_POSITIVES = 30, 10


def doubts(test: Mapping[str, Any]) -> list[str]:
    """What the size of the test set forbids to conclude, in sentences."""
    said = []
    records = test.get("n_records")
    if records is not None and records < FEW_RECORDS:
        said.append(f"The test set holds {records} records: too few to judge a model; its intervals mean little.")
    few = [name for name, entry in (test.get("per_class") or {}).items() if entry["support"] < FEW_POSITIVES]
    if few:
        said.append(f"Fewer than {FEW_POSITIVES} positives in the test set, too few to judge: {', '.join(few)}.")
    return said


def _figure(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float | int) else "–"


def _interval(ends: Sequence[float | None] | None) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}" if ends and None not in ends else "–"


def _steps_of(folder: Path) -> Sequence[Mapping[str, Any]]:
    """The ordered list of steps of the folder's preprocessor; empty where it has none."""
    path = folder / "preprocessor_config.json"
    return (json.loads(path.read_text(encoding="utf-8")).get("steps") or ()) if path.is_file() else ()


def step_lines(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """The steps of a preprocessor, numbered, with their settings (the leads stand elsewhere)."""
    lines = []
    for number, step in enumerate(steps, 1):
        settings = {key: value for key, value in step.items() if key not in ("step", "lead_names")}
        shown = ", ".join(f"{key} {json.dumps(value)}" for key, value in settings.items())
        lines.append(f"{number}. `{step['step']}`" + (f": {shown}" if shown else ""))
    return lines
