"""PTB-XL+ joined to PTB-XL by ecg_id, and the withdrawn records (specification: corpora, 16 and 1.1)."""

import csv
import json
import shutil

import numpy as np
import pytest

from ecg_transformers.data.corpora.shared.ptb_xl_plus import PTBXLPlus
from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.data.loading import build_report, load_ecg_dataset

LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]


def write_median(folder, name, values, record, fmt="32", gain="6344117.125(-1842966025)/mV"):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{record} 12 500 {len(values)}"]
    lines += [f"{name}.dat {fmt} {gain} {fmt} 0 {first} 0 0 {lead}" for first, lead in zip(values[0], LEADS)]
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
    values.astype("<i4" if fmt == "32" else "<i2").tofile(folder / f"{name}.dat")


@pytest.fixture(scope="module")
def plus(tmp_path_factory, layouts):
    """Three records; the tables in another order, `ecg_id` at the end of one of them."""
    root = tmp_path_factory.mktemp("plus") / "1.0.1"
    layouts.write_table(
        root / "features" / "12sl_features.csv",
        [{"R_PeakAmp_I": 700 + k, "QT_Int_Global": "", "ecg_id": k} for k in (3, 1, 2)],
    )
    layouts.write_table(root / "features" / "unig_features.csv", [{"ecg_id": k, "QRS_Dur": 90.5 + k} for k in (1, 3)])
    layouts.write_table(
        root / "labels" / "ptbxl_statements.csv",
        [{"ecg_id": k, "scp_codes": f"[('NORM', {float(k)})]", "scp_codes_ext": "['NORM', 'SR']"} for k in (2, 1, 3)],
    )
    values = np.arange(600)[:, None] * 1000 + np.arange(12) - 1842966025
    write_median(root / "median_beats/12sl/00000", "00001_medians", values, "ge_median_beats_wfdb/00001_medians")
    unig = (np.arange(600)[:, None] + np.arange(12)).astype(np.int64)
    write_median(root / "median_beats/unig/00000", "000001_medians", unig, "000001_medians", fmt="16", gain="1/mV")
    return root.parent


def joined(rows, name):
    return json.loads(rows[name]["metadata"])["plus"]


def test_tables_are_joined_by_the_name_of_the_id_column(mini_ptb_xl, plus, rows_of):
    rows = rows_of("ptb_xl", mini_ptb_xl, plus_dir=str(plus))
    for number in (1, 2, 3):
        entry = joined(rows, str(number))
        assert entry["12sl"] == {"R_PeakAmp_I": 700 + number, "QT_Int_Global": None}
        assert entry["statements"] == {"scp_codes": [["NORM", float(number)]], "scp_codes_ext": ["NORM", "SR"]}
    assert joined(rows, "1")["unig"] == {"QRS_Dur": 91.5}
    assert "unig" not in joined(rows, "2")
    assert joined(rows, "4")["median_beats"] == {}
    notes = build_report("ptb_xl", mini_ptb_xl, plus_dir=str(plus)).notes
    assert "PTB-XL+ unig_features.csv: 2 of 20 records" in notes


def test_median_beats_are_in_millivolts_in_spite_of_their_headers(mini_ptb_xl, plus, rows_of):
    tables = PTBXLPlus(plus)
    beat = tables.median_beat(1, "12sl")
    assert (beat.signal.shape, beat.sampling_rate, beat.lead_names) == ((600, 12), 500, LEADS)
    np.testing.assert_allclose(beat.signal[599, 2], (599 * 1000 + 2) / 6344117.125, rtol=1e-5)
    beat = tables.median_beat(1, "unig")
    np.testing.assert_allclose(beat.signal[10, 3], 0.013, rtol=1e-5)
    assert beat.metadata["flags"] == ["unit_corrected"]
    entry = joined(rows_of("ptb_xl", mini_ptb_xl, plus_dir=str(plus), plus_median_beat="unig"), "1")
    assert np.shape(entry["median_beat"]["signal"]) == (600, 12)


def test_statements_are_parsed_and_never_evaluated(mini_ptb_xl, plus, tmp_path, rows_of):
    shutil.copytree(plus, tmp_path / "plus")
    path = next((tmp_path / "plus").rglob("ptbxl_statements.csv"))
    path.write_text("ecg_id,scp_codes\n1,[__import__('os').getcwd()]\n")
    with pytest.raises(ECGDataError, match="no list of statements"):
        load_ecg_dataset("ptb_xl", mini_ptb_xl, plus_dir=str(tmp_path / "plus"))


def test_a_folder_without_any_of_it_is_refused(mini_ptb_xl, tmp_path):
    with pytest.raises(ECGDataError, match=r"no table of PTB-XL\+ here"):
        load_ecg_dataset("ptb_xl", mini_ptb_xl, plus_dir=str(tmp_path))


def test_withdrawn_records_of_an_older_copy_are_left_out_and_counted(mini_ptb_xl, tmp_path, rows_of):
    shutil.copytree(mini_ptb_xl, tmp_path / "nested" / "ptb-xl" / "1.0.1")
    table = tmp_path / "nested" / "ptb-xl" / "1.0.1" / "ptbxl_database.csv"
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rows[0]["ecg_id"], rows[1]["ecg_id"] = "137", "456"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert {"137", "456"}.isdisjoint(rows_of("ptb_xl", tmp_path))
    assert build_report("ptb_xl", tmp_path).excluded == {"withdrawn in version 1.0.3 as a copy of another record": 2}
    assert {"137", "456"} <= set(rows_of("ptb_xl", tmp_path, bad_records="keep"))


def test_the_challenge_copy_is_told_how_to_be_loaded(tmp_path, layouts):
    layouts.write_challenge(tmp_path / "WFDB", "HR00001")
    with pytest.raises(ECGDataError, match=r"cinc2021 with include=\['ptb_xl'\]"):
        load_ecg_dataset("ptb_xl", tmp_path)


def test_median_beats_that_come_later_are_seen(mini_ptb_xl, plus, tmp_path, rows_of):
    shutil.copytree(plus, tmp_path / "plus")
    (beats,) = (tmp_path / "plus").rglob("median_beats")
    beats.rename(tmp_path / "beats")
    assert joined(rows_of("ptb_xl", mini_ptb_xl, plus_dir=str(tmp_path / "plus")), "1")["median_beats"] == {}
    (tmp_path / "beats").rename(beats)
    assert set(joined(rows_of("ptb_xl", mini_ptb_xl, plus_dir=str(tmp_path / "plus")), "1")["median_beats"]) == {
        "12sl",
        "unig",
    }


def test_a_withdrawn_record_that_is_kept_stands_beside_the_one_it_repeats(mini_ptb_xl, tmp_path, rows_of):
    shutil.copytree(mini_ptb_xl, tmp_path / "ptb-xl")
    records = tmp_path / "ptb-xl" / "records100" / "00000"
    shutil.copy(records / "00010_lr.dat", records / "00001_lr.dat")
    (records / "00001_lr.hea").write_text((records / "00010_lr.hea").read_text().replace("00010_lr", "00001_lr"))
    table = tmp_path / "ptb-xl" / "ptbxl_database.csv"
    table.write_text(table.read_text(encoding="utf-8").replace("\n1,1001.0", "\n137,1001.0"), encoding="utf-8")
    kept = rows_of("ptb_xl", tmp_path, bad_records="keep")
    assert kept["137"]["fold"] == kept["10"]["fold"] == 10
    assert any("1 withdrawn records" in note for note in build_report("ptb_xl", tmp_path, bad_records="keep").notes)


def test_a_copy_without_statements_or_with_other_folders_is_read(mini_ptb_xl, tmp_path, rows_of):
    shutil.copytree(mini_ptb_xl, tmp_path / "mirror" / "tables", ignore=shutil.ignore_patterns("*.hea", "*.dat"))
    (tmp_path / "mirror" / "signals").mkdir()
    for path in mini_ptb_xl.rglob("*_lr.*"):
        shutil.copy(path, tmp_path / "mirror" / "signals")
    (tmp_path / "mirror" / "tables" / "scp_statements.csv").unlink()
    found, expected = rows_of("ptb_xl", tmp_path), rows_of("ptb_xl", mini_ptb_xl)
    assert {name: (row["labels"], row["signal"]) for name, row in found.items()} == {
        name: (row["labels"], row["signal"]) for name, row in expected.items()
    }
    assert any("scp_statements.csv" in note for note in build_report("ptb_xl", tmp_path).notes)
