"""load_ecg_dataset: names, parts, caching, several corpora, and the places where it must work."""

import inspect
import os
import subprocess
import sys

import numpy as np
import pytest

import ecg_transformers as ecg
from ecg_transformers.data import loading
from ecg_transformers.data.errors import ECGDataError, OptionError, SkippedRecordsError
from ecg_transformers.data.loading import (
    RecordTable,
    build_report,
    describe_corpora,
    label_names,
    load_ecg_dataset,
    task_kind,
)
from ecg_transformers.features import checking


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ptbxl", "did you mean 'ptb_xl'"),
        ("sintetic", "did you mean 'synthetic'"),
        ("cpsc2019", "did you mean 'cpsc2018'"),
        ("", "there is no corpus ''"),
        ([], "names each of them once"),
        (["synthetic", "synthetic"], "'synthetic' stands in it 2 times; .*`ecg-transformers build` each"),
    ],
)
def test_unknown_names_are_told_with_the_nearest_known_one(name, message):
    with pytest.raises(OptionError, match=message):
        load_ecg_dataset(name)


def test_unknown_and_empty_splits_are_named(tmp_path):
    with pytest.raises(OptionError, match="did you mean 'train'"):
        load_ecg_dataset("synthetic", split="trian")
    with pytest.raises(OptionError, match=r"no record in the split 'test'.*\['train', 'validation'\]"):
        load_ecg_dataset("synthetic", split="test", num_records=30, test_fraction=0.0, cache_dir=tmp_path)


@pytest.mark.parametrize("word", ["splt", "data_dri", "steaming", "fold", "test_fold", "maxskipped"])
@pytest.mark.parametrize("name", ["synthetic", ["synthetic", "folder"]])
def test_a_misspelt_argument_is_told_with_the_nearest_one(name, word):
    meant = {"splt": "split", "data_dri": "data_dir", "steaming": "streaming", "fold": "folds"}
    meant |= {"test_fold": "test_folds", "maxskipped": "max_skipped"}
    with pytest.raises(OptionError, match=f"no argument '{word}'; did you mean '{meant[word]}'"):
        load_ecg_dataset(name, **{word: "x"})


def test_a_second_load_reads_the_cache_and_options_have_their_own(tmp_path):
    first = load_ecg_dataset("synthetic", num_records=12, cache_dir=tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.arrow")}
    again = load_ecg_dataset("synthetic", num_records=12, cache_dir=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.arrow")} == stamps
    assert again["train"][0] == first["train"][0]
    other = load_ecg_dataset("synthetic", num_records=12, seed=1, cache_dir=tmp_path)
    assert other["train"][0]["signal"] != first["train"][0]["signal"]


def test_an_edited_table_or_record_is_never_served_from_the_cache(mini_ptb_xl, tmp_path):
    import shutil

    folder = tmp_path / "corpus"
    shutil.copytree(mini_ptb_xl, folder)

    def load():
        return load_ecg_dataset("ptb_xl", folder, split="test", cache_dir=tmp_path / "c")

    before = load()
    table = folder / "ptbxl_database.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("'SR'", "'AFIB'"), encoding="utf-8")
    changed = load()
    assert before[0]["labels"] != changed[0]["labels"]
    header = folder / "records100" / "00000" / "00010_lr.hea"
    header.write_text(header.read_text().replace("1000.0(0)", "2000.0(0)"))
    assert load()[0]["gain"][0] == 2000.0
    shutil.move(folder, tmp_path / "moved")
    builds = len(list((tmp_path / "c").rglob("build_report.json")))
    load_ecg_dataset("ptb_xl", tmp_path / "moved", split="test", cache_dir=tmp_path / "c")
    assert len(list((tmp_path / "c").rglob("build_report.json"))) == builds  # a moved corpus finds its cache


def test_a_failed_build_leaves_nothing_behind(tmp_path, write_wfdb, digital_ecg):
    folder = tmp_path / "records"
    write_wfdb(folder, "a", digital_ecg())
    write_wfdb(folder, "b", digital_ecg(), num_samples=5000)
    with pytest.raises(SkippedRecordsError, match=r"1 of 2 records.*promises 5000"):
        load_ecg_dataset("folder", folder, cache_dir=tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_several_corpora_come_as_one_without_labels_when_they_differ(mini_ptb_xl, tmp_path):
    both = load_ecg_dataset(
        ["synthetic", "ptb_xl"], {"ptb_xl": mini_ptb_xl}, num_records=20, task="all", cache_dir=tmp_path
    )
    assert len(both["train"]) == 14 + 16
    assert set(both["train"]["source"]) == {"synthetic", "ptb_xl"}
    assert label_names(both) == []
    assert task_kind(both) == "unlabelled"
    assert RecordTable(both["train"]).record(29).source == "ptb_xl"
    with pytest.raises(OptionError, match="none of the corpora"):
        load_ecg_dataset(["synthetic", "ptb_xl"], mini_ptb_xl, num_record=20)


@pytest.mark.parametrize("streaming", [False, True])
def test_several_corpora_take_turns_and_each_record_comes_once(
    mini_ptb_xl, write_wfdb, digital_ecg, tmp_path, streaming
):
    """Other leads, rates and lengths in one schema; the longer corpus goes on alone."""
    own = tmp_path / "own"
    for number in range(3):
        write_wfdb(own, f"r{number}", digital_ecg(number, 250.0, 4.0)[:, :2], rate=250)
    given = {"ptb_xl": mini_ptb_xl, "folder": own}
    data = load_ecg_dataset(["ptb_xl", "folder"], given, "train", streaming=streaming, cache_dir=tmp_path / "cache")
    rows = list(data)
    assert [row["source"] for row in rows[:6]] == ["ptb_xl", "folder"] * 3
    assert {row["source"] for row in rows[6:]} == {"ptb_xl"}
    assert len({(row["source"], row["record_id"]) for row in rows}) == len(rows) == 16 + 3
    shapes = {(row["source"], len(row["lead_names"]), row["sampling_rate"], row["num_samples"]) for row in rows}
    assert shapes == {("ptb_xl", 12, 100.0, 1000), ("folder", 2, 250.0, 1000)}


def test_streams_hold_the_rows_of_the_build(mini_ptb_xl, tmp_path):
    built = load_ecg_dataset("ptb_xl", mini_ptb_xl, cache_dir=tmp_path)
    streamed = load_ecg_dataset("ptb_xl", mini_ptb_xl, streaming=True, cache_dir=tmp_path)
    assert label_names(streamed) == label_names(built)
    assert task_kind(streamed) == "multilabel"
    for part, dataset in built.items():
        assert list(streamed[part]) == list(dataset)


def test_the_corpus_folder_is_only_read(mini_ptb_xl, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in mini_ptb_xl.rglob("*")}
    load_ecg_dataset("ptb_xl", mini_ptb_xl, cache_dir=tmp_path)
    list(load_ecg_dataset("ptb_xl", mini_ptb_xl, split="test", streaming=True, cache_dir=tmp_path))
    assert {path: path.stat().st_mtime_ns for path in mini_ptb_xl.rglob("*")} == before


def test_it_works_without_home_network_or_write_access_to_the_cache(mini_ptb_xl, tmp_path):
    """A finished build in a cache that cannot be written is read as it is; no socket is opened."""
    load_ecg_dataset("ptb_xl", mini_ptb_xl, cache_dir=tmp_path / "cache")
    script = f"""
import socket, sys, os
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError("network: " + str(arguments))
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith({str(tmp_path / "cache")!r}):
        if arguments[1] and set(arguments[1]) & set("wax+"):
            raise RuntimeError("writes to the cache: " + arguments[0])
sys.addaudithook(refuse)
from ecg_transformers.data.loading import load_ecg_dataset, RecordTable
corpus = load_ecg_dataset("ptb_xl", {str(mini_ptb_xl)!r}, cache_dir={str(tmp_path / "cache")!r})
print(len(corpus["train"]), RecordTable(corpus["train"]).signal(0).shape)
made = load_ecg_dataset("synthetic", num_records=8)
print(len(made["train"]))
"""
    keep = {k: v for k, v in os.environ.items() if k in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "LANG")}
    environment = {**keep, "HF_HUB_OFFLINE": "1", "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "xdg")}
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.split("\n")[:2] == ["16 (1000, 12)", "6"]


def test_fact_sheets_name_every_corpus_and_import_nothing_heavy():
    sheets = {sheet["name"]: sheet for sheet in describe_corpora()}
    promised = (
        "synthetic folder ptb_xl cpsc2018 cinc2017 cinc2020 cinc2021 chapman ningbo georgia ptb incart cpsc_extra "
        "code15 mitdb apnea_ecg ludb sph mimic_iv_ecg brugada_huca echonext"
    )
    assert sorted(sheets) == sorted(promised.split())
    assert all(sheet["licence"] and sheet["options"] and sheet["available"] for sheet in sheets.values())


def test_reports_count_labels_by_part(mini_ptb_xl, tmp_path):
    report = build_report("ptb_xl", mini_ptb_xl, task="superclass", cache_dir=tmp_path)
    assert report.records == {"train": 12, "validation": 1, "test": 2}  # every fourth record has no superclass
    assert set(report.label_counts["train"]) == {"MI", "NORM", "STTC"}
    assert "left out by choice" in str(report)


def test_foreign_datasets_are_refused_by_the_helpers():
    import datasets

    with pytest.raises(ECGDataError, match="row schema"):
        label_names(datasets.Dataset.from_dict({"x": [1]}))


def test_labels_and_signals_survive_shuffling_and_selecting(tmp_path):
    corpus = load_ecg_dataset("synthetic", split="train", num_records=40, cache_dir=tmp_path)
    mixed = corpus.shuffle(seed=3).select(range(5, 15))
    table, plain = RecordTable(mixed), RecordTable(corpus)
    for index in range(len(table)):
        where = plain.record_ids.index(table.record_ids[index])
        np.testing.assert_array_equal(table.signal(index), plain.signal(where))
        np.testing.assert_array_equal(table.label_matrix()[index], plain.label_matrix()[where])


@pytest.mark.parametrize("streaming", [False, True])
def test_all_parts_of_one_corpus_or_of_several_come_as_one(mini_ptb_xl, tmp_path, streaming):
    settings = {"streaming": streaming, "cache_dir": tmp_path}
    one = list(load_ecg_dataset("ptb_xl", mini_ptb_xl, "all", **settings))
    assert sorted(int(row["record_id"]) for row in one) == list(range(1, 21))
    for folders in ({"ptb_xl": mini_ptb_xl}, [mini_ptb_xl], [mini_ptb_xl, None], mini_ptb_xl):
        both = list(load_ecg_dataset(["ptb_xl", "synthetic"], folders, "all", num_records=12, **settings))
        assert len(both) == 32
    with pytest.raises(OptionError, match="3 folders for 2 corpora, of which 1 need one"):
        load_ecg_dataset(["ptb_xl", "synthetic"], [mini_ptb_xl] * 3)
    assert [row["source"] for row in both[:4]] == ["ptb_xl", "synthetic"] * 2
    assert len({(row["source"], row["record_id"]) for row in both}) == len(both) == 32


@pytest.mark.parametrize(
    ("function", "words"), [(load_ecg_dataset, loading.ARGUMENTS), (ecg.check, checking.ARGUMENTS)]
)
def test_the_words_that_may_be_meant_are_those_of_the_function(function, words):
    *named, options = inspect.signature(function).parameters.values()
    assert options.kind is options.VAR_KEYWORD
    of_records = {"sampling_rate", "lead_names", "units"}  # options of corpora too
    assert {one.name for one in named[1:]} - of_records <= set(words)
