"""From the figures of `results.json` to the Markdown of a card."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from ecg_transformers.benchmark.figures import LAST_STEPS
from ecg_transformers.hub.cards import LIMITS

BASELINE_TITLES = {
    "logistic_regression": "Logistic regression on simple features",
    "logistic_regression_median_beat": "Logistic regression on simple features and the median beat",
    "minirocket": "MiniRocket and ridge regression",
}
READOUT_TITLES = {
    "per_lead": "mean token of each lead",
    "per_lead+amplitude": "mean token and amplitudes of each lead",
    "pooler": "pooled feature",
    "attention": "attention probe",
    "": "",
}
ARM_TITLES = {
    "pretrained": "Frozen, pre-trained",
    "random": "Frozen, random initialisation",
    "finetune": "Fine-tuned",
    "scratch": "From scratch",
}


def render(results: Mapping[str, Any]) -> str:
    """The card."""
    parts = [
        f"# {results['title']}, recipe `{results['recipe']['name']}`, on {results['data']['dataset']}\n",
        f"{results['summary']}\n\nMethod: {results['paper']}.\n",
        "**Not a medical device.** For research only; nothing here may guide the care of a patient.\n",
        _table_section(results),
        _difference_section(results),
        _class_section(results),
        _training_section(results),
        _data_section(results),
        _command_section(results),
        _limit_section(results),
    ]
    return "\n".join(part for part in parts if part)


def _data_section(results: Mapping[str, Any]) -> str:
    data = results["data"]
    lines = [
        "## Data\n",
        f"`{data['dataset']}`, task `{data['task']}` ({data['kind']}); records without a label of the task are left out of the "
        "supervised parts, not of pre-training. Columns of classes count positives.\n",
        "| split | records | patients | " + " | ".join(data["classes"]) + " | fingerprint |",
        "|---" * (len(data["classes"]) + 4) + "|",
    ]
    for name, split in data["splits"].items():
        support = " | ".join(str(split["support"][label]) for label in data["classes"])
        lines.append(f"| {name} | {split['records']} | {split['patients']} | {support} | `{split['fingerprint']}` |")
    for run in results["pretraining"][:1]:
        used = run["dataset"]
        lines.append(
            f"\nPre-training: the {used['records']} records of the {used['split']} split, without labels "
            f"(fingerprint `{used['fingerprint']}`)."
        )
    return "\n".join(lines) + "\n"


def _training_section(results: Mapping[str, Any]) -> str:
    runs = results["pretraining"]
    if not runs:
        return f"## Recipe\n\n`{results['recipe']['name']}`: {results['recipe']['description']} No pre-training.\n"
    first = runs[0]
    hyper = {
        key: value
        for key, value in first["recipe"].items()
        if key not in ("name", "stage") and value not in (None, {}, [])
    }
    sizes = ", ".join(f"{key} {value}" for key, value in first["config"].items())
    lines = [
        "## Pre-training\n",
        f"Recipe `{results['recipe']['name']}`: {results['recipe']['description']}\n",
        f"- {first['steps']} updates of {first['batch_size']} records ({first['epochs']:.0f} epochs)",
        f"- Model: {sizes}",
        f"- Hyper-parameters: `{json.dumps(hyper)}`",
    ]
    names = list(first["monitors"])
    titles = [name.replace("_", " ") for name in names]
    head = "".join(f" {title}, first {LAST_STEPS} | {title}, last {LAST_STEPS} |" for title in titles)
    lines += [
        f"\n| seed | loss at the start | loss, mean of the last {LAST_STEPS} updates |{head}",
        "|---|---|---|" + "---|---|" * len(names),
    ]
    for run in runs:
        figures = "".join(f" {_number(value)} |" for n in names for value in run["monitors"][n])
        lines.append(f"| {run['seed']} | {run['first_loss']:.3f} | {run['last_loss']:.3f} |{figures}")
    return "\n".join(lines) + "\n"


def _command_section(results: Mapping[str, Any]) -> str:
    given = results["arguments"]
    words = ["python -m ecg_transformers.benchmark.card"] + [
        f"--{name} {given[name]}" for name in ("method", "recipe", "dataset")
    ]
    words += ["--data_dir DATA"] if results["has_folder"] else []
    words += ["--output_dir OUT", f"--card model_cards/{results['card']}"]
    rest = {name: given[name] for name in results["not_default"] if name not in ("method", "recipe", "dataset", "note")}
    if results["probes"].get("num_crops"):
        rest["num_crops"] = results["probes"]["num_crops"]
    steps = {run["max_steps"] for run in results["pretraining"]}
    if len(steps) == 1 and None not in steps:
        rest["max_steps"] = steps.pop()
    words += [f"--{name} {shlex.quote(str(value))}" for name, value in rest.items()]
    text = "## How to make it again\n\n```bash\n" + " \\\n    ".join(words) + "\n```\n"
    if "BASELINES" in text:
        text += (
            "\n`BASELINES`: the output folder of "
            "`python benchmarks/simple_baselines.py --data_dir DATA --output_dir BASELINES`.\n"
        )
    if results["pretraining"]:
        text += "\nThe models then lie in `OUT/pretrained/seed-…`, and `AutoModel.from_pretrained` loads them.\n"
    return text + "\nVersions: " + ", ".join(f"{key} {value}" for key, value in results["versions"].items()) + ".\n"


def _table_section(results: Mapping[str, Any]) -> str:
    fractions = sorted({cell["fraction"] for cell in results["cells"]}, reverse=True)
    lines = [
        "## Results\n",
        "Macro AUROC on the test split: mean over seeds, 95 % interval of that mean (percentile bootstrap over patients), "
        "values of the seeds. All rows were measured by this package on the same records, with the same labelled subsets "
        "(whole patients, nested, drawn by seed). The validation split is whole at every label fraction and chooses the "
        "strength of the probes and the step of the trained classifiers.\n",
        "| method | " + " | ".join(f"{fraction:.0%} labels".replace("%", " %") for fraction in fractions) + " |",
        "|---" * (len(fractions) + 1) + "|",
    ]
    found = {(cell["arm"], cell["readout"], cell["fraction"]): cell for cell in results["cells"]}
    for arm, readout in _rows(results):
        shown = [_cell(found.get((arm, readout, fraction))) for fraction in fractions]
        lines.append(f"| {_title(arm, readout)} | " + " | ".join(shown) + " |")
    for fraction in fractions:
        best = max((cell for cell in results["cells"] if cell["fraction"] == fraction), key=lambda cell: cell["mean"])
        name = _title(best["arm"], best["readout"])
        lines.append(
            f"{'' if fraction != fractions[0] else chr(10)}- Ahead at {100 * fraction:g} % labels: {name} ({best['mean']:.3f})."
        )
    return "\n".join(lines) + "\n"


def _rows(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = dict.fromkeys((cell["arm"], cell["readout"]) for cell in results["cells"])
    readouts = list(dict.fromkeys(readout for arm, readout in pairs if arm == "pretrained"))
    ordered = [(arm, readout) for readout in readouts for arm in ("pretrained", "random")]
    ordered += [(arm, "") for arm in ("finetune", "scratch")]
    return [pair for pair in ordered if pair in pairs] + [pair for pair in pairs if pair not in ordered]


def _difference_section(results: Mapping[str, Any]) -> str:
    if not results["differences"]:
        return ""
    lines = [
        "## Paired differences\n",
        "The same seeds, label subsets and resampled patients on both sides; the interval is of the mean over seeds.\n",
        "| difference | labels | mean [95 % interval] | per seed |",
        "|---|---|---|---|",
    ]
    for entry in results["differences"]:
        low, high = entry["ci95"]
        seeds = " ".join(f"{value:+.3f}" for value in entry["per_seed"])
        name = f"{_title(*entry['a'])} − {_title(*entry['b'])}"
        lines.append(
            f"| {name} | {100 * entry['fraction']:g} % | **{entry['difference']:+.3f}** [{low:+.3f}, {high:+.3f}] | {seeds} |"
        )
    return "\n".join(lines) + "\n"


def _class_section(results: Mapping[str, Any]) -> str:
    top = max(cell["fraction"] for cell in results["cells"])
    names = results["data"]["classes"]
    lines = [
        f"## Per class, {100 * top:g} % labels\n",
        "| method | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for arm, readout in _rows(results):
        for cell in results["cells"]:
            if (cell["arm"], cell["readout"], cell["fraction"]) == (arm, readout, top):
                values = " | ".join(_number(cell["per_class"][name]) for name in names)
                lines.append(f"| {_title(arm, readout)} | {values} |")
    return "\n".join(lines) + "\n"


def _limit_section(results: Mapping[str, Any]) -> str:
    test = results["data"]["splits"]["test"]
    lines = [
        "## Protocol and limits\n",
        f"- Intervals are over the {test['patients']} patients of the test split. They do not hold the spread between "
        "training runs: see the values of the seeds.",
    ]
    if results["pretraining"]:
        crops = results["probes"]["num_crops"]
        lines += [
            "- Random initialisation is the same network with the weights that the seed gave it before its first update, "
            "read by the same probe.",
            f"- Probes: {f'{crops} evenly spaced crops' if crops else 'the whole record'}, encoder in evaluation mode, "
            "features standardised on the labelled training records; L2 logistic regression (the attention probe is trained by "
            "gradient descent on stored tokens). Amplitudes: log SD, maximum and minimum of each lead in millivolts.",
        ]
    for cell in results["cells"]:
        if cell["arm"] in ("finetune", "scratch"):
            fact = next(iter(cell["facts"].values()))
            name = _title(cell["arm"], "")
            lines.append(
                f"- {name}, {100 * cell['fraction']:g} % labels: {fact['steps']} updates of {fact['batch_size']}, peak "
                f"learning rate {fact['recipe']['lr']:g}, readout {fact['readout']}, {fact['num_crops']} test crops."
            )
    if any(cell["arm"] == "finetune" for cell in results["cells"]):
        lines.append(
            "- Both arms have the same budget and untuned settings: their difference is one at this budget, and more "
            "updates may close it."
        )
    lines += [f"- {text}" for text in (results["arguments"]["note"], results["notes"]) if text]
    lines.append(f"- {LIMITS}")
    return "\n".join(lines) + "\n"


def _title(arm: str, readout: str) -> str:
    if arm.startswith("baseline:"):
        name = arm.removeprefix("baseline:")
        return BASELINE_TITLES.get(name, name)
    return f"{ARM_TITLES[arm]}, {READOUT_TITLES[readout]}" if readout else ARM_TITLES[arm]


def _cell(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return ""
    low, high = cell["ci95"]
    seeds = " ".join(f"{value:.3f}" for value in cell["per_seed"])
    return f"**{cell['mean']:.3f}** [{low:.3f}, {high:.3f}] ({seeds})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
