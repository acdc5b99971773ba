"""Every figure of `metrics.json` a second way, and the saved model against the stored predictions by every door."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from support.small_runs import overrides, small_finetuning
from transformers import pipeline

from ecg_transformers.cli import main
from ecg_transformers.data.loading import load_ecg_dataset
from ecg_transformers.models.registry import get_method
from ecg_transformers.signal.synthesis import synthesize_ecg
from ecg_transformers.training.finetuning import finetune

LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
CLASSES = ("AF", "PVC", "none of these", "sinus")


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty records of four classes, one a record, with folds."""
    folder = tmp_path_factory.mktemp("own records")
    rng = np.random.default_rng(0)
    rows = []
    for index in range(80):
        name = f"r{index:02}.npz"
        signal = rng.standard_normal((1200, 12)) * 0.2
        np.savez(folder / name, signal=signal, sampling_rate=100, lead_names=LEADS)
        rows.append((name, CLASSES[index % 4 if index % 7 else 0], f"p{index // 2}", 1 + (index // 2) % 10))
    pd.DataFrame(rows, columns=["file", "label", "patient_id", "fold"]).to_csv(folder / "labels.csv", index=False)
    return folder


def run(folder: Path, method: str, source: str, data_dir: Path | None, **changes: Any) -> Path:
    data = {"dataset": "folder", "data_dir": str(data_dir), "dataset_options": ""} if data_dir else {}
    arguments = {"mode": "scratch", "seeds": "0,1", "num_crops": 3, "max_steps": 3, "recipe_overrides": "batch_size=4"}
    config = overrides(dict(get_method(method).tiny_config))
    finetune(small_finetuning(folder, source, **{**data, **arguments, "config_overrides": config, **changes}))
    return folder


@pytest.fixture(scope="module", params=["multilabel", "multiclass"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, own_folder: Path) -> Path:
    data = None if request.param == "multilabel" else own_folder
    return run(tmp_path_factory.mktemp(request.param) / "run", "st_mem", "st_mem", data)


def read(folder: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    return json.loads((folder / "metrics.json").read_text()), pd.read_parquet(folder / "predictions.parquet")


def columns(frame: pd.DataFrame, start: str) -> np.ndarray:
    return frame[[name for name in frame if name.startswith(start)]].to_numpy(np.float64)


def by_scikit_learn(truth: np.ndarray, score: np.ndarray, thresholds: Any) -> dict[str, float]:
    """All figures of one seed, from the stored predictions alone."""
    multiclass = thresholds is None
    chosen = np.eye(score.shape[1])[score.argmax(axis=1)] if multiclass else (score >= np.asarray(thresholds))
    counts = truth.sum(axis=0)
    defined = (counts > 0) & (counts < len(truth))
    cells = sk.multilabel_confusion_matrix(truth, chosen)  # (classes, 2, 2): tn fp / fn tp
    with np.errstate(invalid="ignore"):
        sensitivity, specificity = cells[:, 1, 1] / cells[:, 1].sum(axis=1), cells[:, 0, 0] / cells[:, 0].sum(axis=1)
    records_right = sk.accuracy_score(truth.argmax(1), score.argmax(1)) if multiclass else None
    return {
        "macro_auroc": float(np.mean([sk.roc_auc_score(truth[:, c], score[:, c]) for c in np.flatnonzero(defined)])),
        "macro_auprc": float(
            np.mean([sk.average_precision_score(truth[:, c], score[:, c]) for c in np.flatnonzero(defined)])
        ),
        "macro_f1": sk.f1_score(truth, chosen, average="macro", zero_division=0),
        "accuracy": records_right if multiclass else 1 - sk.hamming_loss(truth, chosen),
        "exact_match": sk.accuracy_score(truth, chosen),
        "macro_sensitivity": float(np.nanmean(sensitivity)),
        "macro_specificity": float(np.nanmean(specificity)),
    }


def test_every_figure_is_that_of_scikit_learn(finished: Path) -> None:
    figures, frame = read(finished)
    test = figures["test"]
    seeds = sorted(frame["seed"].unique())
    assert seeds == [0, 1]
    expected = []
    for seed in seeds:
        rows = frame[frame["seed"] == seed]
        truth, score = columns(rows, "y_true_"), columns(rows, "y_score_")
        expected.append(by_scikit_learn(truth, score, test["thresholds"][str(seed)]))
    with_interval = {name for name, entry in test.items() if isinstance(entry, dict) and "ci95" in entry}
    assert with_interval == set(expected[0])
    for name in with_interval:
        values = [entry[name] for entry in expected]
        np.testing.assert_allclose(test[name]["per_seed"], values, atol=1e-9, err_msg=name)
        assert test[name]["mean"] == pytest.approx(np.mean(values), abs=1e-9)
        assert test[name]["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-9)
        assert test[name]["ci95"][0] <= test[name]["mean"] <= test[name]["ci95"][1]


def test_the_figures_of_each_class_are_those_of_scikit_learn(finished: Path) -> None:
    figures, frame = read(finished)
    for position, (name, entry) in enumerate(figures["test"]["per_class"].items()):
        for index, seed in enumerate((0, 1)):
            rows = frame[frame["seed"] == seed]
            truth, score = columns(rows, "y_true_"), columns(rows, "y_score_")
            limits = figures["test"]["thresholds"][str(seed)]
            chosen = score.argmax(1) == position if limits is None else score[:, position] >= limits[position]
            assert entry["support"] == truth[:, position].sum()
            counted = sk.precision_recall_fscore_support(truth[:, position], chosen, labels=[1], zero_division=0)
            stored = [entry[key]["per_seed"][index] for key in ("ppv", "sensitivity", "f1")]
            known = [value if value is not None else 0.0 for value in stored]
            np.testing.assert_allclose(known, [part[0] for part in counted[:3]], atol=1e-9, err_msg=name)


def test_the_record_of_a_run_holds_what_was_used(finished: Path) -> None:
    summary = json.loads((finished / "run.json").read_text())
    assert summary["records_seen"] == 2 * 3 * 4  # seeds, steps, records
    used = {"batch_size": 4, "max_steps": 3, "num_crops": 3, "lr": 1e-3, "warmup_steps": pytest.approx(0.3)}
    assert {name: summary["recipe"][name] for name in used} == used
    assert "epochs" not in summary["recipe"]
    card = (finished / "README.md").read_text()
    assert "- Spent, over all seeds: 24 records seen" in card
    assert f"| macro_auroc | {summary['metrics']['test']['macro_auroc']['mean']:.3f} |" in card


def answers(folder: Path, records: list[Any], doors: str, tmp_path: Path, capsys: Any) -> list[dict[str, float]]:
    """Label to probability for each record, by the pipeline or by the command."""
    if doors == "pipeline":
        results = pipeline("ecg-classification", model=str(folder))(records)
    else:
        capsys.readouterr()
        assert main(["predict", *records, "--model", str(folder)]) == 0
        results = [json.loads(line)["predictions"] for line in capsys.readouterr().out.splitlines()]
    return [{item["label"]: item["score"] for item in result} for result in results]


@pytest.mark.parametrize("door", ["pipeline", "command"])
def test_every_door_gives_the_stored_predictions(
    door: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, own_folder: Path, capsys: Any
) -> None:
    finished = run(tmp_path / "run", "st_mem", "st_mem", own_folder, seeds="4,1")
    frame = read(finished)[1]
    weights = json.loads((finished / "run.json").read_text())["weights_seed"]
    rows = frame[frame["seed"] == weights]
    names = load_ecg_dataset("folder", data_dir=own_folder, split="test")["record_id"]
    assert list(rows["record_id"]) == list(names)
    files = [str(next(own_folder.glob(f"{Path(name).stem}.npz"))) for name in rows["record_id"]]
    for answer, (_, row) in zip(answers(finished, files, door, tmp_path, capsys), rows.iterrows(), strict=True):
        for label, score in answer.items():
            assert score == pytest.approx(row[f"y_score_{label}"], abs=1e-6)


def test_the_pipeline_of_a_beat_model_gives_the_stored_predictions(tmp_path: Path, own_folder: Path) -> None:
    folder = tmp_path / "beats"
    folder.mkdir()
    rows = []
    for index in range(24):
        record = synthesize_ecg(0, index, sampling_rate=100, duration=12)
        np.savez(folder / f"b{index}.npz", signal=record.signal, sampling_rate=100, lead_names=record.lead_names)
        rows.append((f"b{index}.npz", "even" if index % 2 == 0 else "odd", 1 + index % 10))
    pd.DataFrame(rows, columns=["file", "label", "fold"]).to_csv(folder / "labels.csv", index=False)
    finished = run(tmp_path / "run", "ecg_sl", "ecg_sl", folder, seeds="2")
    frame = read(finished)[1]
    classify = pipeline("ecg-classification", model=str(finished))
    for _, row in frame.iterrows():
        for item in classify(str(folder / f"{Path(row['record_id']).stem}.npz")):
            assert item["score"] == pytest.approx(row[f"y_score_{item['label']}"], abs=1e-6)
