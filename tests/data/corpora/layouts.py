"""Native layouts of corpora, written by the tests: a few records each, with the traps that the publishers left."""

import csv
import struct
from pathlib import Path

import numpy as np

LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]


def microvolts(index: int, num_samples: int = 1000, num_leads: int = 12) -> np.ndarray:
    """int16 samples (T, L), different for every index, no lead flat."""
    rng = np.random.default_rng(index)
    return np.rint(rng.normal(0, 300, (num_samples, num_leads)).cumsum(axis=0) / 20).clip(-3000, 3000).astype(np.int16)


def write_mat4(path: Path, samples: np.ndarray) -> None:
    """MATLAB 4: one int16 matrix `val` (L, T) behind 24 bytes, as in the Challenges."""
    head = struct.pack("<5i", 30, samples.shape[1], samples.shape[0], 0, 4) + b"val\0"
    path.write_bytes(head + np.ascontiguousarray(samples, dtype="<i2").tobytes())


def write_challenge(
    folder: Path,
    name: str,
    codes: str = "426783006",
    *,
    samples: np.ndarray | None = None,
    gain: str = "1000/mV",
    rate: int = 500,
    age: str = "57",
    sex: str = "Female",
    record_name: str | None = None,
    space: str = " ",
    leads: list[str] | None = None,
) -> np.ndarray:
    """A record in the form of the Challenges of 2020 and 2021; returns its samples."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = microvolts(sum(map(ord, name))) if samples is None else samples
    names = leads or LEADS
    lines = [f"{record_name or name} {len(names)} {rate} {len(samples)}"]
    for lead, first, total in zip(names, samples[0], samples.sum(axis=0, dtype=np.int64)):
        lines.append(f"{name}.mat 16+24 {gain} 16 0 {first} {(total + 32768) % 65536 - 32768} 0 {lead}")
    lines += [f"#{space}Age: {age}", f"#{space}Sex: {sex}", f"#{space}Dx: {codes}", f"#{space}Rx: Unknown"]
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
    write_mat4(folder / f"{name}.mat", samples)
    return samples


def write_wfdb16(
    path: Path,
    samples: np.ndarray,
    *,
    rate: float = 500,
    gain: str = "1000/mV",
    leads: list[str] | None = None,
    comments: str = "",
    checksums: bool = True,
) -> None:
    """A record of format 16, `path` without suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = leads or LEADS[: samples.shape[1]]
    lines = [f"{path.name} {len(names)} {rate:g} {len(samples)}"]
    for lead, first, total in zip(names, samples[0], samples.sum(axis=0, dtype=np.int64)):
        total = (total + 32768) % 65536 - 32768 if checksums else 0
        lines.append(f"{path.name}.dat 16 {gain} 16 0 {first} {total} 0 {lead}")
    path.with_suffix(".hea").write_text("\n".join(lines) + "\n" + comments)
    samples.astype("<i2").tofile(path.with_suffix(".dat"))


def write_table(path: Path, rows: list[dict], encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 120024\n"
