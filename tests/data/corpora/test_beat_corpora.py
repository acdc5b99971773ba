"""MIT-BIH and LUDB: splits by person, beats and waves as annotated."""

import collections
import json
import shutil

import numpy as np
import pytest

from ecg_transformers.data.corpora.mitdb import AAMI_OF_SYMBOL, DS1, DS2, PACED
from ecg_transformers.data.errors import LeadNotFoundError, OptionError, RecordNotFoundError, SkippedRecordsError
from ecg_transformers.data.loading import RecordTable, build_report, label_names, load_ecg_dataset, task_kind


def write_mitdb(folder, records, write_wfdb, digital_ecg, symbols=("N", "V", "A", "F", "/", "+", "~")):
    import wfdb

    for number, record in enumerate(records):
        leads = {"114": ["V5", "MLII"], "102": ["V5", "V2"]}.get(record, ["MLII", "V1"])
        write_wfdb(folder, record, digital_ecg(number, rate=360.0, duration=20.0)[:, :2], rate=360, lead_names=leads)
        marks = np.arange(1, len(symbols) + 1) * 900
        wfdb.wrann(
            record,
            "atr",
            marks,
            list(symbols),
            aux_note=["(N" if s == "+" else "" for s in symbols],
            write_dir=str(folder),
        )


def test_the_split_lists_are_the_standard_ones():
    assert (len(DS1), len(DS2), len(PACED)) == (22, 22, 4)
    assert not set(DS1) & set(DS2)
    assert not (set(DS1) | set(DS2)) & set(PACED)
    counts = collections.Counter(AAMI_OF_SYMBOL.values())
    assert counts == {"N": 5, "S": 4, "V": 2, "F": 1, "Q": 3}


@pytest.fixture
def native(tmp_path, write_wfdb, digital_ecg):
    write_mitdb(tmp_path / "db", ["101", "106", "108", "114", "201", "202", "100", "102"], write_wfdb, digital_ecg)
    return tmp_path / "db"


def load(folder, **options):
    return load_ecg_dataset("mitdb", folder, cache_dir=folder.parent / "cache", **options)


def test_people_stay_on_one_side_and_paced_records_stay_out(native):
    corpus = load(native)
    ids = {part: sorted(dataset["record_id"]) for part, dataset in corpus.items()}
    assert ids == {"train": ["101", "106", "114", "201"], "validation": ["108"], "test": ["100", "202"]}
    report = build_report("mitdb", native, cache_dir=native.parent / "cache")
    assert report.excluded == {"paced": 1}
    assert "same person" in report.notes[0]
    assert sorted(load(native, strict=True)["test"]["record_id"]) == ["100"]
    paced = load(native, include_paced=True)["test"]
    assert paced[paced["record_id"].index("102")]["lead_names"] == ["V5"]
    notes = build_report("mitdb", native, cache_dir=native.parent / "cache", include_paced=True).notes
    assert any("102 have no MLII" in note for note in notes)
    assert load(native)["test"][1]["patient_id"] == "201"


def test_the_lead_is_chosen_by_name(native):
    table = RecordTable(load(native)["train"])
    record = table.record(table.record_ids.index("114"))
    assert record.lead_names == ["MLII"]
    both = RecordTable(load(native, lead=None)["train"])
    whole = both.record(both.record_ids.index("114"))
    np.testing.assert_array_equal(record.signal[:, 0], whole.signal[:, 1])
    with pytest.raises(SkippedRecordsError, match=r"lead 'V5'"):
        load(native, lead="V5")


def test_beats_carry_their_symbol_and_aami_class(native):
    corpus = load(native)
    assert label_names(corpus) == ["F", "N", "Q", "S", "V"]
    assert task_kind(corpus) == "beats"
    record = RecordTable(corpus["train"]).record(0)
    assert record.annotations["beat_symbols"].tolist() == ["N", "V", "A", "F", "/"]
    assert record.annotations["beat_labels"].tolist() == ["N", "V", "S", "F", "Q"]
    assert record.annotations["beat_samples"].tolist() == [900, 1800, 2700, 3600, 4500]


def test_windows_cut_records_without_losing_or_moving_beats(native):
    whole = RecordTable(load(native)["train"]).record(0)
    windows = load(native, window_s=5)["train"].filter(lambda row: row["record_id"].startswith(whole.record_id + "/"))
    table = RecordTable(windows)
    assert len(table) == 4
    beats = [s + 1800 * n for n in range(4) for s in table.record(n).annotations["beat_samples"]]
    assert beats == whole.annotations["beat_samples"].tolist()
    np.testing.assert_array_equal(np.concatenate([table.signal(n) for n in range(4)]), whole.signal)


def test_real_beats_count_as_published(ecg_data_dir, tmp_path):
    corpus = load_ecg_dataset("mitdb", ecg_data_dir / "mitdb", cache_dir=tmp_path)
    counts = {
        row["record_id"]: collections.Counter(row["beat_symbols"])
        for dataset in corpus.values()
        for row in dataset.select_columns(["record_id", "beat_symbols"])
    }
    assert counts["100"] == {"N": 2239, "A": 33, "V": 1}
    assert counts["208"] == {"N": 1586, "V": 992, "F": 373, "S": 2, "Q": 2}
    assert counts["231"] == {"R": 1254, "N": 314, "V": 2, "A": 1}


def test_wrong_folders_and_options_are_named(tmp_path):
    with pytest.raises(RecordNotFoundError, match="no record of MIT-BIH"):
        load_ecg_dataset("mitdb", tmp_path)
    with pytest.raises(OptionError, match=r"\['100'\] are not in DS1"):
        load_ecg_dataset("mitdb", tmp_path, validation_records=["100"])
    assert issubclass(LeadNotFoundError, ValueError)


def test_ludb_keeps_the_marks_of_every_lead(ecg_data_dir, tmp_path):
    corpus = load_ecg_dataset("ludb", ecg_data_dir / "ludb", cache_dir=tmp_path)
    assert sum(map(len, corpus.values())) == 32
    assert task_kind(corpus) == "delineation"
    marks = collections.Counter()
    for dataset in corpus.values():
        for row in dataset.select_columns(["wave_leads", "wave_symbols"]):
            marks.update(symbol for lead, symbol in zip(row["wave_leads"], row["wave_symbols"]) if lead == "II")
    assert marks == {"N": 314, "t": 285, "p": 194, "(": 793, ")": 793}
    rhythms = load_ecg_dataset("ludb", ecg_data_dir / "ludb", task="rhythm", cache_dir=tmp_path)
    assert "Atrial fibrillation" in label_names(rhythms)
    assert set(corpus["test"]["fold"]) == {5}


def test_ludb_leaves_out_a_record_whose_marks_are_of_another_one(tmp_path, smallest):
    shutil.copytree(smallest("ludb")[1], tmp_path / "ludb")
    marks = np.array([39 << 10 | 100, 59 << 10, 0, 900, 1 << 10 | 10, 0], dtype="<u2")  # ( at 100, N at 1010 of 1000
    marks.tofile(tmp_path / "ludb" / "data" / "2.v3")
    with pytest.raises(
        SkippedRecordsError, match=r"2\.v3'.* a mark stands at sample 1010, behind the end .* \(1000 samples\)"
    ):
        load_ecg_dataset("ludb", tmp_path / "ludb", cache_dir=tmp_path / "cache")
    rest = load_ecg_dataset("ludb", tmp_path / "ludb", cache_dir=tmp_path / "cache", max_skipped=0.5)
    assert {row["record_id"] for dataset in rest.values() for row in dataset} == {"1", "101"}


def test_ludb_is_read_without_its_table_too(ecg_data_dir, tmp_path):
    corpus = load_ecg_dataset("ludb", ecg_data_dir / "hard-beats" / "ludb", task="rhythm", cache_dir=tmp_path)
    rows = {row["record_id"]: row for dataset in corpus.values() for row in dataset}
    assert {name: row["labels"] for name, row in rows.items()} == {
        "34": ["Sinus rhythm"],
        "95": ["Atrial fibrillation"],
    }
    assert json.loads(rows["34"]["metadata"])["age"] == 90
