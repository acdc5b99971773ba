"""CSV records: one column a lead; what is no number is named."""

import numpy as np
import pytest

from ecg_transformers.data.errors import ECGDataError, MissingHintError
from ecg_transformers.data.readers import read_record

SIGNAL = np.round(np.random.default_rng(0).normal(size=(40, 2)), 4)


def text(separator: str = ",", header: str | None = "I,avr") -> str:
    rows = [separator.join(str(value) for value in row) for row in SIGNAL]
    return "\n".join(([header.replace(",", separator)] if header else []) + rows) + "\n"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_are_leads(tmp_path, separator):
    (tmp_path / "r.csv").write_text(text(separator))
    record = read_record(tmp_path / "r.csv", sampling_rate=100)
    np.testing.assert_allclose(record.signal, SIGNAL, rtol=1e-6)
    assert record.lead_names == ["I", "aVR"]


def test_columns_without_names_need_a_hint(tmp_path):
    (tmp_path / "r.csv").write_text(text(header=None))
    with pytest.raises(MissingHintError, match="name its 2 leads"):
        read_record(tmp_path / "r.csv", sampling_rate=100)
    assert read_record(tmp_path / "r.csv", sampling_rate=100, lead_names=["V1", "V2"]).num_samples == 40


def test_the_rate_is_asked_for(tmp_path):
    (tmp_path / "r.csv").write_text(text())
    with pytest.raises(MissingHintError, match="sampling_rate"):
        read_record(tmp_path / "r.csv")


def test_a_time_column_is_left_out_and_said_so(tmp_path):
    lines = text().splitlines()
    content = ["time," + lines[0]] + [f"{n / 100},{line}" for n, line in enumerate(lines[1:])]
    (tmp_path / "r.csv").write_text("\n".join(content))
    record = read_record(tmp_path / "r.csv", sampling_rate=100)
    assert record.lead_names == ["I", "aVR"]
    assert record.metadata["flags"] == ["time_column_left_out"]


def test_empty_cells_are_missing_values(tmp_path):
    (tmp_path / "r.csv").write_text("I,II\n1,2\n,3\n")
    assert np.isnan(read_record(tmp_path / "r.csv", sampling_rate=100).signal[1, 0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("I,II\n1,2\n1,x\n", "line 3 holds a cell that is no number"),
        ("I,II\n1,2\n1\n", "line 3 has 1 cells instead of 2"),
        ("I,II\n", "no samples"),
        ("", "empty"),
        ("I,I\n1,2\n", "may occur once"),
    ],
)
def test_broken_tables_are_refused_in_a_sentence(tmp_path, content, message):
    (tmp_path / "r.csv").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_record(tmp_path / "r.csv", sampling_rate=100)
    assert isinstance(caught.value, ECGDataError)
