"""Bad records end nothing: all are told before the first step, or left out and counted."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.small_runs import small_finetuning, small_pretraining

from ecg_transformers.training import finetuning, pretraining
from ecg_transformers.training.errors import Interrupted, UsageError

LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
BAD = {
    3: "r03",
    5: "no such file 'r05.npz'",
    7: "r07",
    11: "r11",
    13: "r13.docx",
    15: "r15",
    19: "r19.npz",
    23: "r23",
    27: "row 29 names the same record as row 28",
    29: "row 31: its column 'label' is empty",
}
OWN = {"dataset": "folder", "dataset_options": "", "max_steps": 2, "recipe_overrides": "batch_size=4"}


def write_folder(folder: Path) -> Path:
    """Forty records in ten folds; ten of them cannot be used, each for another reason."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for index in range(40):
        signal, leads = rng.standard_normal((1000, 12)) * 0.2, LEADS
        if index == 3:
            signal[100:500] = np.nan
        elif index == 7:
            signal = signal[:50]
        elif index == 11:
            signal[:] = 0
        elif index == 15:
            signal, leads = signal[:, :2], ["II", "V1"]
        elif index == 23:
            signal[5, 3] = np.inf
        name = f"r{index:02}.npz"
        np.savez(folder / name, signal=signal, sampling_rate=100, lead_names=leads)
        if index == 19:
            (folder / name).write_bytes(b"broken")
        if index in (5, 13, 27):
            (folder / name).unlink()
        if index == 13:
            name = "r13.docx"
            (folder / name).write_bytes(b"words")
        label = "" if index == 29 else "AF" if index % 2 else "N"
        rows.append(("r26.npz" if index == 27 else name, label, f"p{index}", index // 4 + 1))
    pd.DataFrame(rows, columns=["file", "label", "patient_id", "fold"]).to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("own") / "records")


def run(verb: str, folder: Path, data: Path, **changes: Any) -> Any:
    given = {**OWN, "data_dir": str(data), **changes}
    if verb == "pretrain":
        return pretraining.pretrain(small_pretraining(folder, **given))
    return finetuning.finetune(small_finetuning(folder, "st_mem", mode="scratch", config_overrides=SMALL, **given))


SMALL = small_pretraining(Path()).config_overrides


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_all_bad_records_are_told_before_the_first_step(verb: str, tmp_path: Path, records: Path) -> None:
    with pytest.raises(UsageError) as caught:
        run(verb, tmp_path / "out", records)
    sentence = str(caught.value)
    assert all(name in sentence for name in BAD.values()), sentence
    assert "--on_bad_record skip" in sentence
    assert "lead_names=" not in sentence
    assert caught.value.is_shared  # of several processes one tells it
    assert not list((tmp_path / "out").glob("*log*"))


@pytest.mark.parametrize(("verb", "scored"), [("pretrain", None), ("finetune", 40 - len(BAD))])
def test_skipped_records_are_counted_in_the_summary_and_the_card(
    verb: str, scored: int | None, tmp_path: Path, records: Path
) -> None:
    summary = run(verb, tmp_path / "out", records, on_bad_record="skip")
    assert sum(summary.skipped.values()) == len(BAD)
    stored = json.loads((tmp_path / "out" / "run.json").read_text())
    assert stored["skipped"] == summary.skipped
    metrics = tmp_path / "out" / "metrics.json"
    splits = json.loads(metrics.read_text())["data"]["splits"] if metrics.is_file() else None
    assert (splits and sum(split["records"] for split in splits.values())) == scored


def test_bad_records_of_splits_that_are_not_trained_on_are_told_too(tmp_path: Path, records: Path) -> None:
    data = tmp_path / "records"
    shutil.copytree(records, data)
    np.savez(data / "r38.npz", signal=np.zeros((1000, 12)), sampling_rate=100, lead_names=LEADS)  # in the test fold
    with pytest.raises(UsageError, match=rf"{len(BAD) + 1} records (.|\n)*r38.*flat"):
        run("pretrain", tmp_path / "out", data)


def test_advice_is_in_the_words_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "bare.npy", np.random.default_rng(0).standard_normal((1000, 12)))
    np.savez(tmp_path / "data" / "sound.npz", signal=np.eye(1000, 12), sampling_rate=100, lead_names=LEADS)
    with pytest.raises(UsageError, match=r"pass --dataset_options sampling_rate=HZ,lead_names=\[I,II,…\]"):
        run("pretrain", tmp_path / "out", tmp_path / "data")


def test_a_patient_in_two_splits_loses_the_records_of_the_second(tmp_path: Path, records: Path) -> None:
    data = tmp_path / "records"
    shutil.copytree(records, data)
    table = pd.read_csv(data / "labels.csv")
    table = table[~table.index.isin(BAD)]
    table.loc[table["file"] == "r38.npz", "patient_id"] = "p0"
    table.to_csv(data / "labels.csv", index=False)
    with pytest.raises(UsageError, match=r"r38: its patient 'p0' has records in 'train'"):
        run("finetune", tmp_path / "out", data)
    assert run("pretrain", tmp_path / "pre", data, on_bad_record="skip").skipped == {"patient in two splits": 1}


def test_a_run_goes_on_after_the_bad_records_are_taken_out(tmp_path: Path, records: Path) -> None:
    data = tmp_path / "records"
    shutil.copytree(records, data)
    with pytest.raises(Interrupted):
        run("pretrain", tmp_path / "out", data, on_bad_record="skip", stop_after_step=1)
    table = pd.read_csv(data / "labels.csv")
    table[~table.index.isin(BAD)].to_csv(data / "labels.csv", index=False)
    for index in BAD:
        (data / f"r{index:02}.npz").unlink(missing_ok=True)
    assert run("pretrain", tmp_path / "out", data, resume_from_checkpoint="latest").steps == 2


def test_changed_records_are_refused_unless_they_are_meant(tmp_path: Path, records: Path) -> None:
    data = tmp_path / "records"
    shutil.copytree(records, data)
    common = {"on_bad_record": "skip", "max_steps": 3}
    with pytest.raises(Interrupted):
        run("pretrain", tmp_path / "out", data, **common, stop_after_step=1)
    signal = np.random.default_rng(9).standard_normal((1000, 12)) * 0.2
    np.savez(data / "r00.npz", signal=signal, sampling_rate=100, lead_names=LEADS)
    with pytest.raises(UsageError, match="allow_changed_data"):
        run("pretrain", tmp_path / "out", data, **common, resume_from_checkpoint="latest")
    summary = run(
        "pretrain", tmp_path / "out", data, **common, resume_from_checkpoint="latest", allow_changed_data=True
    )
    assert [change["from_step"] for change in summary.dataset["changes"]] == [1]


def test_a_split_that_ends_empty_is_an_error(tmp_path: Path) -> None:
    data = tmp_path / "records"
    data.mkdir()
    for index in range(12):
        signal = np.random.default_rng(index).standard_normal((1000 if index < 11 else 20, 12)) * 0.2
        np.savez(data / f"r{index:02}.npz", signal=signal, sampling_rate=100, lead_names=LEADS)
    rows = [(f"r{index:02}.npz", "AB"[index % 2], index // 2 + 1 if index < 11 else 99) for index in range(12)]
    pd.DataFrame(rows, columns=["file", "label", "fold"]).to_csv(data / "labels.csv", index=False)
    with pytest.raises(UsageError, match=r"test split .* no usable record"):
        run("finetune", tmp_path / "out", data, on_bad_record="skip")
