"""Model cards, rendered from what a checkpoint folder holds: config, preprocessor, run description."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

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
    method = get_method(config["model_type"]).with_variant(config.get("variant"))
    kind = (config.get("architectures") or [method.title])[0]
    temporary = folder.resolve().name.startswith((".", "tmp"))  # saved here, to be moved or uploaded
    name = model_name or (kind if temporary else folder.resolve().name)
    reference = "." if temporary else folder.as_posix()
    card = _front_matter(method, config, run, name) + _body(method, config, run, name, reference, _steps_of(folder))
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
    steps: Sequence[Mapping[str, Any]],
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
    parts.append(_preprocessing_section(config, steps))
    parts.append(f"## Limits\n\n{LIMITS}\n")
    return "\n".join(parts)


def _training_section(run: Mapping[str, Any]) -> str:
    parent = Path(str(run.get("parent") or "")).name
    if run.get("kind") == "not recorded":
        return (
            f"## Training\n\nStarted from the checkpoint `{parent}`. What was done to the weights since then was not "
            "recorded, so no data and no figure of that checkpoint stands here.\n"
        )
    data, recipe = run.get("dataset") or {}, run.get("recipe") or {}
    lines = [
        "## Training\n",
        f"- Data: {data.get('name', 'unknown')}, {json.dumps({k: v for k, v in data.items() if k not in ('name', 'overlap')})}",
        *(f"- {flag['sentence']}" for flag in _overlaps(run)),
        f"- Recipe: {recipe.get('name', 'unknown')}, {run.get('steps', 0)} updates of {run.get('global_batch_size', 0)} records"
        f" on {run.get('num_processes', 1)} process(es)",
    ]
    if parent:
        lines.append(f"- Started from: {parent}")
    if run.get("mode"):
        share = run.get("label_fraction")
        lines.append(f"- Mode: {run['mode']}" + ("" if share is None else f", with {share:.0%} of the training labels"))
    lines += _spent(run)
    if (run.get("final") or {}).get("loss") is not None:
        lines.append(f"- Last logged loss: {run['final']['loss']:.4f}")
    if run.get("seeds"):
        own = run.get("weights_seed")
        lines.append(
            f"- Seeds: {', '.join(map(str, run['seeds']))}"
            + (f"; the weights in this folder are those of seed {own}" if len(run["seeds"]) > 1 else "")
        )
    if run.get("skipped"):
        kinds = ", ".join(f"{count} {kind}" for kind, count in run["skipped"].items())
        lines.append(f"- Records left out of the training data because they could not be used: {kinds}")
    if run.get("changed_data"):
        lines.append(f"- The data changed during the run: {run['changed_data']}")
    if run.get("versions"):
        lines.append("- Versions: " + ", ".join(f"{key} {value}" for key, value in run["versions"].items()))
    settings = {key: value for key, value in recipe.items() if key != "name"}
    if settings:
        text = json.dumps(settings, indent=2, default=str)
        lines.append(f"\n<details><summary>All hyper-parameters</summary>\n\n```json\n{text}\n```\n\n</details>")
    return "\n".join(lines) + "\n"


def _overlaps(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Flags of a set that was trained on records of an evaluation, in this run or in the one it started from."""
    measured = ((run.get("metrics") or {}).get("data") or {}).get("overlap_with_pretraining") or []
    return [*((run.get("dataset") or {}).get("overlap") or []), *measured]


def _spent(run: Mapping[str, Any]) -> list[str]:
    """What the run really cost, as far as it says."""
    parts = [f"{run['records_seen']:,} records seen" if run.get("records_seen") else ""]
    parts.append(f"{run['cpu_seconds']:,.0f} CPU seconds" if run.get("cpu_seconds") is not None else "")
    parts.append(f"{run['threads']} thread(s)" if run.get("threads") else "")
    parts.append(f"precision {run['precision']}" if run.get("precision") else "")
    return [f"- Spent, over all seeds: {', '.join(filter(None, parts))}"] if any(parts) else []


def _results_section(run: Mapping[str, Any]) -> str:
    test = run["metrics"]["test"]
    lines = [
        "## Results on the test fold\n",
        "| metric | mean over seeds | SD over seeds | 95 % interval |",
        "|---|---|---|---|",
    ]
    for metric, mean in test_means(run).items():
        interval = test[metric].get("ci95")
        shown = f"{interval[0]:.3f} to {interval[1]:.3f}" if interval and None not in interval else "–"
        counts = f" ({test[metric]['counts']})" if test[metric].get("counts") else ""
        lines.append(f"| {metric}{counts} | {mean:.3f} | {_figure(test[metric].get('sd'))} | {shown} |")
    lines.append(
        "\nIntervals: percentile bootstrap over the patients of the test fold; they do not hold the spread over seeds."
    )
    if test.get("per_class"):
        lines += [
            "",
            "| class | positives | AUROC | AUPRC | F1 | sensitivity | specificity |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, entry in test["per_class"].items():
            figures = (_figure((entry.get(key) or {}).get("mean")) for key in PER_CLASS)
            lines.append(f"| {name} | {entry['support']:.0f} | {' | '.join(figures)} |")
    lines += [f"\n**{sentence}**" for sentence in doubts(test)]
    if len(run.get("seeds") or []) > 1:
        seeds = [f"| {seed} | {_figures_of_seed(run, index)} |" for index, seed in enumerate(run["seeds"])]
        head = [f"| seed | {' | '.join(test_means(run))} |", "|---" * (len(test_means(run)) + 1) + "|"]
        lines += ["\n<details><summary>Each seed</summary>\n", *head, *seeds, "\n</details>"]
    return "\n".join(lines) + "\n"


PER_CLASS = ("auroc", "auprc", "f1", "sensitivity", "specificity")
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


def _figures_of_seed(run: Mapping[str, Any], index: int) -> str:
    values = ((run["metrics"]["test"][metric].get("per_seed") or []) for metric in test_means(run))
    return " | ".join(_figure(seeds[index] if index < len(seeds) else None) for seeds in values)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _usage_section(config: Mapping[str, Any], reference: str) -> str:
    leads, rate = config.get("num_leads", 12), config.get("sampling_rate") or 250
    names = f", lead_names={config['lead_names']}" if config.get("lead_names") else ""
    call = f"record, sampling_rate={rate}{names}"
    if _is_classifier(config):
        imports = "from transformers import pipeline"
        lines = [
            'classify = pipeline("ecg-classification", model=MODEL)  # crops and thresholds as evaluated',
            f"for item in classify({call}):",
            "    print(item)",
        ]
    else:
        imports = "import torch\nfrom transformers import AutoFeatureExtractor, AutoModel"
        lines = [
            "extractor = AutoFeatureExtractor.from_pretrained(MODEL)",
            "model = AutoModel.from_pretrained(MODEL).eval()",
            "with torch.no_grad():",
            f'    output = model(**extractor({call}, return_tensors="pt"))',
            "print(output.pooler_output.shape)",
        ]
    code = "\n".join(lines)
    return f"""## Use

```python
import numpy as np
{imports}

import ecg_transformers  # registers the classes

MODEL = "{Path(reference).as_posix()}"
record = np.random.default_rng(0).normal(size=(int(20 * {rate}), {leads}))  # (samples, leads) in millivolts: your record
{code}
```

Without `import ecg_transformers`, pass `trust_remote_code=True`: the repository's `hub_shim.py` then imports the installed
package and nothing else. Pin `revision` to a commit for results that stay.
"""


def _steps_of(folder: Path) -> Sequence[Mapping[str, Any]]:
    """The ordered list of steps of the folder's preprocessor; empty where it has none."""
    path = folder / "preprocessor_config.json"
    return (json.loads(path.read_text(encoding="utf-8")).get("steps") or ()) if path.is_file() else ()


def _preprocessing_section(config: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> str:
    names = config.get("lead_names")
    leads = ", ".join(names) if names else f"{config.get('num_leads')} unnamed"
    rate = f" at {config['sampling_rate']} Hz" if config.get("sampling_rate") else ""
    lines = [f"## Input\n\nLeads: {leads}. {config.get('seq_len')} samples a lead{rate}."]
    lines[0] += " The steps of `preprocessor_config.json`, in order:\n" if steps else ""
    return "\n".join([*lines, *step_lines(steps)]) + "\n"


def step_lines(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """The steps of a preprocessor, numbered, with their settings (the leads stand elsewhere)."""
    lines = []
    for number, step in enumerate(steps, 1):
        settings = {key: value for key, value in step.items() if key not in ("step", "lead_names")}
        shown = ", ".join(f"{key} {json.dumps(value)}" for key, value in settings.items())
        lines.append(f"{number}. `{step['step']}`" + (f": {shown}" if shown else ""))
    return lines
