"""CSV records: one column a lead; what is no number is named."""

import numpy as np
import pandas as pd
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
    (tmp_path / "r.csv").write_text("I,II\n1.0,2\n,3\n")
    assert np.isnan(read_record(tmp_path / "r.csv", sampling_rate=100).signal[1, 0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("I,II\n1.5,2\n1,x\n", "line 3 holds a cell that is no number"),
        ("I,II\n1.5,2\n1\n", "line 3 has 1 cells instead of 2"),
        ("I,II\n", "no samples"),
        ("", "empty"),
        ("I,I\n1.5,2\n", "may occur once"),
    ],
)
def test_broken_tables_are_refused_in_a_sentence(tmp_path, content, message):
    (tmp_path / "r.csv").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_record(tmp_path / "r.csv", sampling_rate=100)
    assert isinstance(caught.value, ECGDataError)


ECG = np.round(np.sin(np.arange(60) * 0.7), 3)


def columns(first, name, extra=""):
    rows = [f"{value},{y}" for value, y in zip(first, ECG)]
    return "\n".join([f"{name},II", *([extra] if extra else []), *rows, ""])


@pytest.mark.parametrize(
    ("first", "name", "extra"),
    [
        (np.arange(60) * 0.004, "time", ""),
        (np.arange(60) * 0.004, "Time (s)", ""),
        (np.arange(60) * 4, "t [ms]", ""),
        (np.arange(60) * 4, "timestamp", ""),
        (np.round(np.arange(60) / 250, 4), "Elapsed time", "seconds,mV"),
        ([f"'0:{n / 250:06.3f}'" for n in range(60)], "'Elapsed time'", "'hh:mm:ss.mmm','mV'"),
        ([f"2020-01-01 10:00:0{n / 250:.3f}" for n in range(60)], "Date", ""),
        ([f'"10:00:0{n / 250:.3f}"'.replace(".", ",") for n in range(60)], "Zeit", ""),
    ],
)
def test_a_column_of_times_gives_the_rate(tmp_path, first, name, extra):
    (tmp_path / "r.csv").write_text(columns(first, name, extra))
    record = read_record(tmp_path / "r.csv")
    assert (record.lead_names, record.sampling_rate) == (["II"], 250)
    np.testing.assert_allclose(record.signal[:, 0], ECG, rtol=1e-6)
    with pytest.raises(ECGDataError, match=r"250 Hz, but sampling_rate=360"):
        read_record(tmp_path / "r.csv", sampling_rate=360)


def test_times_with_a_gap_are_refused(tmp_path):
    times = np.arange(60) * 0.004
    times[30:] += 1
    (tmp_path / "r.csv").write_text(columns(times, "time"))
    with pytest.raises(ECGDataError, match="line 32"):
        read_record(tmp_path / "r.csv")


@pytest.mark.parametrize("name", ["sample", "sample #", "index", "Unnamed: 0", "", "number"])
def test_numbers_of_samples_are_no_lead_and_no_rate(tmp_path, name):
    (tmp_path / "r.csv").write_text(columns(np.arange(60), name))
    assert read_record(tmp_path / "r.csv", sampling_rate=100).lead_names == ["II"]
    with pytest.raises(MissingHintError, match="sampling rate"):
        read_record(tmp_path / "r.csv")


@pytest.mark.parametrize(
    "names", ["sample,time,II,V1", "Unnamed: 0.1,Unnamed: 0,II,V1", "II,V1,time", "index,II,V1,Time"]
)
def test_columns_of_times_and_numbers_are_no_leads_wherever_they_stand(tmp_path, names):
    leads = dict(zip(["II", "V1"], SIGNAL.T, strict=True))
    steps = {"time": np.arange(40) / 250, "Time": np.arange(40) / 250}
    table = [leads.get(name, steps.get(name, np.arange(40))) for name in names.split(",")]
    np.savetxt(tmp_path / "r.csv", np.stack(table, 1), delimiter=",", header=names, comments="", fmt="%.4f")
    record = read_record(tmp_path / "r.csv", **({} if "ime" in names else {"sampling_rate": 250}))
    assert (record.lead_names, record.sampling_rate) == (["II", "V1"], 250)
    np.testing.assert_allclose(record.signal, SIGNAL, atol=1e-6)


@pytest.mark.parametrize("name", ["idx", "Frame", "SampleIndex", "sample_idx", "ID", "x"])
@pytest.mark.parametrize("last", [False, True])
def test_a_column_that_rises_steadily_is_no_lead_whatever_its_name(tmp_path, name, last):
    columns = {"II": SIGNAL[:, 0], "V1": SIGNAL[:, 1]}
    count = {name: np.arange(40)}
    pd.DataFrame({**columns, **count} if last else {**count, **columns}).to_csv(tmp_path / "r.csv", index=False)
    record = read_record(tmp_path / "r.csv", sampling_rate=250)
    assert record.lead_names == ["II", "V1"]
    np.testing.assert_allclose(record.signal, SIGNAL, rtol=1e-6)


@pytest.mark.parametrize("name", ["Zeit", "sec", "rel_time", "unix_time", "elapsed_s", "Zeit (s)", "ts", "clock"])
@pytest.mark.parametrize("last", [False, True])
def test_a_time_under_another_name_gives_the_rate(tmp_path, name, last):
    columns = {"II": SIGNAL[:, 0], "V1": SIGNAL[:, 1]}
    times = {name: np.arange(40) / 250}
    pd.DataFrame({**columns, **times} if last else {**times, **columns}).to_csv(tmp_path / "r.csv", index=False)
    record = read_record(tmp_path / "r.csv")
    assert (record.lead_names, record.sampling_rate) == (["II", "V1"], 250)


@pytest.mark.parametrize("separator", [";", "\t", " "])
def test_decimal_commas_are_read_where_the_separator_is_another(tmp_path, separator):
    rows = [separator.join(f"{value:.4f}".replace(".", ",") for value in row) for row in SIGNAL]
    (tmp_path / "r.csv").write_text("\n".join([separator.join(["I", "aVR"]), *rows]))
    record = read_record(tmp_path / "r.csv", sampling_rate=100)
    np.testing.assert_allclose(record.signal, SIGNAL, atol=1e-6)


def test_decimal_commas_are_read_between_quotation_marks_and_before_a_tail_of_whole_numbers(tmp_path):
    cells = [[f"{value:.4f}".replace(".", ",") for value in row] for row in SIGNAL]
    (tmp_path / "q.csv").write_text("\n".join(["I,aVR", *('"{}","{}"'.format(*row) for row in cells)]))
    (tmp_path / "w.csv").write_text("\n".join(["I;aVR", *map(";".join, cells), *["0;0"] * 5]))
    (tmp_path / "m.csv").write_text("\n".join(["I|aVR", *map("|".join, cells)]).replace("-", "\u2212"), "utf-8")
    for name in ("q.csv", "w.csv", "m.csv"):
        record = read_record(tmp_path / name, sampling_rate=100)
        np.testing.assert_allclose(record.signal[:40], SIGNAL, atol=1e-6)
        assert not record.signal[40:].any()


def test_decimal_commas_between_commas_are_named(tmp_path):
    (tmp_path / "r.csv").write_text("I,II\n0,12,0,25\n0,13,0,26\n")
    with pytest.raises(ECGDataError, match="decimal commas"):
        read_record(tmp_path / "r.csv", sampling_rate=100)


def test_units_in_the_names_are_taken(tmp_path):
    (tmp_path / "r.csv").write_text("I (uV),II [mV]\n500,0.5\n-250,1.5\n")
    record = read_record(tmp_path / "r.csv", sampling_rate=100)
    assert record.lead_names == ["I", "II"]
    np.testing.assert_allclose(record.signal, [[0.5, 0.5], [-0.25, 1.5]])


def test_a_unit_that_is_no_voltage_is_named(tmp_path):
    (tmp_path / "r.csv").write_text("I (uV),Temp (C)\n500,36.5\n250,36.5\n")
    with pytest.raises(ECGDataError, match="'C' is not a voltage"):
        read_record(tmp_path / "r.csv", sampling_rate=100)
    assert read_record(tmp_path / "r.csv", sampling_rate=100, lead_names=["I"]).lead_names == ["I"]


def test_whole_numbers_need_a_unit(tmp_path):
    (tmp_path / "r.csv").write_text("I,II\n512,498\n520,490\n")
    with pytest.raises(MissingHintError, match="units="):
        read_record(tmp_path / "r.csv", sampling_rate=100)
    assert read_record(tmp_path / "r.csv", sampling_rate=100, units="uV").signal[0, 0] == np.float32(0.512)


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("width", [1, 2, 12])
@pytest.mark.parametrize("whole", [False, True])
def test_a_line_that_counts_the_columns_is_no_sample(tmp_path, index, width, whole):
    signal = np.random.default_rng(0).normal(size=(30, width))
    signal = (100 * signal).astype(int) if whole and width > 3 else signal
    pd.DataFrame(signal).to_csv(tmp_path / "r.csv", index=index)
    names = [f"L{n}" for n in range(width)]
    record = read_record(tmp_path / "r.csv", sampling_rate=100, lead_names=names, units="mV")
    np.testing.assert_allclose(record.signal, signal, rtol=1e-6)


def test_whole_numbers_of_few_columns_that_begin_with_0_and_1_are_all_samples(tmp_path):
    (tmp_path / "r.csv").write_text("0,1\n5,7\n6,8\n")
    assert read_record(tmp_path / "r.csv", sampling_rate=100, lead_names=["I", "II"], units="uV").num_samples == 3


def test_a_table_with_a_record_in_every_line_is_told(tmp_path):
    np.savetxt(tmp_path / "beats.csv", np.random.default_rng(0).random((200, 188)), delimiter=",")
    with pytest.raises(ECGDataError, match="every row is a record or a beat of its own"):
        read_record(tmp_path / "beats.csv", sampling_rate=125, lead_names=["II"])


def test_leads_that_lie_in_lines_are_told_to_be_transposed(tmp_path):
    np.savetxt(tmp_path / "a.csv", np.random.default_rng(0).normal(size=(12, 1000)), delimiter=",")
    (tmp_path / "b.csv").write_text("".join(f"{name},0.1,0.2,0.3,0.4\n" for name in ("I", "II", "III")))
    for name in ("a.csv", "b.csv"):
        with pytest.raises(ECGDataError, match="transpose"):
            read_record(tmp_path / name, sampling_rate=100, lead_names=[f"L{n}" for n in range(12)])


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_column_of_words_is_no_lead(tmp_path, sparse, place):
    words = ["" if sparse and n % 7 else "VN"[n % 2] for n in range(40)]
    frame = pd.DataFrame({"II": SIGNAL[:, 0], "V1": SIGNAL[:, 1]})
    frame.insert(place, "annotation", words)
    frame.to_csv(tmp_path / "r.csv", index=False)
    record = read_record(tmp_path / "r.csv", sampling_rate=100)
    assert record.lead_names == ["II", "V1"]
    assert record.metadata["flags"] == ["text_columns_left_out"]
    np.testing.assert_allclose(record.signal, SIGNAL, rtol=1e-6)


@pytest.mark.parametrize(("name", "cells"), [("II", "VN"), ("note", "1N")])
def test_words_where_numbers_belong_are_still_named(tmp_path, name, cells):
    frame = pd.DataFrame({"V1": SIGNAL[:, 1], name: [cells[n % 2] for n in range(40)]})
    frame.to_csv(tmp_path / "r.csv", index=False)
    with pytest.raises(ECGDataError, match="is no number"):
        read_record(tmp_path / "r.csv", sampling_rate=100)


def test_lines_of_text_before_the_numbers_are_named(tmp_path):
    (tmp_path / "r.csv").write_text("Name,Roe\nRate,512 hertz\n\nLead,Lead I\n0.5\n0.25\n")
    with pytest.raises(ECGDataError, match="numbers begin in line 5, behind 3 lines"):
        read_record(tmp_path / "r.csv", sampling_rate=512, lead_names=["I"])


def test_a_separator_at_the_end_of_every_line_makes_no_lead(tmp_path):
    (tmp_path / "r.csv").write_text("I,II,\n0.1,0.2,\n0.3,0.4,\n")
    assert read_record(tmp_path / "r.csv", sampling_rate=100).lead_names == ["I", "II"]


@pytest.mark.parametrize("head", ["I_uV,II_uV", "I/uV,II/uV", "I [µV],II [µV]", "I (uV),II_uV"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_units_behind_names_are_taken_in_every_usual_spelling_and_encoding(tmp_path, head, encoding):
    (tmp_path / "r.csv").write_bytes(text(header=head).encode(encoding))
    record = read_record(tmp_path / "r.csv", sampling_rate=100)
    assert record.lead_names == ["I", "II"]
    np.testing.assert_allclose(record.signal, SIGNAL / 1000, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "step"), [("Zeit [s]", 0.01), ("time_ms", 10), ("Time (min)", 1 / 6000), ("temps (us)", 10_000)]
)
def test_the_unit_of_a_time_is_read_whatever_its_column_is_called(tmp_path, name, step):
    lines = text().splitlines()
    content = [f"{name},{lines[0]}"] + [f"{n * step:.8f},{line}" for n, line in enumerate(lines[1:])]
    (tmp_path / "r.csv").write_text("\n".join(content))
    record = read_record(tmp_path / "r.csv")
    assert record.lead_names == ["I", "aVR"]
    assert record.sampling_rate == pytest.approx(100, rel=1e-3)


def test_a_time_in_a_unit_that_is_not_known_says_no_rate(tmp_path):
    lines = text().splitlines()
    content = ["time (ticks)," + lines[0]] + [f"{n / 100},{line}" for n, line in enumerate(lines[1:])]
    (tmp_path / "r.csv").write_text("\n".join(content))
    with pytest.raises(MissingHintError, match="sampling_rate"):
        read_record(tmp_path / "r.csv")
    assert read_record(tmp_path / "r.csv", sampling_rate=250).lead_names == ["I", "aVR"]


@pytest.mark.parametrize("head", ["# made by a device\n# rate 100\nI,avr", "# I,avr", "% made\n# I,avr"])
def test_comments_are_no_leads_and_the_names_behind_a_mark_are(tmp_path, head):
    (tmp_path / "r.csv").write_text(head + "\n" + text(header=None))
    record = read_record(tmp_path / "r.csv", sampling_rate=100)
    assert record.lead_names == ["I", "aVR"]
    np.testing.assert_allclose(record.signal, SIGNAL, rtol=1e-6)


@pytest.mark.parametrize("names", [["I_s", "II_ms"], ["lead_V", "V1"]])
def test_the_end_of_a_lead_name_is_no_unit_by_chance(tmp_path, names):
    (tmp_path / "r.csv").write_text(text(header=",".join(names)))
    assert read_record(tmp_path / "r.csv", sampling_rate=100).lead_names == names
