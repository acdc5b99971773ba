"""EchoNext: z-scores, no_split, rows by part, unmeasured flags (specification: corpora, 15)."""

import json

import numpy as np
import pytest

from ecg_transformers import ECGFeatureExtractor
from ecg_transformers.data.corpora.echonext import FLAGS
from ecg_transformers.data.corpora.shared.packaged import packaged_table
from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.data.loading import build_report, load_ecg_dataset
from ecg_transformers.features.inputs import ECGSignalWarning

PARTS = ["val", "train", "no_split", "test", "train", "no_split", "train"]


def z_scores(index, length=2500):
    return np.random.default_rng(index).normal(size=(length, 12)).cumsum(axis=0) / 30


def table_row(index, part, positive=(), unmeasured=()):
    row = {
        "": index,
        "ecg_key": f"E{index}",
        "patient_key": f"P{index % 4}",
        "age_at_ecg": 61,
        "sex": "female",
        "split": part,
    }
    for flag in packaged_table("echonext_flags"):
        row[flag["flag"]] = int(flag["flag"] in positive)
        for column in filter(None, flag["measured_from"].split(";")):
            row[column] = "" if flag["flag"] in unmeasured else 1.0
    return row


def write_corpus(root, layouts, table="EchoNext_metadata_100k.csv"):
    rows = [
        table_row(k, part, positive=[FLAGS[0]] if k == 4 else [], unmeasured=["pasp_gte_45_flag"] if k == 1 else [])
        for k, part in enumerate(PARTS)
    ]
    layouts.write_table(root / table, rows)
    for part in sorted(set(PARTS)):
        arrays = [z_scores(k) for k, name in enumerate(PARTS) if name == part]
        np.save(root / f"EchoNext_{part}_waveforms.npy", np.array(arrays)[:, None])
    return rows


@pytest.fixture(scope="module")
def echonext(tmp_path_factory, layouts):
    root = tmp_path_factory.mktemp("echonext")
    write_corpus(root, layouts)
    return root


def test_row_k_of_an_array_is_the_kth_row_of_its_part(echonext, rows_of, signal_of):
    parts = load_ecg_dataset("echonext", echonext)
    assert {part: data["record_id"] for part, data in parts.items()} == {
        "train": ["E1", "E4", "E6"],
        "validation": ["E0"],
        "test": ["E3"],
    }
    for index in (0, 1, 3, 4, 6):
        np.testing.assert_allclose(signal_of(rows_of("echonext", echonext)[f"E{index}"]), z_scores(index), atol=1e-3)


def test_no_split_is_never_read(echonext, rows_of):
    assert {"E2", "E5"}.isdisjoint(rows_of("echonext", echonext))
    assert build_report("echonext", echonext).excluded == {"no_split: earlier records of people in val and test": 2}


def test_z_scores_are_never_called_millivolts(echonext, rows_of, signal_of):
    report = build_report("echonext", echonext)
    assert report.flags["z_scores"] == 5
    assert any("NOT millivolts" in note for note in report.notes)
    row = rows_of("echonext", echonext)["E1"]
    assert json.loads(row["metadata"])["units"] == "z-score"
    with pytest.warns(ECGSignalWarning, match="E1.*z-scores"):
        ECGFeatureExtractor.for_method("st_mem")(row)
    assumed = rows_of("echonext", echonext, units="mV")["E1"]
    first = packaged_table("echonext_normalisation")[0]
    expected = (z_scores(1)[:, 0] * float(first["sd"]) + float(first["mean"])) * 0.00488
    np.testing.assert_allclose(signal_of(assumed)[:, 0], expected, atol=1e-3)
    assert "assumed" in json.loads(assumed["metadata"])["units"]


def test_a_flag_that_was_not_measured_is_said_and_left_out_of_its_task(echonext, rows_of):
    rows = rows_of("echonext", echonext)
    assert json.loads(rows["E1"]["metadata"])["unmeasured"] == ["pasp_gte_45_flag"]
    assert rows["E4"]["labels"] == [FLAGS[0]]
    assert "E1" not in rows_of("echonext", echonext, task="pasp_gte_45_flag")
    assert build_report("echonext", echonext, task="pasp_gte_45_flag").excluded["pasp_gte_45_flag not measured"] == 1


def test_constant_records_are_left_out_and_half_constant_ones_flagged(tmp_path, layouts):
    write_corpus(tmp_path, layouts, "echonext_metadata_100k.csv")
    arrays = np.array([np.full((2500, 12), 0.5), z_scores(4), z_scores(6)])[:, None]
    arrays[1, 0, 1000:] = 0.1
    np.save(tmp_path / "EchoNext_train_waveforms.npy", arrays)
    report = build_report("echonext", tmp_path)
    assert report.excluded["no signal at all"] == 1
    assert report.flags["constant_part"] == 1


def test_an_array_that_does_not_fit_the_table_is_refused(tmp_path, layouts):
    write_corpus(tmp_path, layouts)
    np.save(tmp_path / "EchoNext_test_waveforms.npy", np.zeros((2, 1, 2500, 12)))
    with pytest.raises(ECGDataError, match=r"EchoNext_test_waveforms\.npy.*1 rows of 'test'"):
        load_ecg_dataset("echonext", tmp_path)
    path = tmp_path / "EchoNext_test_waveforms.npy"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ECGDataError, match="does not fit"):
        load_ecg_dataset("echonext", tmp_path)
    np.save(path, np.array([[{}]]), allow_pickle=True)
    with pytest.raises(ECGDataError, match="plain numbers"):
        load_ecg_dataset("echonext", tmp_path)


def test_a_list_that_mixes_z_scores_with_millivolts_says_so(echonext, caplog):
    load_ecg_dataset(["echonext", "synthetic"], {"echonext": echonext}, num_records=6, task=None)
    assert [r.message for r in caplog.records if "z-scores" in r.message and "synthetic are millivolts" in r.message]
    caplog.clear()
    load_ecg_dataset(["echonext", "synthetic"], {"echonext": echonext}, num_records=6, task=None, units="mV")
    assert not [r for r in caplog.records if "z-scores" in r.message]


def test_a_flag_that_one_of_its_values_tells_was_measured(tmp_path, layouts, rows_of):
    rows = write_corpus(tmp_path, layouts)
    for row, walls in zip(rows, [("", "1.2"), ("1.2", ""), ("", "")] * 3):
        row["ivs_measurement"], row["lvpw_measurement"] = walls
    layouts.write_table(tmp_path / "EchoNext_metadata_100k.csv", rows)
    unmeasured = {
        name: json.loads(row["metadata"])["unmeasured"] for name, row in rows_of("echonext", tmp_path).items()
    }
    assert {name for name, flags in unmeasured.items() if "lvwt_gte_13_flag" in flags} == set()
    assert {name for name, _ in zip(unmeasured, range(9))} >= {"E0", "E1", "E3", "E4", "E6"}
