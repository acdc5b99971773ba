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
BAD = {3: "r03", 7: "r07", 11: "r11", 15: "r15", 19: "r19.npz", 23: "r23"}
OWN = {"dataset": "folder", "dataset_options": "", "max_steps": 2, "recipe_overrides": "batch_size=4"}


def write_folder(folder: Path) -> Path:
    """Forty records in ten folds; six of them cannot be used, each for another reason."""
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
        rows.append((name, "AF" if index % 2 else "N", f"p{index}", index // 4 + 1))
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


def test_a_run_goes_on_after_the_bad_records_are_taken_out(tmp_path: Path, records: Path) -> None:
    data = tmp_path / "records"
    shutil.copytree(records, data)
    with pytest.raises(Interrupted):
        run("pretrain", tmp_path / "out", data, on_bad_record="skip", stop_after_step=1)
    table = pd.read_csv(data / "labels.csv")
    table[~table.index.isin(BAD)].to_csv(data / "labels.csv", index=False)
    for index in BAD:
        (data / f"r{index:02}.npz").unlink()
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
