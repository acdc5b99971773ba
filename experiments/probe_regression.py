"""Heart rate or QRS duration from the frozen features of any checkpoint, by ridge regression.

    python experiments/probe_regression.py --model_name_or_path CHECKPOINT --dataset ptb_xl --data_dir PTB_XL_FOLDER \\
        --target heart_rate --output_dir OUT
    python experiments/probe_regression.py --model_name_or_path A,B,C --dataset ludb --data_dir LUDB_FOLDER \\
        --target qrs_duration --cross_fit --output_dir OUT

The strength of the penalty is chosen on the validation split (PTB-XL: trained on folds 1-8, chosen on 9, tested on 10);
`--cross_fit` makes each fold of a small corpus the test fold once. Where a corpus marks waves or beats they are the
labels, elsewhere the package's R-peak detector gives the heart rate of the whole record. `OUT/metrics.json` holds the
mean absolute error with its interval over patients, beside two controls: the same network as it was before
pre-training, and the mean of the training labels.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining

import ecg_transformers as ecg
from ecg_transformers.data.fingerprint import dataset_fingerprint
from ecg_transformers.data.loading import RecordTable
from ecg_transformers.evaluation.probes import RidgeProbe
from ecg_transformers.evaluation.readouts import encode_batch
from ecg_transformers.evaluation.statistics import (
    bootstrap_p_value,
    cluster_index,
    percentile_interval,
    resample_weights,
)
from ecg_transformers.models.registry import get_method
from ecg_transformers.signal.beats import detect_r_peaks
from ecg_transformers.training.arguments import parse_arguments, parse_overrides
from ecg_transformers.training.errors import UsageError, run_command, usage_errors
from ecg_transformers.training.plan.randomness import seed_global_generators

BATCH = 32
UNITS = {"heart_rate": "beats per minute", "qrs_duration": "ms"}
PRETRAINED, UNTRAINED, MEAN = "pretrained", "untrained network", "mean of the training labels"


@dataclass
class RegressionArguments:
    """What is regressed from which features."""

    model_name_or_path: str = field(
        metadata={"help": "Checkpoint (folder or Hub repository); several, separated by commas, are averaged over."}
    )
    output_dir: str = field(metadata={"help": "Folder for metrics.json."})
    dataset: str = field(default="synthetic", metadata={"help": "Corpus name of load_ecg_dataset."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder of the corpus in its native layout."})
    dataset_options: str = field(default="", metadata={"help": "Further options of the corpus, key=value,…"})
    target: str = field(default="heart_rate", metadata={"help": "heart_rate or qrs_duration (needs wave marks)."})
    readout: str = field(default="per_lead", metadata={"help": "mean, per_lead, per_lead_spread or pooled."})
    leads: str | None = field(default=None, metadata={"help": "Leads the model sees (default: all of the model's)."})
    num_crops: int = field(default=3, metadata={"help": "Evenly spaced crops of a record, their features averaged."})
    cross_fit: bool = field(default=False, metadata={"help": "Each fold of the corpus is the test fold once."})
    seed: int = field(default=0, metadata={"help": "Of the untrained network, where the checkpoint names no seed."})
    n_boot: int = field(default=2000, metadata={"help": "Resamples of the patient bootstrap."})

    def check(self) -> None:
        """Raise `UsageError` for values that cannot be meant."""
        if self.target not in UNITS:
            raise UsageError(f"--target must be {' or '.join(UNITS)}, not {self.target!r}.")
        if self.num_crops < 1 or self.n_boot < 1:
            raise UsageError("--num_crops and --n_boot must be at least 1.")


def main() -> None:
    args = parse_arguments(RegressionArguments, "Regress a number from frozen features.")
    metrics = regress(args)
    for name, entry in metrics["test"]["mae"].items():
        low, high = entry["ci95"]
        print(f"{name:28} MAE {entry['mean']:.3f} {metrics['unit']}  95 % interval [{low:.3f}, {high:.3f}]")


def regress(args: RegressionArguments) -> dict[str, Any]:
    """Labels, features, ridge regression and figures of a run; written to `metrics.json` and returned.

    Raises:
        UsageError: unknown target, corpus, lead or checkpoint, or a corpus without labels of the target.
    """
    args.check()
    records, splits, facts = load_records(args)
    rows = [measure(record, args.target) for record in records]
    known = np.array([np.isfinite(value) for value, _ in rows])
    if not known.any():
        raise UsageError(f"No record of {args.dataset} has what {args.target} is measured from.")
    kept = [records[index] for index in np.flatnonzero(known)]
    target = np.array([value for value, _ in rows])[known]
    rounds = plan_rounds(np.asarray(splits, dtype=object)[known], args.cross_fit)
    tested = np.concatenate([test for _, _, test in rounds])
    errors: dict[str, list[np.ndarray]] = {PRETRAINED: [], UNTRAINED: []}
    strengths: list[dict[str, list[float]]] = []
    for source in [part.strip() for part in args.model_name_or_path.split(",") if part.strip()]:
        strengths.append({})
        for name, features in both_features(args, source, kept).items():
            error, strengths[-1][name] = ridge_errors(features, target, rounds)
            errors[name].append(error)
    errors[MEAN] = [np.concatenate([np.abs(target[test] - target[train].mean()) for train, _, test in rounds])]
    metrics = {
        "target": args.target,
        "unit": UNITS[args.target],
        "labels_from": sorted({origin for _, origin in rows if origin}),
        "test": summarize(errors, [kept[index].patient_id for index in tested], args.n_boot),
        "test_labels": {"mean": float(target[tested].mean()), "sd": float(target[tested].std())},
        "records": [{name: len(part) for name, part in zip(("train", "validation", "test"), each)} for each in rounds],
        "left_out": [record.record_id for record, is_known in zip(records, known) if not is_known],
        "strengths": strengths,
        "arguments": vars(args),
        "data": facts,
    }
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return metrics


def load_records(args: RegressionArguments) -> tuple[list[Any], list[Any], dict[str, Any]]:
    """All records, the split of each (its fold with `--cross_fit`), and a fingerprint of each split."""
    options = parse_overrides(args.dataset_options, "dataset_options")
    with usage_errors(TypeError):
        parts = ecg.load_ecg_dataset(args.dataset, data_dir=args.data_dir, **options)
    records, splits = [], []
    for name, part in parts.items():
        table = RecordTable(part)
        records += [table[index] for index in range(len(table))]
        splits += list(part["fold"]) if args.cross_fit else [name] * len(table)
    return records, splits, {name: dataset_fingerprint(part) for name, part in parts.items()}


def measure(record: Any, target: str) -> tuple[float, str | None]:
    """The label of a record and what it was measured from; NaN and None where it cannot be had."""
    marks, rate = record.annotations or {}, record.sampling_rate
    if target == "qrs_duration":
        return (1000 / rate * qrs_duration(marks), "wave marks") if "wave_symbols" in marks else (float("nan"), None)
    if "wave_symbols" in marks:
        return rate_of_leads(qrs_peaks(marks)) * rate, "wave marks"
    if "beat_samples" in marks:
        return rate_of_leads([np.asarray(marks["beat_samples"])]) * rate, "beat annotations"
    return rate_of_leads([detect_r_peaks(lead, rate) for lead in record.signal.T]) * rate, "detected R peaks"


def rate_of_leads(peaks: list[np.ndarray]) -> float:
    """Beats per minute at a sampling rate of 1: of each lead 60 / median RR, of these the median over leads."""
    rates = [60 / np.median(np.diff(lead)) for lead in peaks if len(lead) >= 3]
    return float(np.median(rates)) if rates else float("nan")


def qrs_peaks(marks: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Samples of the QRS complexes, lead by lead."""
    leads, is_qrs = marks["wave_leads"], marks["wave_symbols"] == "N"
    return [marks["wave_samples"][is_qrs & (leads == lead)] for lead in dict.fromkeys(leads.tolist())]


def qrs_duration(marks: dict[str, np.ndarray]) -> float:
    """Samples from the onset to the offset mark of a QRS complex, the median over complexes and leads."""
    leads, symbols, samples = (marks[f"wave_{key}"].tolist() for key in ("leads", "symbols", "samples"))
    durations = [
        samples[peak + 1] - samples[peak - 1]
        for peak in range(1, len(symbols) - 1)
        if symbols[peak - 1 : peak + 2] == ["(", "N", ")"] and leads[peak - 1] == leads[peak + 1]
    ]
    return float(np.median(durations)) if durations else float("nan")


def plan_rounds(splits: np.ndarray, cross_fit: bool) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Indices (train, validation, test) of each round: the corpus's own split, or every fold as the test fold once."""
    if not cross_fit:
        parts = [np.flatnonzero(splits == name) for name in ("train", "validation", "test")]
        if any(len(part) == 0 for part in parts):
            raise UsageError("The corpus has no train, validation and test records with a label: try --cross_fit.")
        return [(parts[0], parts[1], parts[2])]
    folds = sorted({fold for fold in splits.tolist() if fold is not None})
    if len(folds) < 3:
        raise UsageError(f"--cross_fit needs a corpus with three folds at least, this one has {len(folds)}.")
    rounds = []
    for position, fold in enumerate(folds):
        test, validation = splits == fold, splits == folds[position - 1]
        rounds.append((np.flatnonzero(~test & ~validation), np.flatnonzero(validation), np.flatnonzero(test)))
    return rounds


def both_features(args: RegressionArguments, source: str, records: list[Any]) -> dict[str, np.ndarray]:
    """Features `(records, F)` of the checkpoint, and of the same network before its first update."""
    changes = {"lead_names": [lead.strip() for lead in args.leads.split(",")]} if args.leads else {}
    with usage_errors():
        extractor = AutoFeatureExtractor.from_pretrained(source, **changes)
        models = {PRETRAINED: AutoModel.from_pretrained(source)}
    models[UNTRAINED] = untrained(models[PRETRAINED].config, seed_of(source, args.seed))
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in models}
    with usage_errors():
        for start in range(0, len(records), BATCH):
            batch = extractor(records[start : start + BATCH], num_crops=args.num_crops, return_tensors="pt")
            for name, model in models.items():
                blocks[name].append(encode_batch(model, batch, args.readout).cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in blocks.items()}


def untrained(config: Any, seed: int) -> Any:
    """The encoder as the pre-training of this seed drew it, before its first update."""
    has_pretraining = "pretraining" in get_method(config.model_type).model_classes
    seed_global_generators(seed, "initial weights")
    return (AutoModelForPreTraining if has_pretraining else AutoModel).from_config(config).base_model


def seed_of(source: str, default: int) -> int:
    """The seed that a checkpoint's `run.json` names."""
    path = Path(source) / "run.json"
    return int(json.loads(path.read_text(encoding="utf-8"))["seeds"][0]) if path.is_file() else default


def ridge_errors(features: np.ndarray, target: np.ndarray, rounds: list[Any]) -> tuple[np.ndarray, list[float]]:
    """Absolute errors of the test records of all rounds, and the strengths that the validation records chose."""
    errors, strengths = [], []
    for train, validation, test in rounds:
        probe = RidgeProbe().fit(features[train], target[train], features[validation], target[validation])
        errors.append(np.abs(probe.predict(features[test])[:, 0] - target[test]))
        strengths.append(probe.strength)
    return np.concatenate(errors), strengths


def summarize(errors: dict[str, list[np.ndarray]], patients: list[str | None], n_boot: int) -> dict[str, Any]:
    """Mean absolute errors and their differences, each with its interval from the same resamples of patients."""
    clusters, kind = cluster_index(patients, len(patients))
    weights = resample_weights(clusters, n_boot, np.random.default_rng(0))
    mean_errors = {name: np.mean(parts, axis=0) for name, parts in errors.items()}  # over the checkpoints
    draws = {name: weights @ error / weights.sum(axis=1) for name, error in mean_errors.items()}
    mae = {
        name: {
            "per_checkpoint": [float(part.mean()) for part in parts],
            "mean": float(mean_errors[name].mean()),
            "sd_of_absolute_error": float(mean_errors[name].std()),
            "ci95": percentile_interval(draws[name]),
        }
        for name, parts in errors.items()
    }
    differences = {}
    for control in (UNTRAINED, MEAN):
        change = draws[PRETRAINED] - draws[control]
        differences[f"{PRETRAINED} - {control}"] = {
            "difference": mae[PRETRAINED]["mean"] - mae[control]["mean"],
            "ci95": percentile_interval(change),
            "p_value": bootstrap_p_value(change),
        }
    return {"mae": mae, "differences": differences, "n_records": len(patients), "cluster": kind, "n_boot": n_boot}


if __name__ == "__main__":
    sys.exit(run_command(main))
