"""`embed` as a table: the rows of `ecg.embed`, in order; an interrupted run goes on where it stopped."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

import ecg_transformers as ecg
from ecg_transformers.cli import main
from ecg_transformers.pipelines import embed_table
from ecg_transformers.pipelines.embed_table import embed_to_table, named_records
from ecg_transformers.signal.leads import STANDARD_LEADS
from tests.support.xecg_files import small_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xecg")
    small_model(patch_size=25).save_pretrained(folder)
    ecg.ECGFeatureExtractor.for_method("xecg").save_pretrained(folder)
    return str(folder)


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "my records"
    folder.mkdir()
    for index in range(5):
        signal = np.random.default_rng(index).standard_normal((1000 if index else 3500, 12))
        np.savez(folder / f"r{index}.npz", signal=signal, sampling_rate=100, lead_names=STANDARD_LEADS)
    return sorted(map(str, folder.iterdir()))


def embeddings(path):
    return np.stack(pq.read_table(path).column("embedding").to_pylist())


def counted(monkeypatch):
    """The records that are read from here on."""
    read, seen = embed_table.Item, []

    def item(key, name, *rest, **more):
        seen.append(name)
        return read(key, name, *rest, **more)

    monkeypatch.setattr(embed_table, "Item", item)
    return seen


def test_rows_are_those_of_embed_in_order(checkpoint, files, tmp_path, capsys):
    out = tmp_path / "features.parquet"
    assert main(["embed", *reversed(files), "--model", checkpoint, "-o", str(out), "--batch_size", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 5
    table = pq.read_table(out)
    assert table.column("file").to_pylist() == files[::-1]
    assert table.column_names == ["record_id", "file", "patient_id", "embedding"]
    assert (table.schema.field("embedding").type.list_size, str(table.schema.field("embedding").type.value_type)) == (
        32,
        "float",
    )
    expected = ecg.embed(files[::-1], checkpoint)
    np.testing.assert_allclose(embeddings(out), expected, atol=1e-5 * np.abs(expected).max())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features.parquet", "my records"]


def test_windows_have_a_row_each(checkpoint, files, tmp_path):
    out = tmp_path / "windows.parquet"
    assert main(["embed", *files[:2], "--model", checkpoint, "-o", str(out), "--windows"]) == 0
    table = pq.read_table(out)
    assert table.column("window").to_pylist() == [0, 1, 2, 0]
    long, short = ecg.embed(files[:2], checkpoint, windows=True)
    np.testing.assert_allclose(embeddings(out), np.concatenate([long, short]), atol=1e-5 * np.abs(long).max())


def test_bad_files_are_named_and_the_others_embedded(checkpoint, files, tmp_path, capsys):
    bad = tmp_path / "my records" / "r2.npz"
    bad.write_bytes(b"no archive")
    out = tmp_path / "features.parquet"
    folder = str(tmp_path / "my records")
    assert main(["embed", folder, str(tmp_path / "none.hea"), "--model", checkpoint, "-o", str(out)]) == 1
    said = capsys.readouterr()
    assert "r2.npz" in said.err
    assert "none.hea" in said.err
    assert json.loads(said.out)["failed"] == 2
    assert [name[-6:] for name in pq.read_table(out).column("file").to_pylist()] == [
        "r0.npz",
        "r1.npz",
        "r3.npz",
        "r4.npz",
    ]


def test_an_interrupted_run_goes_on_where_it_stopped(checkpoint, files, tmp_path, monkeypatch, capsys):
    out = tmp_path / "features.parquet"
    good = (tmp_path / "my records" / "r3.npz").read_bytes()
    (tmp_path / "my records" / "r3.npz").write_bytes(b"no archive")
    words = ["embed", *files, "--model", checkpoint, "-o", str(out), "--batch_size", "1"]
    assert main([*words, "--on_error", "raise"]) == 2
    assert not out.exists()
    assert list(tmp_path.glob("features.parquet.parts/part-*.parquet"))
    (tmp_path / "my records" / "r3.npz").write_bytes(good)
    seen = counted(monkeypatch)
    assert main(words) == 0
    assert "3 finished records" in capsys.readouterr().err
    assert seen == files[3:]
    expected = ecg.embed(files, checkpoint)
    np.testing.assert_allclose(embeddings(out), expected, atol=1e-5 * np.abs(expected).max())
    assert not list(tmp_path.glob("features.parquet.parts"))


def test_a_signal_keeps_what_is_finished(checkpoint, files, tmp_path):
    def stop_after_three(positions):
        for count, position in enumerate(positions):
            if count == 3:
                raise KeyboardInterrupt
            yield position

    out = tmp_path / "features.parquet"
    with pytest.raises(KeyboardInterrupt):
        embed_to_table(named_records(files), checkpoint, out, batch_size=1, progress=stop_after_three)
    assert embed_to_table(named_records(files), checkpoint, out).kept == 3


def test_rows_of_a_file_that_changed_are_computed_again(checkpoint, files, tmp_path):
    (tmp_path / "my records" / "r4.npz").write_bytes(b"no archive")
    out = tmp_path / "features.parquet"
    with pytest.raises(ValueError, match=r"r4\.npz"):
        embed_to_table(named_records(files), checkpoint, out, batch_size=1, on_error="raise")
    np.savez(files[0], signal=np.ones((1000, 12)).cumsum(0), sampling_rate=100, lead_names=STANDARD_LEADS)
    report = embed_to_table(named_records(files), checkpoint, out)
    assert (report.kept, report.rows, len(report.failed)) == (3, 4, 1)
    np.testing.assert_allclose(embeddings(out)[0], ecg.embed(files[0], checkpoint)[0], atol=1e-4)


def test_rows_of_other_settings_are_not_mixed(checkpoint, files, tmp_path):
    (tmp_path / "my records" / "r4.npz").write_bytes(b"no archive")
    out = tmp_path / "features.parquet"
    with pytest.raises(ValueError, match=r"r4\.npz"):
        embed_to_table(named_records(files), checkpoint, out, batch_size=1, on_error="raise")
    with pytest.raises(ValueError, match="another windows"):
        embed_to_table(named_records(files), checkpoint, out, windows=True)
    assert embed_to_table(named_records(files), checkpoint, out).kept == 4


def test_a_corpus_is_embedded_with_its_parts(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("ECG_CACHE_DIR", str(tmp_path / "cache"))
    out = tmp_path / "features.parquet"
    words = ["embed", "synthetic", "--option", "num_records=12", "--model", checkpoint, "-o", str(out)]
    assert main([*words, "--num_proc", "2"]) == 0
    splits = ecg.load_ecg_dataset("synthetic", num_records=12)
    table = pq.read_table(out).to_pandas()
    for split, rows in splits.items():
        assert list(table[table["split"] == split]["record_id"]) == rows["record_id"]
        assert list(table[table["split"] == split]["patient_id"]) == rows["patient_id"]
    expected = np.concatenate([ecg.embed(rows, checkpoint) for rows in splits.values()])
    np.testing.assert_allclose(embeddings(out), expected, atol=1e-5 * np.abs(expected).max())


def test_when_no_record_can_be_used_the_table_is_empty_and_nothing_else_stays(checkpoint, tmp_path):
    out = tmp_path / "features.parquet"
    report = embed_to_table(named_records([str(tmp_path / "none.hea")]), checkpoint, out)
    assert len(report.failed) == 1
    table = pq.read_table(out)
    assert (table.num_rows, table.schema.field("embedding").type.list_size) == (0, 32)
    assert [path.name for path in tmp_path.iterdir()] == ["features.parquet"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a.hea", "-o", "f.parquet"], "--model"),
        (["a.hea", "--model", "m"], "-o FILE.parquet"),
        (["a.hea", "--model", "m", "-o", "f.csv"], "-o FILE.parquet"),
        (["ptb_xl", "a.hea", "--model", "m", "-o", "f.parquet"], "ptb_xl is a corpus"),
        (["a.hea", "--data_dir", "x", "--model", "m", "-o", "f.parquet"], "no corpus 'a.hea'"),
        (["a.hea", "--model", "no such model", "-o", "f.parquet"], "no checkpoint's name"),
    ],
)
def test_wrong_words_are_one_sentence(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["embed", *words]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
