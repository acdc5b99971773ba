"""Prepared corpora: the rows of the build, in exact shares for any number of nodes, and resumed without loss."""

import json
import logging

import pytest
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader

from ecg_transformers.data.building.build import build_corpus
from ecg_transformers.data.errors import ECGDataError, OptionError
from ecg_transformers.data.fingerprint import dataset_fingerprint
from ecg_transformers.data.loading import build_report, label_names, load_ecg_dataset, task_kind
from ecg_transformers.data.prepared import ShardRecords

OPTIONS = {"num_records": 90, "duration": 2.0, "records_per_shard": 13}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "out"
    build_corpus("synthetic", None, folder, **OPTIONS)
    return folder


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    """`datasets` waits five seconds at the end of a shuffled stream of parquet."""
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0)


def ids(stream):
    return [row["record_id"] for row in stream]


def test_it_holds_what_the_corpus_itself_gives(prepared, tmp_path):
    direct = load_ecg_dataset("synthetic", num_records=90, duration=2.0, cache_dir=tmp_path)
    loaded = load_ecg_dataset(str(prepared), cache_dir=tmp_path)
    streamed = load_ecg_dataset(f"file://{prepared}", streaming=True, cache_dir=tmp_path)
    assert dataset_fingerprint(loaded) == dataset_fingerprint(direct)
    assert {part: list(stream) for part, stream in streamed.items()} == {
        part: list(rows) for part, rows in direct.items()
    }
    assert label_names(streamed) == label_names(direct)
    assert task_kind(streamed) == "multilabel"
    assert build_report(str(prepared)).read == 90


@pytest.mark.parametrize("nodes", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("shuffled", [False, True])
def test_every_record_is_given_to_one_node(prepared, nodes, shuffled, tmp_path):
    stream = load_ecg_dataset(str(prepared), split="train", streaming=True, cache_dir=tmp_path)
    everything = sorted(ids(stream))
    assert stream.num_shards == 5
    stream = stream.shuffle(seed=1, buffer_size=20) if shuffled else stream
    shares = [ids(split_dataset_by_node(stream, rank, nodes)) for rank in range(nodes)]
    assert sorted(name for share in shares for name in share) == everything
    assert max(map(len, shares)) - min(map(len, shares)) <= (13 if nodes == 5 else 1)


@pytest.mark.parametrize("nodes", [1, 3, 5])
def test_every_record_is_given_to_one_data_worker_of_one_node(prepared, nodes, tmp_path):
    stream = load_ecg_dataset(str(prepared), split="train", streaming=True, cache_dir=tmp_path)
    shuffled = stream.shuffle(seed=1, buffer_size=8)
    given = []
    for rank in range(nodes):
        share = split_dataset_by_node(shuffled, rank, nodes)
        given += ids(DataLoader(share, batch_size=None, num_workers=2, multiprocessing_context="fork"))
    assert sorted(given) == sorted(ids(stream))


@pytest.mark.parametrize("nodes", [1, 3, 5])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("taken", [0, 11])
def test_a_stream_goes_on_behind_the_last_record(prepared, nodes, shuffled, taken, tmp_path, caplog):
    logging.getLogger("datasets").addHandler(caplog.handler)

    def stream():
        whole = load_ecg_dataset(str(prepared), split="train", streaming=True, cache_dir=tmp_path)
        return split_dataset_by_node(whole.shuffle(seed=1, buffer_size=8) if shuffled else whole, nodes - 1, nodes)

    first = stream()
    rows = iter(first)
    before = [next(rows)["record_id"] for _ in range(taken)]
    state = json.loads(json.dumps(first.state_dict()))
    second = stream()
    second.load_state_dict(state)
    assert before + ids(second) == ids(stream())
    logging.getLogger("datasets").removeHandler(caplog.handler)
    assert "buffer" not in caplog.text  # `datasets` would warn that it has lost one


def test_shuffling_mixes_shards_and_epochs_differ(prepared, tmp_path):
    stream = load_ecg_dataset(str(prepared), split="train", streaming=True, cache_dir=tmp_path)
    order = ids(stream)
    shuffled = stream.shuffle(seed=1, buffer_size=20)
    first = ids(shuffled)
    assert len({order.index(name) // 13 for name in first[:20]}) >= 3
    assert first == ids(stream.shuffle(seed=1, buffer_size=20)) != ids(stream.shuffle(seed=2, buffer_size=20))
    shuffled.set_epoch(1)
    assert sorted(ids(shuffled)) == sorted(first) != first
    assert ids(shuffled) != first
    with pytest.raises(OptionError, match="needs seed"):
        stream.shuffle()


def test_what_is_missing_or_damaged_is_named(prepared, tmp_path):
    import shutil

    build_corpus("synthetic", None, tmp_path / "two", num_records=20, test_fraction=0.0)
    with pytest.raises(OptionError, match=r"no record in the split 'test'"):
        load_ecg_dataset(str(tmp_path / "two"), split="test", streaming=True)
    with pytest.raises(OptionError, match=r"built with num_records=90, .*; leave out data_dir, seed, or build it anew"):
        load_ecg_dataset(str(prepared), "somewhere", task="all", seed=1)
    build_corpus("synthetic", None, tmp_path / "part", shard=(0, 2), **OPTIONS)
    with pytest.raises(ECGDataError, match=r"not finished \(\d+ shards are there\)"):
        load_ecg_dataset(str(tmp_path / "part"))
    with pytest.raises(ECGDataError, match="no prepared corpus here"):
        load_ecg_dataset("memory://nowhere", streaming=True)
    copy = shutil.copytree(prepared, tmp_path / "copy")
    shard = next(copy.glob("*.parquet"))
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(ECGDataError, match=rf"{shard.name}.*bytes and not the"):
        load_ecg_dataset(str(copy), streaming=True)


def test_a_damaged_file_of_the_cache_is_named(tmp_path):
    load_ecg_dataset("synthetic", num_records=20, cache_dir=tmp_path)
    damaged = next(tmp_path.rglob("*.arrow"))
    damaged.write_bytes(damaged.read_bytes()[:-8])
    with pytest.raises(ECGDataError, match=rf"{damaged.name}.*bytes and not the .* delete the folder"):
        load_ecg_dataset("synthetic", num_records=20, cache_dir=tmp_path)


def test_records_are_read_from_the_shards_by_index(prepared, tmp_path):
    import numpy as np

    from ecg_transformers.data.rows import RecordTable

    table = RecordTable(load_ecg_dataset(str(prepared), split="train", cache_dir=tmp_path))
    records = ShardRecords(str(prepared), "train", keep=2)
    assert len(records) == len(table)
    for index in (61, 0, 13, 12, 40, 0):
        own, other = records[index], table[index]
        assert (own.record_id, own.patient_id, own.labels) == (other.record_id, other.patient_id, other.labels)
        np.testing.assert_array_equal(own.signal, other.signal)
        for stored in (records.stored(index), table.stored(index)):
            assert stored.samples.dtype == np.int16
            assert (stored.record_id, stored.patient_id, stored.metadata) == (
                own.record_id,
                own.patient_id,
                own.metadata,
            )
            np.testing.assert_array_equal(stored.to_record().signal, own.signal)
    assert records.column("record_id") == table.record_ids
    np.testing.assert_array_equal(records.label_matrix(), table.label_matrix())
    assert np.bincount(records.groups).tolist() == [13, 13, 13, 13, len(table) - 52]


def test_an_address_streams_too(tmp_path):
    build_corpus("synthetic", None, "memory://streamed/here", **OPTIONS)
    direct = load_ecg_dataset("synthetic", split="train", num_records=90, duration=2.0, cache_dir=tmp_path)
    stream = load_ecg_dataset("memory://streamed/here", split="train", streaming=True, cache_dir=tmp_path)
    assert list(stream) == list(direct)


@pytest.mark.parametrize("streaming", [False, True])
def test_it_stands_in_a_list_of_corpora(prepared, mini_ptb_xl, tmp_path, streaming):
    """One folder is that of the corpus that needs one."""
    names = [str(prepared), "ptb_xl"]
    parts = load_ecg_dataset(names, mini_ptb_xl, streaming=streaming, cache_dir=tmp_path)
    rows = list(parts["train"])
    assert [row["source"] for row in rows[:4]] == ["synthetic", "ptb_xl"] * 2
    alone = [
        load_ecg_dataset(name, folder, "train", cache_dir=tmp_path) for name, folder in zip(names, [None, mini_ptb_xl])
    ]
    assert sorted(row["record_id"] for row in rows) == sorted(name for one in alone for name in one["record_id"])
    assert label_names(parts) == []


def test_lists_of_prepared_corpora_keep_labels_that_are_the_same(prepared, tmp_path):
    build_corpus("synthetic", None, tmp_path / "other", num_records=20, duration=2.0)
    both = load_ecg_dataset([str(prepared), str(tmp_path / "other")], split="train", cache_dir=tmp_path / "cache")
    assert label_names(both) == label_names(load_ecg_dataset(str(prepared), cache_dir=tmp_path / "cache"))
    assert any(any(vector) for vector in both["label_vector"])
    with pytest.raises(OptionError, match=r"built with num_records=90.*leave out num_records"):
        load_ecg_dataset([str(prepared), "synthetic"], num_records=20, cache_dir=tmp_path / "cache")


def test_without_a_cache_that_can_be_written_it_streams_and_else_says_so(prepared, tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = tmp_path / "file" / "cache"
    assert len(ids(load_ecg_dataset(str(prepared), split="test", streaming=True, cache_dir=cache))) == 13
    with pytest.raises(ECGDataError, match=r"cannot be unpacked to the cache .*or streaming=True"):
        load_ecg_dataset(str(prepared), cache_dir=cache)


@pytest.mark.parametrize("streaming", [False, True])
def test_all_parts_come_as_one(prepared, tmp_path, streaming):
    everything = load_ecg_dataset(str(prepared), split="all", streaming=streaming, cache_dir=tmp_path)
    parts = load_ecg_dataset(str(prepared), cache_dir=tmp_path)
    expected = [name for part in parts.values() for name in part["record_id"]]
    assert [row["record_id"] for row in everything] == expected
    assert ShardRecords(str(prepared), "all").column("record_id") == expected


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_may_have_any_name(tmp_path, streaming):
    folder = tmp_path / "mine [2] * é #"
    build_corpus("synthetic", None, folder, num_records=12, duration=2.0)
    rows = load_ecg_dataset(str(folder), split="all", streaming=streaming, cache_dir=tmp_path / "cache")
    assert sum(1 for _ in rows) == 12


@pytest.mark.parametrize("text", ["", '{"shards": [', "[]", "{}"])
def test_a_damaged_manifest_is_named(text, tmp_path):
    build_corpus("synthetic", None, tmp_path / "out", num_records=12, duration=2.0)
    (tmp_path / "out" / "manifest.json").write_text(text)
    with pytest.raises(ECGDataError, match="manifest is missing or damaged"):
        load_ecg_dataset(str(tmp_path / "out"), split="all", streaming=True)
    with pytest.raises(ECGDataError, match="manifest is missing or damaged"):
        build_corpus("synthetic", None, tmp_path / "out", num_records=12, duration=2.0)


def test_a_folder_that_would_be_taken_for_a_chain_of_addresses_is_refused_before_it_is_built(tmp_path):
    with pytest.raises(OptionError, match="cannot lie in a folder with '::' in its name"):
        build_corpus("synthetic", None, tmp_path / "a::b", num_records=40)
    assert not list(tmp_path.iterdir())


def test_an_address_that_nothing_opens_is_a_sentence():
    with pytest.raises(ECGDataError, match="no address that can be opened here"):
        load_ecg_dataset("nope://folder", split="all", streaming=True)
    with pytest.raises(ECGDataError, match="no address that can be opened here"):
        build_corpus("synthetic", None, "nope://folder", num_records=12, duration=2.0)


def test_a_shard_of_the_right_size_with_other_bytes_is_named(tmp_path):
    folder = tmp_path / "built"
    build_corpus("synthetic", None, folder, num_records=40)
    shard = max(folder.glob("*train*.parquet"), key=lambda path: path.stat().st_size)
    content = bytearray(shard.read_bytes())
    load_ecg_dataset(str(folder), cache_dir=tmp_path / "before")
    middle = len(content) // 2
    content[middle : middle + 50] = bytes(255 - byte for byte in content[middle : middle + 50])
    shard.write_bytes(content)
    with pytest.raises(ECGDataError, match=rf"{shard.name}.*the shard is damaged"):
        load_ecg_dataset(str(folder), cache_dir=tmp_path / "cache")
    shard.write_bytes(bytes(len(content)))
    with pytest.raises(ECGDataError, match=rf"{shard.name}.*the shard is damaged"):
        ShardRecords(str(folder), "train")
