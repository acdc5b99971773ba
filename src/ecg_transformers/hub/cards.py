"""Model cards, rendered from what a checkpoint folder holds: config, preprocessor, run description."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecg_transformers.files import write_text
from ecg_transformers.models.registry import ECGMethod, get_method

LIMITS = (
    "Not a medical device: the outputs are for research and must not guide the care of a patient. "
    "The model was judged on the data named above only; other devices, populations, lead placements and label "
    "conventions can change its behaviour without notice."
)


def write_card(
    directory: str | Path,
    summary: Mapping[str, Any] | Any | None = None,
    *,
    model_name: str | None = None,
) -> Path:
    """Render `README.md` of a checkpoint folder.

    Args:
        directory: holds `config.json`; `run.json` is read when no summary is given.
        summary: what training did (an object with `to_dict` or a mapping); None for an untrained or converted model.
        model_name: name in the card; the folder's name when not given (the class's name in a temporary folder).

    Raises:
        ValueError: when the folder holds no model, or a metric is not a finite number.
    """
    folder = Path(directory)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no config.json, so there is no model to write a card for.")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    run = _run_description(folder, summary)
    method = get_method(config["model_type"])
    kind = (config.get("architectures") or [method.title])[0]
    temporary = folder.resolve().name.startswith((".", "tmp"))  # saved here, to be moved or uploaded
    name = model_name or (kind if temporary else folder.resolve().name)
    reference = "." if temporary else folder.as_posix()
    card = _front_matter(method, config, run, name) + _body(method, config, run, name, reference)
    write_text(folder / "README.md", card)
    return folder / "README.md"


def _run_description(folder: Path, summary: Any) -> dict[str, Any]:
    if summary is not None:
        return dict(summary.to_dict() if hasattr(summary, "to_dict") else summary)
    path = folder / "run.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _is_classifier(config: Mapping[str, Any]) -> bool:
    return any("Classification" in name for name in config.get("architectures") or [])


def _front_matter(method: ECGMethod, config: Mapping[str, Any], run: Mapping[str, Any], name: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    dataset = str((run.get("dataset") or {}).get("name") or "")
    results = [
        EvalResult(
            task_type="ecg-classification",
            dataset_type=dataset or "unknown",
            dataset_name=dataset or "unknown",
            metric_type=metric,
            metric_value=value,
            dataset_split="test",
        )
        for metric, value in test_means(run).items()
    ]
    data = ModelCardData(
        license="other" if config.get("weights_licence") else "apache-2.0",
        library_name="transformers",
        pipeline_tag=None,
        tags=["ecg", "electrocardiogram", "ecg_transformers", method.name]
        + (["ecg-classification"] if _is_classifier(config) else ["ecg-feature-extraction"]),
        datasets=[dataset] if dataset and "/" in dataset else None,
        model_name=name if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


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


def _body(
    method: ECGMethod,
    config: Mapping[str, Any],
    run: Mapping[str, Any],
    name: str,
    reference: str,
) -> str:
    kind = (config.get("architectures") or ["model"])[0]
    parts = [
        f"# {name}\n\n{method.title}: {method.summary}\n\n*{kind}* of `ecg_transformers`. Method: {method.paper}.\n"
    ]
    if method.notes:
        parts.append(f"{method.notes}\n")
    if config.get("weights_licence"):
        source = f"Converted, or trained on, from the authors' file `{config.get('converted_from')}`."
        licence = f"Licence of the source: {config['weights_licence']}."
        parts.append(
            f"## Origin\n\n{source} {licence} It binds these weights too; do not redistribute them against it.\n"
        )
    if run:
        parts.append(_training_section(run))
    if test_means(run):
        parts.append(_results_section(run))
    parts.append(_usage_section(config, reference))
    parts.append(_preprocessing_section(config))
    parts.append(f"## Limits\n\n{LIMITS}\n")
    return "\n".join(parts)


def _training_section(run: Mapping[str, Any]) -> str:
    data = run.get("dataset") or {}
    recipe = run.get("recipe") or {}
    lines = [
        "## Training\n",
        f"- Data: {data.get('name', 'unknown')}, {json.dumps({k: v for k, v in data.items() if k != 'name'})}",
        f"- Recipe: {recipe.get('name', 'unknown')}, {run.get('steps', 0)} updates of {run.get('global_batch_size', 0)} records"
        f" on {run.get('num_processes', 1)} process(es)",
    ]
    if run.get("parent"):
        lines.append(f"- Started from: {Path(str(run['parent'])).name}")
    if (run.get("final") or {}).get("loss") is not None:
        lines.append(f"- Last logged loss: {run['final']['loss']:.4f}")
    if run.get("seeds"):
        lines.append(f"- Seeds: {', '.join(map(str, run['seeds']))}")
    if run.get("versions"):
        lines.append("- Versions: " + ", ".join(f"{key} {value}" for key, value in run["versions"].items()))
    settings = {key: value for key, value in recipe.items() if key != "name"}
    if settings:
        text = json.dumps(settings, indent=2, default=str)
        lines.append(f"\n<details><summary>All hyper-parameters</summary>\n\n```json\n{text}\n```\n\n</details>")
    return "\n".join(lines) + "\n"


def _results_section(run: Mapping[str, Any]) -> str:
    lines = [
        "## Results on the test fold\n",
        "| metric | mean over seeds | per seed | 95 % interval |",
        "|---|---|---|---|",
    ]
    for metric, mean in test_means(run).items():
        entry = run["metrics"]["test"][metric]
        seeds = " ".join(f"{value:.3f}" for value in entry.get("per_seed") or [] if value is not None)
        interval = entry.get("ci95")
        shown = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval and None not in interval else ""
        lines.append(f"| {metric} | {mean:.3f} | {seeds} | {shown} |")
    lines.append(
        "\nIntervals: percentile bootstrap over the patients of the test fold; they do not hold the spread over seeds."
    )
    return "\n".join(lines) + "\n"


def _usage_section(config: Mapping[str, Any], reference: str) -> str:
    auto = "AutoModelForSequenceClassification" if _is_classifier(config) else "AutoModel"
    result = (
        "{name: round(float(p), 3) for name, p in zip(model.config.id2label.values(), output.probabilities[0])}"
        if _is_classifier(config)
        else "output.pooler_output.shape"
    )
    leads, rate = config.get("num_leads", 12), config.get("sampling_rate") or 250
    names = f", lead_names={config['lead_names']}" if config.get("lead_names") else ""
    return f"""## Use

```python
import numpy as np
import torch
from transformers import AutoFeatureExtractor, {auto}

import ecg_transformers  # registers the classes

MODEL = "{Path(reference).as_posix()}"
extractor = AutoFeatureExtractor.from_pretrained(MODEL)
model = {auto}.from_pretrained(MODEL).eval()
record = np.random.default_rng(0).normal(size=(int(20 * {rate}), {leads}))  # (samples, leads) in millivolts: your record
inputs = extractor(record, sampling_rate={rate}{names}, return_tensors="pt")
inputs.pop("beat_samples", None)
with torch.no_grad():
    output = model(**inputs)
print({result})
```

Without `import ecg_transformers`, pass `trust_remote_code=True`: the repository's `hub_shim.py` then imports the installed
package and nothing else. Pin `revision` to a commit for results that stay.
"""


def _preprocessing_section(config: Mapping[str, Any]) -> str:
    names = config.get("lead_names")
    leads = ", ".join(names) if names else f"{config.get('num_leads')} unnamed"
    return (
        f"## Input\n\nLeads: {leads}. {config.get('seq_len')} samples a lead"
        + (f" at {config['sampling_rate']} Hz" if config.get("sampling_rate") else "")
        + ". `preprocessor_config.json` holds the ordered list of steps (units, resampling, crop, filters, normalisation).\n"
    )
