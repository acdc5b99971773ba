"""The folder of own records that the README describes works as it is written there."""

import re
from pathlib import Path

import numpy as np

import ecg_transformers as ecg
from ecg_transformers.data.loading import label_names

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]


def write_record(path: Path, signal: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".hea":
        import wfdb

        wfdb.wrsamp(
            path.stem,
            fs=500,
            units=["mV"] * 12,
            sig_name=LEADS,
            p_signal=signal,
            fmt=["16"] * 12,
            write_dir=str(path.parent),
        )
    elif path.suffix == ".npz":
        np.savez(path, signal=signal, sampling_rate=500, lead_names=LEADS)
    else:
        header = ",".join(LEADS)
        np.savetxt(path, signal, delimiter=",", header=header, comments="", fmt="%.4f")


def test_the_table_of_own_records_loads_as_written(tmp_path):
    table = re.search(r"a table `labels\.csv`:\n\n```\n(.*?)```", README, re.DOTALL).group(1)
    folder = tmp_path / "my own records"
    folder.mkdir()
    (folder / "labels.csv").write_text(table, encoding="utf-8")
    generator = np.random.default_rng(0)
    for line in table.strip().splitlines()[1:]:
        write_record(folder / line.split(",")[0], generator.standard_normal((5000, 12)) * 0.2)
    splits = ecg.load_ecg_dataset("folder", data_dir=folder, cache_dir=tmp_path / "cache")
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 2, "validation": 2, "test": 2}
    assert set(label_names(splits["train"])) == {"AF", "PVC", "normal"}
    assert {row["sampling_rate"] for name in splits for row in splits[name]} == {500.0}
