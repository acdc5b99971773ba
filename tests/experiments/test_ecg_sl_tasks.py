"""The script of the ECG-SL tasks on small folders in native layout: splits, disturbed segmentation, what is written."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import ecg_sl_beats as beats
import ecg_sl_report as report
import ecg_sl_tasks as tasks
import ecg_sl_variant as variant
import numpy as np
import pandas as pd
import pytest

from ecg_transformers.signal.synthesis import synthesize_ecg
from ecg_transformers.training.errors import UsageError

DS1, DS2 = ("119", "201", "208", "209"), ("100",)
SECONDS, RATE = 40, 360


pytestmark = pytest.mark.usefixtures("own_cache")


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
    records, tests = beats.load_beat_records(args)
    assert [record.record_id for record in records] == list(DS1)
    assert [record.record_id for record in tests] == list(DS2)
    for choice in ("leave_one_out", "2"):
        folds = beats.beat_folds(choice, records, tests)
        assert sorted(record.record_id for held_out in folds for record in held_out) == list(DS1)
        for held_out in folds:
            used = {record.record_id for record in beats.without(records, held_out)}
            assert used == set(DS1) - {record.record_id for record in held_out}
    assert beats.beat_folds("ds2", records, tests) == [tests]
    with pytest.raises(UsageError, match="--folds"):
        beats.beat_folds("9", records, tests)


PEAKS = np.arange(2, 100_000, 250)


def disturbed(segmentation: str) -> np.ndarray:
    return variant.disturb(PEAKS, 360.0, segmentation, np.random.default_rng(0), 100_000)


@pytest.mark.parametrize("segmentation", ["jitter:0", "jitter:40", "drop:0.3"])
def test_disturbed_peaks_stay_increasing_samples_of_the_record(segmentation):
    moved = disturbed(segmentation)
    assert (np.diff(moved) > 0).all()
    assert moved.min() >= 0
    assert moved.max() < 100_000


def test_disturbed_peaks_are_as_wrong_as_they_should_be():
    np.testing.assert_array_equal(disturbed("jitter:0"), PEAKS)
    assert np.std(disturbed("jitter:40") - PEAKS) == pytest.approx(0.04 * 360, rel=0.1)
    assert len(disturbed("drop:0.3")) == pytest.approx(0.7 * len(PEAKS), rel=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"segmentation": "jitter"},
        {"segmentation": "drop:1"},
        {"task": "beats"},
        {"aggregation": "sum"},
        {"label_fraction": 0.0},
        {"label_fraction": 0.1, "task": "mitdb_beats"},
        {"seeds": "0,0"},
    ],
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


def test_each_seed_starts_from_the_pretraining_of_its_own_seed(monkeypatch, tmp_path):
    calls = []

    def pretend(settings):
        calls.append((settings.stage, settings.seed, settings.model_name_or_path))
        Path(settings.output_dir).mkdir(parents=True)
        text = json.dumps({"arguments": dataclasses.asdict(settings)})
        (Path(settings.output_dir) / "run.json").write_text(text)

    monkeypatch.setattr(variant, "pretrain", pretend)
    args = tasks.TaskArguments(data_dir="x", pretrained_dir=str(tmp_path), pretraining="both", pretrain_steps=5)
    for _ in range(2):  # what is there is kept
        for seed in (0, 3):
            assert tasks.pretrained_model(args, seed) == tmp_path / "II" / f"seed-{seed}" / "both"
    first = [str(tmp_path / "II" / f"seed-{seed}" / "autoencoder") for seed in (0, 3)]
    assert calls == [
        ("autoencoder", 0, None),
        ("masked", 0, first[0]),
        ("autoencoder", 3, None),
        ("masked", 3, first[1]),
    ]
    alone = dataclasses.replace(args, pretraining="masked")
    assert tasks.pretrained_model(alone, 0) == tmp_path / "II" / "seed-0" / "masked"
    assert calls[-1] == ("masked", 0, None)
    assert tasks.pretrained_model(dataclasses.replace(args, pretraining="none"), 0) is None
    with pytest.raises(UsageError, match="max_steps 5, but 6"):
        tasks.pretrained_model(dataclasses.replace(args, pretrain_steps=6), 0)


@pytest.fixture(scope="module")
def few_of_ptb_xl(ecg_data_dir, tmp_path_factory) -> Path:
    """PTB-XL with six records a fold."""
    whole, folder = ecg_data_dir / "ptb-xl", tmp_path_factory.mktemp("ptb_xl")
    table = pd.read_csv(whole / "ptbxl_database.csv", dtype=str)
    table = table[[(whole / f"{name}.hea").is_file() for name in table["filename_lr"]]]
    table = table.groupby("strat_fold").head(6)
    table.to_csv(folder / "ptbxl_database.csv", index=False)
    for name in (
        "scp_statements.csv",
        *(f"{record}{end}" for record in table["filename_lr"] for end in (".hea", ".dat")),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(whole / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def record_runs(few_of_ptb_xl, tmp_path_factory):
    """PTB-XL, two seeds, from scratch and from both stages, with half of the labels."""
    folder = tmp_path_factory.mktemp("records")
    metrics = {}
    for pretraining in ("none", "both"):
        args = tasks.TaskArguments(
            data_dir=str(few_of_ptb_xl),
            output_dir=str(folder / pretraining),
            pretrained_dir=str(folder / "pretrained"),
            pretraining=pretraining,
            pretrain_steps=1,
            segmentation="drop:0.3",
            label_fraction=0.5,
            seeds="0,1",
            max_steps=1,
            n_boot=20,
        )
        metrics[pretraining] = tasks.run_task(args)
    return folder, metrics


def test_the_seeds_of_a_record_task_are_put_together(record_runs):
    from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification

    folder, metrics = record_runs
    for name, found in metrics.items():
        table = pd.read_parquet(folder / name / "predictions.parquet")
        assert sorted(table["seed"].unique()) == [0, 1]
        assert found["label_fraction"] == 0.5
        assert set(found["label_subsets"]) == set(found["best_steps"]) == set(found["test"]["thresholds"]) == {"0", "1"}
        for index, seed in enumerate((0, 1)):
            own = folder / name / "seeds" / f"seed-{seed}"
            alone = json.loads((own / "metrics.json").read_text())
            assert found["test"]["macro_auroc"]["per_seed"][index] == alone["test"]["macro_auroc"]["mean"]
            assert found["test"]["macro_f1"]["per_seed"][index] == alone["test"]["macro_f1"]["mean"]
            part = table[table["seed"] == seed].reset_index(drop=True)
            pd.testing.assert_frame_equal(part, pd.read_parquet(own / "predictions.parquet"))
        assert len(found["ecg_sl"]["segmentation"]["drop:0.3"]["macro_f1"]["per_seed"]) == 2
    AutoFeatureExtractor.from_pretrained(folder / "both")
    assert AutoModelForSequenceClassification.from_pretrained(folder / "both").config.id2label[0] == "CD"


def test_differences_are_those_of_the_seeds(record_runs):
    folder, metrics = record_runs
    runs = [str(folder / "none"), str(folder / "both")]
    table = report.differences_table(SimpleNamespace(folders=runs, n_boot=20))
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    assert [row[:2] for row in rows] == [["both − none", "macro F1"], ["both − none", "macro AUROC"]]
    for row, metric in zip(rows, ("macro_f1", "macro_auroc"), strict=True):
        pairs = zip(*(metrics[name]["test"][metric]["per_seed"] for name in ("both", "none")), strict=True)
        assert row[5:] == [f"{both - none:+.3f}" for both, none in pairs]
    with pytest.raises(UsageError, match="base"):
        report.differences_table(SimpleNamespace(folders=runs[:1], n_boot=20))


def test_the_losses_of_the_pretraining_are_read_from_its_logs(record_runs):
    folder, _ = record_runs
    table = report.pretraining_table(SimpleNamespace(folders=[str(folder / "pretrained" / "II")]))
    rows = [line.strip("| ").split(" | ")[:5] for line in table.splitlines()[2:]]
    assert rows == [
        ["II", name, stage, seed, "1"]
        for name, stage in (("autoencoder", "autoencoder"), ("both", "masked"))
        for seed in "01"
    ]


def test_the_report_puts_its_tables_between_the_markers(beats_run, tmp_path):
    folder, metrics = beats_run
    card = tmp_path / "card.md"
    card.write_text("before\n<!-- beats -->\nold\n<!-- end of beats -->\nafter\n")
    report.main(["runs", str(folder), "--card", str(card), "--table", "beats"])
    text = card.read_text()
    assert text.startswith("before\n<!-- beats -->\n| run |")
    assert text.endswith("</details>\n<!-- end of beats -->\nafter\n")
    assert f"{metrics['test']['macro_f1']['mean']:.3f}" in text
    assert "old" not in text
    table = report.segmentation_table(SimpleNamespace(folders=[str(folder)]))
    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == ["| clean", "| detect", "| drop:0.5"]
    with pytest.raises(UsageError, match="markers"):
        report.main(["runs", str(folder), "--card", str(card), "--table", "other"])
