"""Small records and corpora in native layouts, written by the tests themselves."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecg_transformers.signal.synthesis import LEAD_NAMES, synthesize_ecg

WfdbWriter = Callable[..., Path]


def write_wfdb_record(
    folder: Path,
    name: str,
    samples: np.ndarray,
    *,
    rate: Any = 100,
    gain: Any = "1000.0(0)/mV",
    lead_names: list[str] | None = None,
    comments: str = "",
    **overrides: Any,
) -> Path:
    """A format 16 record `(T, L)`; `overrides` replace fields of the header (num_samples, checksums, file_name)."""
    folder.mkdir(parents=True, exist_ok=True)
    names = lead_names or list(LEAD_NAMES[: samples.shape[1]])
    sums = overrides.get("checksums", [int(total) % 65536 for total in samples.sum(axis=0, dtype=np.int64)])
    file_name = overrides.get("file_name", f"{name}.dat")
    lines = [f"{name} {len(names)} {rate} {overrides.get('num_samples', len(samples))}"]
    for lead, first, total in zip(names, samples[0], sums):
        lines.append(f"{file_name} 16 {gain} 16 0 {first} {total} 0 {lead}")
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n" + comments, encoding="utf-8")
    samples.astype("<i2").tofile(folder / f"{name}.dat")
    return folder / f"{name}.hea"


@pytest.fixture(scope="session")
def write_wfdb() -> WfdbWriter:
    return write_wfdb_record


@pytest.fixture(scope="session")
def digital_ecg() -> Callable[..., np.ndarray]:
    """int16 samples (T, 12) of a synthetic ECG at 1000 units per millivolt."""

    def make(index: int = 0, rate: float = 100.0, duration: float = 10.0) -> np.ndarray:
        signal = synthesize_ecg(11, index, sampling_rate=rate, duration=duration).signal
        return np.rint(signal * 1000).astype(np.int16)

    return make


SCP_ROWS = [
    # code, diagnostic, form, rhythm, class, subclass
    ("NORM", "1.0", "", "", "NORM", "NORM"),
    ("IMI", "1.0", "", "", "MI", "IMI"),
    ("ASMI", "1.0", "", "", "MI", "AMI"),
    ("NDT", "1.0", "1.0", "", "STTC", "STTC"),
    ("ABQRS", "", "1.0", "", "", ""),
    ("SR", "", "", "1.0", "", ""),
    ("AFIB", "", "", "1.0", "", ""),
]


@pytest.fixture(scope="session")
def mini_ptb_xl(tmp_path_factory: pytest.TempPathFactory, digital_ecg: Callable[..., np.ndarray]) -> Path:
    """Twenty records in PTB-XL's layout, two of each fold; patients of two records in the training folds."""
    root = tmp_path_factory.mktemp("ptb xl ä")
    codes = [
        {"NORM": 100.0, "SR": 0.0},
        {"IMI": 35.0, "AFIB": 0.0},
        {"NDT": 100.0, "ASMI": 15.0, "SR": 0.0},
        {"ABQRS": 0.0, "SR": 0.0},
    ]
    rows = []
    for number in range(1, 21):
        fold = (number - 1) % 10 + 1
        write_wfdb_record(root / "records100" / "00000", f"{number:05d}_lr", digital_ecg(number))
        rows.append(
            {
                "ecg_id": number,
                "patient_id": f"{1000 + fold}.0",
                "age": "300.0" if number == 1 else "61.0",
                "sex": number % 2,
                "scp_codes": codes[number % 4],
                "strat_fold": fold,
                "filename_lr": f"records100/00000/{number:05d}_lr",
                "filename_hr": f"records500/00000/{number:05d}_hr",
                "report": 'a "quoted", report\nwith a line break',
            }
        )
    with (root / "ptbxl_database.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with (root / "scp_statements.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["", "diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass"])
        table.writerows(SCP_ROWS)
    return root
