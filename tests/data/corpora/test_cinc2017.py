"""CinC 2017: label versions, copies, missing headers (specification: corpora, 4)."""

import shutil

import numpy as np
import pytest

from ecg_transformers.data.corpora import make_corpus
from ecg_transformers.data.errors import LabelError, RecordNotFoundError
from ecg_transformers.data.loading import build_report, load_ecg_dataset


@pytest.fixture(scope="module")
def challenge(tmp_path_factory, layouts):
    """Four training records, one of them again in validation/, with the labels of two versions."""
    root = tmp_path_factory.mktemp("1.0.0")
    for folder in ("training/A00", "validation"):
        (root / folder).mkdir(parents=True)
    for number in range(1, 5):
        samples = layouts.microvolts(number, 900, 1)
        layouts.write_challenge(root / "training" / "A00", f"A0000{number}", samples=samples, rate=300, leads=["ECG"])
    for suffix in (".hea", ".mat"):
        (root / "validation" / f"A00002{suffix}").write_bytes(
            (root / "training" / "A00" / f"A00002{suffix}").read_bytes()
        )
    (root / "validation" / "REFERENCE.csv").write_text("A00002,~\n")
    (root / "training" / "REFERENCE-v3.csv").write_text("A00001,N\nA00002,A,x\nA00003,O\nA00004,~\n")
    (root / "training" / "REFERENCE-v0.csv").write_text("A00001,N\nA00002,N\nA00003,N\nA00004,~\n")
    return root


def test_labels_are_those_of_version_3_and_copies_are_read_once(challenge, rows_of, signal_of, layouts):
    rows = rows_of("cinc2017", challenge)
    assert {name: row["labels"] for name, row in rows.items()} == {
        "A00001": ["N"],
        "A00002": ["A"],
        "A00003": ["O"],
        "A00004": ["~"],
    }
    np.testing.assert_allclose(signal_of(rows["A00003"]), layouts.microvolts(3, 900, 1) / 1000, rtol=1e-6)
    assert rows["A00001"]["lead_names"] == ["ECG"]
    report = build_report("cinc2017", challenge)
    assert report.excluded == {"copies of training records (validation/)": 1}
    assert "labels from REFERENCE-v3.csv" in report.notes
    whole, copies = (make_corpus("cinc2017", folder).plan() for folder in (challenge, challenge / "validation"))
    assert (whole.warnings, len(copies.warnings)) == ([], 1)
    assert "copies of training records" in copies.warnings[0]


def test_of_a_record_and_its_copy_the_record_is_read(challenge, tmp_path):
    shutil.copytree(challenge / "training", tmp_path / "wfdb")  # behind `validation` in the alphabet
    shutil.copytree(challenge / "validation", tmp_path / "validation")
    plan = make_corpus("cinc2017", tmp_path).plan()
    assert {item.path.relative_to(tmp_path).parts[0] for item in plan.each_item()} == {"wfdb"}
    assert plan.warnings == []


def test_another_version_is_an_option(challenge, rows_of):
    assert rows_of("cinc2017", challenge, labels_version="v0")["A00002"]["labels"] == ["N"]
    with pytest.raises(RecordNotFoundError, match=r"REFERENCE-v1\.csv"):
        load_ecg_dataset("cinc2017", challenge, labels_version="v1")


def test_a_flat_copy_without_headers_is_read(tmp_path, layouts, rows_of, signal_of):
    samples = layouts.microvolts(1, 900, 1)
    layouts.write_mat4(tmp_path / "A00001.mat", samples)
    (tmp_path / "REFERENCE.csv").write_text("A00001,N\n")
    row = rows_of("cinc2017", tmp_path)["A00001"]
    assert (row["sampling_rate"], row["lead_names"]) == (300, ["ECG"])
    np.testing.assert_allclose(signal_of(row), samples / 1000, atol=1e-4)


def test_another_symbol_is_refused(tmp_path, layouts):
    layouts.write_mat4(tmp_path / "A00001.mat", layouts.microvolts(1, 900, 1))
    (tmp_path / "REFERENCE.csv").write_text("A00001,X\n")
    with pytest.raises(LabelError, match="N, A, O or ~"):
        load_ecg_dataset("cinc2017", tmp_path)
    (tmp_path / "REFERENCE.csv").write_text("A00001,A\nA00001,O\n")
    with pytest.raises(LabelError, match="A and O"):
        load_ecg_dataset("cinc2017", tmp_path)


def test_real_records_are_read(ecg_data_dir):
    report = build_report("cinc2017", ecg_data_dir / "cinc2017")
    totals = {label: sum(counts[label] for counts in report.label_counts.values()) for label in ("N", "A", "O", "~")}
    assert (report.read, report.skipped, totals) == (40, [], {"N": 10, "A": 10, "O": 10, "~": 10})
