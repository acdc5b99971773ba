"""What a run did, in words and figures: `run.json`, which a card is made from, and the other results in JSON."""

from __future__ import annotations

import dataclasses
import json
import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ecg_transformers._version import __version__
from ecg_transformers.files import file_sha256, plain, write_text
from ecg_transformers.hub.cards import write_card
from ecg_transformers.training.errors import write_errors
from ecg_transformers.training.process.lock import TRAIN_LOG
from ecg_transformers.training.report.log import cpu_seconds, read_log, save_loss_curve


@dataclass
class RunSummary:
    """What a run did, for cards and reports; written as `run.json`.

    Attributes:
        kind: "pretraining" or "finetuning".
        method: registry name.
        model_class: class of the saved model.
        dataset: corpus name, split, number of records, fingerprint and options.
        recipe: name and resolved hyper-parameters.
        arguments: of the script.
        steps, epochs, num_processes, global_batch_size, seeds: the run in figures.
        precision, threads: as they really were, in the main process.
        mode, label_fraction: how a classifier was trained, and on which share of the labels.
        weights_seed: the seed whose weights lie beside the description.
        records_seen: records that went through the optimiser, over all seeds.
        cpu_seconds: processor time of the main process, over all sessions of the run.
        weights_sha256: of the file of weights that the run made, by which a copy of it is told from other weights.
        skipped: records that were left out because they could not be used, by kind.
        final: last row of the train log.
        metrics: the content of `metrics.json` in fine-tuning.
        versions: of the libraries that took part.
        parent: the checkpoint that training started from.
        is_main_process: whether this process writes the results.
    """

    kind: str
    method: str
    model_class: str
    dataset: dict[str, Any]
    recipe: dict[str, Any]
    arguments: dict[str, Any]
    steps: int = 0
    epochs: float = 0.0
    num_processes: int = 1
    precision: str = "no"
    threads: int | None = None
    global_batch_size: int = 0
    seeds: list[int] = field(default_factory=list)
    mode: str | None = None
    label_fraction: float | None = None
    weights_seed: int | None = None
    records_seen: int = 0
    cpu_seconds: float | None = None
    weights_sha256: str | None = None
    skipped: dict[str, int] = field(default_factory=dict)
    final: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    parent: str | None = None
    is_main_process: bool = field(default=True, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values, for `run.json`, which travels to the Hub: of paths only the last part is kept."""
        values = dataclasses.asdict(self)
        del values["is_main_process"]
        values["arguments"] = {key: _without_folders(value) for key, value in values["arguments"].items()}
        values["parent"] = _without_folders(self.parent)
        return values

    def finish(self, output_dir: Path) -> None:
        """Take the last row of the log, write `run.json` and the card, and draw the loss curve."""
        self.final = read_log(output_dir / TRAIN_LOG)[-1]
        self.cpu_seconds = cpu_seconds(output_dir)
        save_loss_curve(output_dir)
        weights = output_dir / "model.safetensors"
        self.weights_sha256 = file_sha256(weights) if weights.is_file() else None
        write_result(output_dir / "run.json", self.to_dict())
        with write_errors("the card", output_dir / "README.md"):
            write_card(output_dir)


def _without_folders(value: Any) -> Any:
    """An absolute path without the folders that only this machine has; anything else as it is."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def write_result(path: Path, value: object) -> None:
    """Write a JSON file in the order given, in one step; a failure is a `CheckpointWriteError`."""
    with write_errors("a result", path):
        write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=plain) + "\n")


def library_versions() -> dict[str, str]:
    """Versions of what determines a result."""
    versions = {"ecg_transformers": __version__, "python": platform.python_version()}
    for name in ("torch", "transformers", "accelerate", "datasets", "numpy", "scipy", "scikit-learn"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
