"""CinC 2020 and 2021 and their parts: sources, gains, labels, headers with traps (specification: corpora, 2)."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from ecg_transformers.data.corpora.shared.headers import parse_comments, repair_merged_lines
from ecg_transformers.data.corpora.shared.packaged import packaged_table
from ecg_transformers.data.corpora.shared.snomed import label_names_of, labels_of_codes
from ecg_transformers.data.errors import DuplicateRecordError, ECGDataError, OptionError, RecordNotFoundError
from ecg_transformers.data.loading import build_report, load_ecg_dataset
from ecg_transformers.data.record import ECGRecord
from ecg_transformers.data.sheets import corpus_sheet, sheet_text

_spec = importlib.util.spec_from_file_location("corpus_layouts", Path(__file__).with_name("layouts.py"))
layouts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(layouts)
write_challenge, microvolts = layouts.write_challenge, layouts.microvolts
pytestmark = pytest.mark.usefixtures("own_cache")


def rows_of(name, folder, **options):
    """All rows by record id."""
    parts = load_ecg_dataset(name, folder, **options)
    return {row["record_id"]: row for part in parts.values() for row in part}


def signal_of(row):
    return ECGRecord.from_row(row).signal


@pytest.fixture(scope="module")
def edition(tmp_path_factory):
    """One record of every source in the nested layout of edition 1.0.3, with left-over files."""
    root = tmp_path_factory.mktemp("physionet.org") / "files" / "challenge-2021" / "1.0.3" / "training"
    for folder, name, codes in (
        ("cpsc_2018/g1", "A0001", "59118001"),
        ("cpsc_2018_extra/g1", "Q0003", "164884008"),
        ("st_petersburg_incart/g1", "I0002", "266257000"),
        ("ptb/g1", "S0001", "164865005"),
        ("ptb-xl/g1", "HR00001", "426783006"),
        ("ptb-xl/g1", "HR00137", "426783006"),
        ("georgia/g1", "E00001", "63593006,284470004"),
        ("chapman_shaoxing/g1", "JS10646", "426177001"),
        ("ningbo/g1", "JS10647", "164890007"),
    ):
        write_challenge(root / folder, name, codes, rate=257 if name[0] == "I" else 500)
    (root / "georgia" / "g1" / "index.html").write_text("<html>")
    (root / "georgia" / "g1" / "RECORDS").write_text("E00001\nE00002\n")
    (root / "georgia" / "g1" / "._E00001.hea").write_bytes(b"\0\1\2")
    return root.parents[3]


def test_sources_come_from_the_letters_at_any_depth(edition):
    rows = rows_of("cinc2021", edition)
    parts = {name: json.loads(row["metadata"])["part"] for name, row in rows.items()}
    assert parts == {
        "A0001": "cpsc2018",
        "Q0003": "cpsc_extra",
        "I0002": "incart",
        "S0001": "ptb",
        "HR00001": "ptb_xl",
        "E00001": "georgia",
        "JS10646": "chapman",
        "JS10647": "ningbo",
    }
    assert rows["I0002"]["sampling_rate"] == 257


def test_the_withdrawn_records_of_ptb_xl_are_left_out_and_counted_or_kept(edition):
    report = build_report("cinc2021", edition)
    assert report.excluded == {"known bad record (withdrawn)": 1}
    assert any("HR00137" in note for note in report.notes)
    kept = rows_of("cinc2021", edition, bad_records="keep")
    assert "known_withdrawn" in kept["HR00137"]["metadata"]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"include": ["georgia"]}, {"E00001"}),
        ({"exclude": ["ptb_xl", "cpsc2018", "chapman", "ptb"]}, {"Q0003", "I0002", "E00001", "JS10647"}),
    ],
)
def test_include_and_exclude_choose_sources(edition, options, kept):
    assert set(rows_of("cinc2021", edition, **options)) == kept


def test_the_edition_of_2020_has_six_sources(edition):
    assert {"JS10646", "JS10647"}.isdisjoint(rows_of("cinc2020", edition))
    with pytest.raises(OptionError, match="has no source 'ningbo'"):
        load_ecg_dataset("cinc2020", edition, include=["ningbo"])


def test_chapman_and_ningbo_part_at_10647(edition):
    assert set(rows_of("chapman", edition)) == {"JS10646"}
    assert set(rows_of("ningbo", edition)) == {"JS10647"}
    assert set(rows_of("georgia", edition)) == {"E00001"}
    assert set(rows_of("cpsc_extra", edition)) == {"Q0003"}


def test_scored_classes_join_equivalent_codes():
    assert len(label_names_of("scored", 2021)) == 26
    assert len(label_names_of("scored", 2020)) == 24
    assert len(label_names_of("all")) == 133
    assert labels_of_codes(["63593006", "284470004"], "scored") == ("PAC|SVPB",)
    assert labels_of_codes(["733534002"], "scored", 2021) == labels_of_codes(["164909002"], "scored", 2021)
    assert labels_of_codes(["164909002"], "scored", 2020) == ("LBBB",)
    assert labels_of_codes(["733534002"], "scored", 2020) == ()
    assert labels_of_codes(["164884008"], "scored") == ()  # the ventricular beats of CPSC 2018 are not scored


@pytest.mark.parametrize(
    ("name", "gain", "corrected"),
    [
        ("S0001", "2000000/mV", True),
        ("HR00001", "200/mV", True),
        ("E00001", "4880/mV", True),
        ("A0001", "1000/mV", False),
        ("A0002", "200/mV", False),
        ("E00001", "1000/mV", False),
    ],
)
def test_wrong_gains_of_the_first_2020_edition_are_put_right_and_counted(tmp_path, name, gain, corrected):
    samples = write_challenge(
        tmp_path / "Training", name, gain=gain, record_name=f"{name}.mat" if name[0] == "E" else None
    )
    row = rows_of("cinc2020", tmp_path)[name]
    scale = 1000.0 if corrected else float(gain.partition("/")[0])
    np.testing.assert_allclose(signal_of(row), samples / scale, rtol=1e-6)
    assert build_report("cinc2020", tmp_path).flags.get("gain_corrected", 0) == corrected
    as_written = signal_of(rows_of("cinc2020", tmp_path, correct_gain=False)[name])
    np.testing.assert_allclose(as_written, samples / float(gain.partition("/")[0]), rtol=1e-6)


@pytest.mark.parametrize(
    ("lines", "age", "sex", "codes"),
    [
        (["# Age: 57", "# Sex: Female", "# Dx: 164934002,426783006"], 57, "female", ["164934002", "426783006"]),
        (["#Age: 57", "#Sex: F", "#Dx: 164934002, 426783006"], 57, "female", ["164934002", "426783006"]),
        (["#Age: NaN", "#Sex: Unknown", "#Dx: 164934002,"], None, None, ["164934002"]),
        (["#Age: -1", "#Sex: male", "#Dx: 164934002,,426783006"], None, "male", ["164934002", "426783006"]),
        (["#Age: 300", "#Sex: M", "#Dx: 284470004,284470004"], None, "male", ["284470004"]),
        (["#Sex: NaN", "#Dx: Unknown"], None, None, []),
    ],
)
def test_comments_are_read_in_all_their_spellings(lines, age, sex, codes):
    comments = parse_comments(lines)
    assert (comments.age, comments.sex, list(comments.codes)) == (age, sex, codes)
    assert comments.age_over_89 == ("#Age: 300" in lines)


def test_age_zero_is_a_placeholder_in_ningbo_only(tmp_path):
    write_challenge(tmp_path, "JS10648", age="0")
    write_challenge(tmp_path, "E00002", age="0")
    assert '"age": null' in rows_of("ningbo", tmp_path)["JS10648"]["metadata"]
    assert '"age": 0.0' in rows_of("georgia", tmp_path)["E00002"]["metadata"]


def merged_header(folder, name):
    """The header of JS01052 as published: a lost line break, 12 signals declared and 11 given."""
    samples = write_challenge(folder, name, samples=microvolts(5, 5000), space="")
    lines = (folder / f"{name}.hea").read_text().splitlines()
    rest = lines[1].split("/mV ")[1]
    (folder / f"{name}.hea").write_text("\n".join([f"{name} 12 500 500000/mV {rest}", *lines[2:]]) + "\n")
    return samples


@pytest.mark.parametrize(("corpus", "name"), [("chapman", "JS01052"), ("ningbo", "JS23074")])
def test_merged_header_lines_are_put_right_where_the_checksums_agree(tmp_path, corpus, name):
    samples = merged_header(tmp_path / "WFDBRecords" / "02" / "021", name)
    row = rows_of(corpus, tmp_path)[name]
    np.testing.assert_allclose(signal_of(row), samples / 1000, rtol=1e-6)
    assert row["lead_names"] == layouts.LEADS
    assert build_report(corpus, tmp_path).flags["header_repaired"] == 1


def test_a_merged_header_whose_checksums_disagree_is_no_record(tmp_path):
    merged_header(tmp_path, "JS01052")
    samples = microvolts(6, 5000)
    layouts.write_mat4(tmp_path / "JS01052.mat", samples)
    with pytest.raises(ECGDataError, match="checksum"):
        load_ecg_dataset("chapman", tmp_path)


def test_an_ordinary_header_is_not_repaired():
    assert repair_merged_lines(b"JS00001 12 500 5000\nJS00001.mat 16+24 1000/mV 16 0 -254 21756 0 I\n") is None


def test_a_header_without_its_letter_is_no_record_and_counted(tmp_path):
    write_challenge(tmp_path, "JS20001")
    write_challenge(tmp_path, "JS23074")
    (tmp_path / "JS23074.hea").rename(tmp_path / "S23074.hea")
    report = build_report("ningbo", tmp_path)
    assert report.read == 1
    assert report.excluded == {"headers that are no record of the Challenge (S23074.hea)": 1}


def test_samples_without_value_are_nan_and_flat_leads_are_flagged(tmp_path):
    samples = microvolts(3)
    samples[10:20, 1] = -32768
    samples[:, 7] = 0
    write_challenge(tmp_path, "JS10765", samples=samples)
    row = rows_of("ningbo", tmp_path, bad_records="keep")["JS10765"]
    assert np.isnan(signal_of(row)[10:20, 1]).all()
    report = build_report("ningbo", tmp_path, bad_records="keep")
    assert report.flags == {"missing_samples": 1, "flat_lead": 1, "known_signal": 1}


def test_known_bad_records_are_skipped_and_counted_or_kept_and_flagged(tmp_path):
    for name in ("Q0001", "Q0400", "Q0063", "Q0051"):
        write_challenge(tmp_path, name)
    assert set(rows_of("cpsc_extra", tmp_path)) == {"Q0001", "Q0051"}
    report = build_report("cpsc_extra", tmp_path)
    assert report.excluded == {"known bad record (duplicate)": 1, "known bad record (signal)": 1}
    assert any("left out (duplicate): Q0063" in note for note in report.notes)
    kept = rows_of("cpsc_extra", tmp_path, bad_records="keep")
    flags = {
        name: [f for f in json.loads(row["metadata"]).get("flags", []) if "known" in f] for name, row in kept.items()
    }
    assert flags == {"Q0001": [], "Q0051": [], "Q0063": ["known_duplicate"], "Q0400": ["known_signal"]}


@pytest.mark.parametrize(
    "name", ["ptb_xl", "cinc2020", "cinc2021", "chapman", "ningbo", "georgia", "cpsc2018", "cpsc_extra"]
)
def test_fact_sheets_say_that_known_bad_records_are_left_out_and_how_to_keep_them(name):
    assert "left out and counted" in sheet_text(corpus_sheet(name))
    assert "bad_records='keep'" in sheet_text(corpus_sheet(name))


def test_known_copies_of_a_recording_stay_in_one_part(tmp_path):
    for number in range(1, 40):
        write_challenge(tmp_path, f"Q{number:04d}", samples=microvolts(number, 50))
    for name in ("Q0063", "Q0051"):
        write_challenge(tmp_path, name, samples=microvolts(7, 50), codes="164889003" if name == "Q0063" else "59118001")
    for seed in range(3):
        rows = rows_of("cpsc_extra", tmp_path, seed=seed, bad_records="keep")
        assert rows["Q0063"]["fold"] == rows["Q0051"]["fold"]


def test_patients_of_ptb_xl_and_incart_are_known_inside_an_edition(tmp_path):
    """`HRnnnnn` is `ecg_id` nnnnn, and the numbers of INCART's records were kept; of the others nobody knows."""
    for name in ("HR00001", "HR00002", "HR00003", "HR00038", "I0001", "I0002", "I0003", "E00001"):
        write_challenge(tmp_path / "training", name, "426783006")
    table = tmp_path / "ptbxl_database.csv"
    table.write_text("ecg_id,patient_id,age\n1,15709.0,56\n2,13243,19\n3,15709.0,57\n")
    rows = rows_of("cinc2021", tmp_path)
    assert {name: row["patient_id"] for name, row in rows.items()} == {
        **{"HR00001": "15709", "HR00002": "13243", "HR00003": "15709", "HR00038": None},
        **{"I0001": "incart 1", "I0002": "incart 1", "I0003": "incart 2", "E00001": None},
    }
    assert rows["HR00001"]["fold"] == rows["HR00003"]["fold"]
    assert rows["I0001"]["fold"] == rows["I0002"]["fold"]
    notes = "\n".join(build_report("cinc2021", tmp_path).notes)
    assert "3 records of ptb_xl are of 2 patients" in notes
    assert "2 records without patient ids" in notes
    table.rename(tmp_path.with_name("elsewhere.csv"))
    assert rows_of("cinc2021", tmp_path)["HR00001"]["patient_id"] is None
    named = rows_of("cinc2021", tmp_path, ptbxl_database=str(tmp_path.with_name("elsewhere.csv")))
    assert named["HR00001"]["patient_id"] == "15709"
    with pytest.raises(RecordNotFoundError, match=r"nothing\.csv"):
        load_ecg_dataset("cinc2020", tmp_path, ptbxl_database=str(tmp_path / "nothing.csv"))


def test_the_split_of_merl_is_an_option_of_both_halves_of_ecg_arrhythmia(tmp_path):
    part_of = {row["record"]: row["part"] for row in packaged_table("split_ecg_arrhythmia_merl")}
    halves = {"chapman": range(1, 10_647), "ningbo": range(10_647, 45_552)}
    for corpus, numbers in halves.items():
        names = [f"JS{number:05d}" for number in numbers]
        chosen = {part: next(n for n in names if part_of.get(n) == part) for part in ("train", "validation", "test")}
        outside = next(name for name in reversed(names) if name not in part_of)
        for name in (*chosen.values(), outside):
            write_challenge(tmp_path / "WFDBRecords", name, "426177001")
        found = load_ecg_dataset(corpus, tmp_path, protocol="merl_split")
        assert {part: rows["record_id"] for part, rows in found.items()} == {p: [n] for p, n in chosen.items()}
        report = build_report(corpus, tmp_path, protocol="merl_split")
        assert report.excluded["not in the split of MERL"] == 1
        assert any("3 of its 23,026 records are here" in note for note in report.notes)
    both = load_ecg_dataset(["chapman", "ningbo"], dict.fromkeys(halves, tmp_path), protocol="merl_split")
    assert {part: len(rows) for part, rows in both.items()} == {"train": 2, "validation": 2, "test": 2}
    with pytest.raises(OptionError, match="merl_split"):
        load_ecg_dataset("ningbo", tmp_path, protocol="merl")


def test_the_report_says_what_is_missing(tmp_path):
    write_challenge(tmp_path, "E00001", codes="426783006,123456789")
    report = build_report("georgia", tmp_path)
    text = " ".join(report.notes)
    assert "no patient ids" in text
    assert "1 of 10,344 records, an incomplete copy" in text
    assert "123456789" in text


def test_pointers_of_git_lfs_are_named(tmp_path):
    write_challenge(tmp_path, "E00001")
    (tmp_path / "E00001.mat").write_text(layouts.LFS_POINTER)
    with pytest.raises(ECGDataError, match=r"E00001\.mat.*Git LFS pointer"):
        load_ecg_dataset("georgia", tmp_path)
    (tmp_path / "E00001.hea").write_text(layouts.LFS_POINTER)
    with pytest.raises(ECGDataError, match="Git LFS pointer"):
        load_ecg_dataset("georgia", tmp_path)


def test_a_missing_signal_file_is_named(tmp_path):
    write_challenge(tmp_path, "E00001")
    (tmp_path / "E00001.mat").unlink()
    with pytest.raises(ECGDataError, match=r"E00001\.mat"):
        load_ecg_dataset("georgia", tmp_path)


def test_nothing_outside_the_folder_is_read(tmp_path):
    write_challenge(tmp_path / "elsewhere", "E00001")
    inside = tmp_path / "georgia"
    write_challenge(inside, "E00002")
    (inside / "E00001.hea").symlink_to(tmp_path / "elsewhere" / "E00001.hea")
    (inside / "E00001.mat").symlink_to(tmp_path / "elsewhere" / "E00001.mat")
    assert set(rows_of("georgia", inside, max_skipped=0.6)) == {"E00002"}


def test_a_folder_without_records_says_what_is_expected(tmp_path):
    (tmp_path / "mitbih_train.csv").write_text("0,1\n")
    with pytest.raises(RecordNotFoundError, match=r"no record of georgia here; expected is E00001\.hea"):
        load_ecg_dataset("georgia", tmp_path)


@pytest.mark.parametrize(
    ("corpus", "file"), [("ptb", "ptbdb_normal.csv"), ("incart", "INCART 2-lead Arrhythmia Database.csv")]
)
def test_files_of_single_beats_are_no_corpus_and_named(tmp_path, corpus, file):
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / file).write_text("0.5,1,0\n")
    with pytest.raises(RecordNotFoundError, match=rf"{file}.* no records"):
        load_ecg_dataset(corpus, tmp_path)


def test_real_records_of_both_editions_are_read(ecg_data_dir):
    report = build_report("cinc2021", ecg_data_dir / "cinc2021")
    assert (report.read, report.skipped, report.flags) == (38, [], {"flat_lead": 2})
    report = build_report("cinc2020", ecg_data_dir / "cinc2020")
    assert (report.read, report.skipped, report.flags) == (15, [], {"gain_corrected": 5})
    rows = rows_of("cinc2020", ecg_data_dir / "cinc2020")
    assert rows["S0001"]["sampling_rate"] == 1000
    assert rows["E00015"]["labels"] == ["LQRSV", "PAC"]


def test_the_corrected_scale_is_that_of_the_same_recording_elsewhere(ecg_data_dir):
    challenge = signal_of(rows_of("cinc2020", ecg_data_dir / "cinc2020")["HR00599"])
    original = signal_of(rows_of("ptb_xl", ecg_data_dir / "ptb-xl")["599"])
    assert np.polyfit(challenge[::5][:1000].ravel(), original.ravel(), 1)[0] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("policy", ["skip", "keep"])
def test_copies_stay_in_one_part_also_where_some_leads_were_repaired(tmp_path, policy):
    """The headers tell: eight of the twelve leads have the same first sample and the same sum."""
    samples = layouts.microvolts(3)
    for number in range(1, 9):
        copy = samples if number == 1 else layouts.microvolts(number + 50)
        write_challenge(tmp_path, f"HR{number:05d}", f"4267830{number:02d}", samples=copy)
    repaired = samples.copy()
    repaired[500, :4] += 17
    write_challenge(tmp_path, "HR00137", samples=repaired)
    write_challenge(tmp_path, "HR00138", samples=samples)
    for seed in range(6):
        rows = rows_of("cinc2021", tmp_path, seed=seed, bad_records=policy)
        assert len({rows[name]["fold"] for name in ("HR00001", "HR00137", "HR00138") if name in rows}) == 1
    assert ("HR00137" in rows) == (policy == "keep")


def test_a_folder_of_two_editions_is_told_apart(tmp_path):
    for edition in ("challenge-2020", "challenge-2021"):
        write_challenge(tmp_path / edition / "training" / "g1", "A0001")
    with pytest.raises(
        DuplicateRecordError, match=r"lie in .*challenge-2020 and in .*challenge-2021: give one of the two"
    ):
        load_ecg_dataset("cinc2021", tmp_path)


def test_signal_files_that_have_lost_their_header_are_told(tmp_path):
    for name in ("E00001", "E00002"):
        write_challenge(tmp_path, name)
    (tmp_path / "E00002.hea").unlink()
    notes = build_report("georgia", tmp_path).notes
    assert any("1 signal files have no header" in note and "E00002.mat" in note for note in notes)
