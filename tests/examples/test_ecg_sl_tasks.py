"""The script of the ECG-SL tasks on small folders in native layout: splits, disturbed segmentation, what is written."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ecg_transformers.signal.synthesis import synthesize_ecg
from ecg_transformers.training.errors import UsageError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DS1, DS2 = ("119", "201", "208", "209"), ("100",)
SECONDS, RATE = 40, 360


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


tasks, report = script("ecg_sl_tasks"), script("ecg_sl_report")


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    before = os.environ.get("ECG_CACHE_DIR")
    os.environ["ECG_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["ECG_CACHE_DIR"]
    else:
        os.environ["ECG_CACHE_DIR"] = before


def write_record(folder: Path, name: str, signal: np.ndarray, rate: int, lead: str) -> None:
    import wfdb

    wfdb.wrsamp(
        name, rate, ["mV"], [lead], signal[:, None], fmt=["16"], adc_gain=[200], baseline=[0], write_dir=str(folder)
    )


@pytest.fixture(scope="module")
def mitdb(tmp_path_factory) -> Path:
    """Five records with N, S, V and a few F beats; the form of a beat says nothing of N against S."""
    import wfdb

    folder = tmp_path_factory.mktemp("mitdb")
    for number, name in enumerate(DS1 + DS2):
        ecg = synthesize_ecg(5, number, sampling_rate=RATE, duration=SECONDS, labels=("sinus",))
        write_record(folder, name, ecg.signal[:, 1], RATE, "MLII")
        symbols = [("N", "A", "V", "N", "F")[beat % 5] for beat in range(len(ecg.r_peaks))]
        wfdb.wrann(name, "atr", ecg.r_peaks, symbols, write_dir=str(folder))
    return folder


@pytest.fixture(scope="module")
def apnea(tmp_path_factory) -> Path:
    """Nights of six minutes; the second half of each is apneic."""
    import wfdb

    folder = tmp_path_factory.mktemp("apnea")
    for number, name in enumerate(("a01", "a02", "b01", "c01", "x01")):
        ecg = synthesize_ecg(6, number, sampling_rate=100, duration=6 * 60 + 5, labels=("sinus",))
        write_record(folder, name, ecg.signal[:, 1], 100, "ECG")
        wfdb.wrann(name, "apn", np.arange(6) * 6000, list("NNNAAA"), write_dir=str(folder))
    return folder


@pytest.fixture(scope="module")
def beats_run(mitdb, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "beats"
    args = tasks.TaskArguments(
        task="mitdb_beats",
        data_dir=str(mitdb),
        output_dir=str(folder),
        pretraining="none",
        segmentation="detect,drop:0.5",
        seeds="0,1",
        max_steps=2,
        n_boot=20,
    )
    return folder, tasks.run_task(args)


def test_every_labelled_beat_of_ds1_is_predicted_once_a_seed(beats_run, mitdb):
    import wfdb

    folder, metrics = beats_run
    table = pd.read_parquet(folder / "predictions.parquet")
    symbols = [symbol for name in DS1 for symbol in wfdb.rdann(str(mitdb / name), "atr").symbol]
    assert metrics["data"]["beats"] == {"N": symbols.count("N"), "S": symbols.count("A"), "V": symbols.count("V")}
    assert metrics["data"]["left_out_beats"] == symbols.count("F")
    for _, part in table.groupby("seed"):
        assert part["record_id"].is_unique
        assert len(part) == len(symbols) - symbols.count("F")
        assert set(part["patient_id"]) == set(DS1)
    scores = table[[f"y_score_{name}" for name in "NSV"]].to_numpy()
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert json.loads((folder / "metrics.json").read_text())["ecg_sl"]["pretraining"] == "none"


def test_missed_beats_count_against_the_segmentation(beats_run):
    _, metrics = beats_run
    dropped = metrics["ecg_sl"]["segmentation"]["drop:0.5"]
    assert 0.3 < dropped["found"] < 0.7
    assert dropped["macro_f1"]["mean"] < metrics["test"]["macro_f1"]["mean"]
    assert metrics["ecg_sl"]["segmentation"]["detect"]["found"] > 0.9


def test_the_saved_classifier_of_beats_finds_its_own_peaks(beats_run):
    from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification

    folder, _ = beats_run
    features = AutoFeatureExtractor.from_pretrained(folder)(
        np.asarray(synthesize_ecg(5, 9, sampling_rate=RATE).signal[:, 1]), sampling_rate=RATE, return_tensors="pt"
    )
    logits = AutoModelForSequenceClassification.from_pretrained(folder).eval()(**features).logits
    assert logits.shape == (*features["beat_mask"].shape, 3)


def test_held_out_records_are_never_trained_on(mitdb):
    args = tasks.TaskArguments(task="mitdb_beats", data_dir=str(mitdb))
    records, tests = tasks.load_beat_records(args)
    assert [record.record_id for record in records] == list(DS1)
    assert [record.record_id for record in tests] == list(DS2)
    for choice in ("leave_one_out", "2"):
        folds = tasks.beat_folds(choice, records, tests)
        assert sorted(record.record_id for held_out in folds for record in held_out) == list(DS1)
        for held_out in folds:
            used = {record.record_id for record in tasks.without(records, held_out)}
            assert used == set(DS1) - {record.record_id for record in held_out}
    assert tasks.beat_folds("ds2", records, tests) == [tests]
    with pytest.raises(UsageError, match="--folds"):
        tasks.beat_folds("9", records, tests)


@pytest.mark.parametrize("segmentation", ["jitter:0", "jitter:40", "drop:0.3"])
def test_disturbed_peaks_stay_increasing_samples_of_the_record(segmentation):
    peaks = np.arange(2, 100_000, 250)
    moved = tasks.disturb(peaks, 360.0, segmentation, np.random.default_rng(0), 100_000)
    assert (np.diff(moved) > 0).all()
    assert moved.min() >= 0
    assert moved.max() < 100_000
    if segmentation == "jitter:40":
        assert np.std(moved - peaks) == pytest.approx(0.04 * 360, rel=0.1)
    elif segmentation == "jitter:0":
        np.testing.assert_array_equal(moved, peaks)
    else:
        assert len(moved) == pytest.approx(0.7 * len(peaks), rel=0.1)


@pytest.mark.parametrize(
    "wrong", [{"segmentation": "jitter"}, {"segmentation": "drop:1"}, {"task": "beats"}, {"aggregation": "sum"}]
)
def test_arguments_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(UsageError, match=f"--{next(iter(wrong))}"):
        tasks.TaskArguments(**wrong).check()


def test_minutes_of_apnea_run_through_the_common_fine_tuning(apnea, tmp_path):
    args = tasks.TaskArguments(
        task="apnea_minutes",
        data_dir=str(apnea),
        output_dir=str(tmp_path / "out"),
        pretraining="none",
        aggregation="mean",
        segmentation="jitter:20",
        seeds="0",
        max_steps=2,
        n_boot=20,
    )
    metrics = tasks.run_task(args)
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert table["record_id"].tolist() == [f"x01/{minute:04d}" for minute in range(6)]
    assert table["y_true_apnea"].tolist() == [0, 0, 0, 1, 1, 1]
    assert metrics["ecg_sl"]["per_record"]["nights"] == 1
    assert metrics["ecg_sl"]["aggregation"] == "mean"
    assert set(metrics["ecg_sl"]["segmentation"]) == {"jitter:20"}
    assert {"macro_sensitivity", "macro_specificity", "accuracy", "macro_f1"} <= set(metrics["test"])


def test_each_stage_starts_from_the_one_before_and_is_kept(monkeypatch, tmp_path):
    calls = []

    def pretend(settings):
        calls.append((settings.stage, settings.model_name_or_path))
        Path(settings.output_dir).mkdir(parents=True)
        (Path(settings.output_dir) / "run.json").write_text("{}")

    monkeypatch.setattr(tasks, "pretrain", pretend)
    args = tasks.TaskArguments(data_dir="x", pretrained_dir=str(tmp_path), pretraining="both")
    first = str(tmp_path / "II" / "autoencoder")
    assert tasks.pretrained_model(args) == tmp_path / "II" / "both"
    assert tasks.pretrained_model(args) == tmp_path / "II" / "both"
    assert calls == [("autoencoder", None), ("masked", first)]
    assert tasks.pretrained_model(tasks.TaskArguments(pretraining="none")) is None


def test_the_report_puts_its_tables_between_the_markers(beats_run, tmp_path):
    folder, metrics = beats_run
    card = tmp_path / "card.md"
    card.write_text("before\n<!-- beats -->\nold\n<!-- end of beats -->\nafter\n")
    report.main(["runs", str(folder), "--card", str(card), "--table", "beats"])
    text = card.read_text()
    assert text.startswith("before\n<!-- beats -->\n| run |")
    assert text.endswith("|\n<!-- end of beats -->\nafter\n")
    assert f"{metrics['test']['macro_f1']['mean']:.3f}" in text
    assert "old" not in text
    table = report.segmentation_table(SimpleNamespace(folders=[str(folder)]))
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == ["| clean", "| detect", "| drop:0.5"]
    with pytest.raises(UsageError, match="markers"):
        report.main(["runs", str(folder), "--card", str(card), "--table", "other"])
