"""What a frozen encoder is worth: features of all records once, then every readout at every label fraction."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ecg_transformers.evaluation.metrics import per_class_auroc
from ecg_transformers.evaluation.probes import LinearProbe
from ecg_transformers.evaluation.readouts import Records, frozen, parameter_hash, read_tokens, signal_figures
from ecg_transformers.evaluation.subsets import label_subset
from ecg_transformers.evaluation.trained_probes import AttentionProbe
from ecg_transformers.features.protocol import Extractor
from ecg_transformers.files import json_sha256, replacing
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.training.samples.splits import Split

READOUTS = {"per_lead": "per_lead", "per_lead+amplitude": "per_lead", "pooler": "pooled", "attention": "tokens"}
SPLITS = ("train", "validation", "test")
Array = NDArray[Any]


def say(text: str) -> None:
    """One line of progress with the time of day."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def digest(*parts: Any) -> str:
    """A short key of whatever decides a result: a stored result is used again only under the same key."""
    return json_sha256(parts)[:12]


@dataclass
class Cell:
    """One row of the table at one label fraction: test probabilities `(records, classes)` of every seed."""

    arm: str
    readout: str
    fraction: float
    scores: dict[int, Array] = field(default_factory=dict)
    facts: dict[int, dict[str, Any]] = field(default_factory=dict)


class Inputs:
    """What the extractor makes of a split, batch after batch; kept in memory for the next encoder while it is small."""

    def __init__(
        self,
        extractor: Extractor,
        records: Records,
        num_crops: int | None,
        batch_size: int = 32,
        limit_mb: float = 700,
    ) -> None:
        self.extractor, self.records, self.batch_size = extractor, records, batch_size
        self.options = {} if num_crops is None else {"num_crops": num_crops}
        self._kept: dict[int, dict[str, torch.Tensor]] = {}
        self._left = limit_mb * 2**20

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for start in range(0, len(self.records), self.batch_size):
            batch = self._kept.get(start)
            if batch is None:
                rows = [self.records[i] for i in range(start, min(start + self.batch_size, len(self.records)))]
                batch = dict(self.extractor(rows, return_tensors="pt", **self.options))
                size = sum(value.numel() * value.element_size() for value in batch.values())
                if size <= self._left:
                    self._kept[start], self._left = batch, self._left - size
            yield batch


def evaluation_crops(extractor: Extractor, split: Split, wanted: int | None) -> int | None:
    """Crops of a record for the probe: four where a crop is shorter than the shortest record, else the whole record.

    Tokens depend on where a patch falls within a beat: the mean over few crops is mostly that chance.
    """
    length, rate = getattr(extractor, "seq_len", None), getattr(extractor, "sampling_rate", None)
    if not length or not rate:
        return None  # beats, not crops
    records: Any = split.records
    seconds = min(n / r for n, r in zip(records.column("num_samples"), records.column("sampling_rate"), strict=True))
    return None if length / rate >= seconds else wanted or 4


def read_batch(
    encoder: ECGPreTrainedModel, batch: Mapping[str, torch.Tensor], kinds: Iterable[str]
) -> dict[str, Array]:
    """Several readouts from one forward pass; the crops of a record are averaged (tokens: put side by side)."""
    inputs = dict(batch)
    signal, crops = inputs.get("input_values"), None
    if signal is not None and signal.ndim == 4:
        crops = signal.shape[1]
        inputs["input_values"] = signal = signal.flatten(0, 1)
    with frozen(encoder):
        outputs = encoder(**inputs)
        leads = signal.shape[1] if signal is not None else 0
        read = {kind: read_tokens(encoder, outputs, leads, kind) for kind in kinds}
    if crops is not None:
        split = {kind: value.unflatten(0, (-1, crops)) for kind, value in read.items()}
        read = {kind: value.flatten(1, 2) if kind == "tokens" else value.mean(dim=1) for kind, value in split.items()}
    return {kind: value.numpy().astype(np.float32) for kind, value in read.items()}


def has_leads(encoder: ECGPreTrainedModel, batch: Mapping[str, torch.Tensor]) -> bool:
    """Whether the tokens of an encoder belong to single leads, so that there is a readout per lead."""
    few = {name: value[:1] for name, value in batch.items()}
    signal = few.get("input_values")
    if signal is None:
        return False
    few["input_values"] = signal = signal.flatten(0, -3) if signal.ndim == 4 else signal
    with frozen(encoder):
        return encoder.tokens_by_lead(encoder(**few).last_hidden_state, signal.shape[1]) is not None


class Prober:
    """Probes encoders on one task; everything it has found before is read from its folder."""

    def __init__(
        self,
        folder: Path,
        splits: Mapping[str, Split],
        extractor: Extractor,
        *,
        readouts: Sequence[str],
        fractions: Sequence[float],
        num_crops: int | None,
    ) -> None:
        self.folder, self.splits, self.extractor = folder, splits, extractor
        self.readouts, self.fractions = list(readouts), list(fractions)
        self.num_crops = evaluation_crops(extractor, splits["test"], num_crops)
        self.inputs = {name: Inputs(extractor, split.records, self.num_crops) for name, split in splits.items()}
        self.data_key = [split.facts["fingerprint"] for split in splits.values()] + [splits["train"].facts["task"]]
        self.amplitudes: dict[str, Array] = {}
        self.folder.mkdir(parents=True, exist_ok=True)

    def available(self, encoder: ECGPreTrainedModel) -> list[str]:
        """The readouts that this encoder has, in the order asked for."""
        others = [name for name in self.readouts if not name.startswith("per_lead")]
        if len(others) == len(self.readouts) or has_leads(encoder, next(iter(self.inputs["test"]))):
            return self.readouts
        return others or ["pooler"]

    def probe(
        self, encoder: ECGPreTrainedModel, arm: str, seed: int, cells: dict[tuple[str, str, float], Cell]
    ) -> None:
        """Add the test probabilities of one encoder for all readouts and fractions to `cells`."""
        identity = [parameter_hash(encoder), self.extractor.to_dict(), self.num_crops, self.data_key]
        readouts = self.available(encoder)
        missing = [
            name for name in readouts for f in self.fractions if not self._path(identity, name, seed, f).exists()
        ]
        features = self._features(encoder, identity, sorted(set(missing)), f"{arm}, seed {seed}") if missing else {}
        for readout in readouts:
            for fraction in self.fractions:
                path = self._path(identity, readout, seed, fraction)
                if not path.exists():
                    self._fit(features, readout, seed, fraction, path)
                with np.load(path) as stored:
                    scores, facts = stored["scores"], json.loads(str(stored["facts"]))
                cell = cells.setdefault((arm, readout, fraction), Cell(arm, readout, fraction))
                cell.scores[seed], cell.facts[seed] = scores, facts
                known = facts.get("validation")
                chosen_by = "" if known is None else f" (validation {known:.3f})"
                say(
                    f"{arm} encoder, seed {seed}, {readout}, {fraction:.0%} labels: AUROC {facts['auroc']:.3f}{chosen_by}"
                )

    def _path(self, identity: Any, readout: str, seed: int, fraction: float) -> Path:
        return self.folder / f"probe-{digest(identity, readout, seed, fraction)}.npz"

    def _features(self, encoder: Any, identity: Any, readouts: Sequence[str], name: str) -> dict[str, Array]:
        """`split/kind` to features; those of vectors are stored, tokens are not (they are large)."""
        kinds = sorted({READOUTS[readout] for readout in readouts})
        path = self.folder / f"features-{digest(identity)}.npz"
        features: dict[str, Array] = {}
        if path.exists():
            with np.load(path) as stored:
                features = {key: stored[key] for key in stored.files}
        wanted = [kind for kind in kinds if f"test/{kind}" not in features]
        if wanted:
            say(f"{name}: features of {sum(len(split) for split in self.splits.values())} records")
            for split, inputs in self.inputs.items():
                parts = [read_batch(encoder, batch, wanted) for batch in inputs]
                features |= {f"{split}/{kind}": np.concatenate([part[kind] for part in parts]) for kind in wanted}
            _save(path, {key: value for key, value in features.items() if not key.endswith("/tokens")})
        return features

    def _fit(self, features: Mapping[str, Array], readout: str, seed: int, fraction: float, path: Path) -> None:
        x = {name: features[f"{name}/{READOUTS[readout]}"] for name in SPLITS}
        if readout.endswith("+amplitude"):
            x = {name: np.concatenate([value, self._amplitude(name)], axis=1) for name, value in x.items()}
        train, y = self.splits["train"], {name: self.splits[name].multi_hot() for name in SPLITS}
        subset = label_subset(y["train"], fraction, seed, train.patient_ids, train.record_ids)
        rows, kind = subset.indices, train.task_kind
        probe: Any = AttentionProbe(kind, seed=seed) if readout == "attention" else LinearProbe(kind)
        if readout != "attention" and kind == "multiclass":
            labels = [np.asarray(self.splits[name].labels) for name in ("train", "validation")]
            probe.fit(x["train"][rows], labels[0][rows], x["validation"], labels[1], num_classes=y["train"].shape[1])
        else:
            probe.fit(x["train"][rows], y["train"][rows], x["validation"], y["validation"])
        scores = probe.predict_proba(x["test"])
        facts = {
            "auroc": float(np.nanmean(per_class_auroc(y["test"], scores))),
            "chosen": getattr(probe, "strength", None) or getattr(probe, "best_epoch", None),
            "validation": _validation_score(probe),
            "features": int(x["test"].shape[-1]),
            "records": len(rows),
            "label_subset_sha256": subset.sha256,
        }
        _save(path, {"scores": scores.astype(np.float32), "facts": np.asarray(json.dumps(facts))})

    def _amplitude(self, split: str) -> Array:
        if split not in self.amplitudes:
            path = self.folder / f"amplitude-{digest(self.splits[split].facts)}.npz"
            if not path.exists():
                records = self.splits[split].records
                figures = [signal_figures(records[index], "amplitude") for index in range(len(records))]
                _save(path, {"figures": np.stack(figures)})
            with np.load(path) as stored:
                self.amplitudes[split] = stored["figures"]
        return self.amplitudes[split]


def _validation_score(probe: Any) -> float | None:
    """The figure on the validation records that chose a linear probe's strength: what settings are compared by."""
    if not isinstance(probe, LinearProbe):
        return None
    return float(probe.validation_scores[probe.strength])


def _save(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write an archive that is there whole or not at all."""
    with replacing(path) as beside:
        np.savez(beside, **arrays)
