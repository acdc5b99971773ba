"""What all readers of hospital formats do alike: right numbers, identity hidden, content before suffix, parts."""

import io
import json
import logging
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ecg_transformers.data.corpora.folder.files import FileIndex
from ecg_transformers.data.errors import ECGDataError, MissingDependencyError, OptionError, UnsupportedFormatError
from ecg_transformers.data.loading import build_report, load_ecg_dataset
from ecg_transformers.data.readers import describe_record, format_of, read_digital, read_record
from ecg_transformers.data.record import ECGRecord

KINDS = ["dicom", "aecg", "philips", "muse", "scp", "ishne", "edf", "bdf"]


def truth_of(counts, step_uv):
    if step_uv is None:  # BDF: 24 bits over 524 mV
        return (counts + 8388608) * (524287 / 16777215) / 1000 - 262.144
    return counts * np.asarray(step_uv) / 1000


@pytest.fixture
def files(hospital, tmp_path):
    """The path of one file of each format with its truth: counts, microvolts a count, leads, Hz."""
    made = []
    for (name, content, *truth), kind in zip(hospital.every_format(), KINDS):
        (tmp_path / name).write_bytes(content)
        made.append((kind, tmp_path / name, *truth))
    return made


def test_every_format_gives_millivolts_leads_rate_and_time(files):
    for kind, path, counts, step, leads, rate in files:
        record = read_record(path)
        np.testing.assert_allclose(record.signal, truth_of(counts, step), atol=2e-5, err_msg=kind)
        assert (record.lead_names, record.sampling_rate) == (leads, rate), kind
        assert record.metadata["acquired"] == "2019-08-22T13:45:01", kind
        assert record.metadata["sex"] == "F", kind
        assert record.metadata["age"] == 76, kind


def test_sixteen_bit_formats_keep_their_counts(files):
    for kind, path, counts, *_ in files[:-1]:
        np.testing.assert_array_equal(read_digital(path).samples, counts, err_msg=kind)


def test_twenty_four_bits_in_sixteen_are_those_of_the_range_of_a_lead(hospital, tmp_path, own_cache):
    """Over the range of the amplifier a step would be 8 microvolts."""
    wave = np.cumsum(np.random.default_rng(1).normal(0, 3000, (600, 2)), axis=0).astype(int)
    (tmp_path / "h.bdf").write_bytes(hospital.edf(wave - 5_760_000, width=3, physical=(-262144, 262143)))
    exact = read_record(tmp_path / "h.bdf").signal
    assert np.ptp(exact) > 2  # beyond 16 bits of its own steps
    (row,) = load_ecg_dataset("folder", str(tmp_path), split="train")
    for stored in (read_digital(tmp_path / "h.bdf").to_record(), ECGRecord.from_row(row)):
        np.testing.assert_allclose(stored.signal, exact, rtol=0, atol=1.1 * np.ptp(exact) / 65000)


def test_the_content_decides_and_not_the_suffix(files, tmp_path):
    for kind, path, *_ in files:
        for name in (f"x-{kind}", f"x-{kind}.TXT", f"x-{kind}.dcm", f"x-{kind}.xml", f"x-{kind}.csv"):
            shutil.copy(path, tmp_path / name)
            assert format_of(tmp_path / name) == kind
            np.testing.assert_array_equal(read_record(tmp_path / name).signal, read_record(path).signal)


def test_the_patient_is_hidden_behind_one_stand_in(files, hospital):
    records = [read_record(path) for _, path, *_ in files]
    assert len({record.patient_id for record in records}) == 1
    assert records[0].patient_id.isalpha()
    for record in records:
        said = json.dumps(record.metadata) + record.patient_id + repr(record.annotations)
        assert [word for word in hospital.IDENTIFYING if word in said] == []


def test_another_key_gives_another_stand_in(files, monkeypatch):
    path = files[0][1]
    before = read_record(path).patient_id
    monkeypatch.setenv("ECG_IDENTITY_KEY", "another group")
    after = read_record(path).patient_id
    assert after != before
    monkeypatch.delenv("ECG_IDENTITY_KEY")
    assert read_record(path).patient_id == before


def test_identity_is_kept_where_it_is_asked_for(files, hospital):
    for kind, path, *_ in files:
        record = read_record(path, keep_identity=True)
        assert record.patient_id == hospital.ID, kind
        assert hospital.LAST in record.metadata["identity"]["name"], kind
        assert record.metadata["identity"]["birth_date"] == "1943-07-11", kind


def test_start_and_stop_are_a_slice_of_the_whole(files):
    for kind, path, *_ in files:
        whole = read_record(path).signal
        for start, stop in ((0, 10), (95, 205), (137, None), (599, 600), (590, 10_000)):
            part = read_record(path, start=start, stop=stop)
            np.testing.assert_array_equal(part.signal, whole[start:stop], err_msg=f"{kind} {start}:{stop}")
        for start, stop in ((600, None), (10, 10), (-1, None)):
            with pytest.raises(OptionError):
                read_record(path, start=start, stop=stop)


def test_leads_are_chosen_by_name(files):
    for kind, path, counts, step, leads, _ in files:
        record = read_record(path, lead_names=[leads[1], leads[0]])
        np.testing.assert_allclose(record.signal, truth_of(counts, step)[:, [1, 0]], atol=2e-5, err_msg=kind)


def test_a_file_cut_anywhere_is_an_error_that_names_format_and_file(files, tmp_path):
    for kind, path, *_ in files:
        content = path.read_bytes()
        for share in (0.3, 0.6, 0.9, 0.99):
            cut = tmp_path / f"cut{path.suffix}"
            cut.write_bytes(content[: int(share * len(content))])
            with pytest.raises(ECGDataError, match=r"cut\.") as caught:
                read_record(cut)
            assert "\n" not in str(caught.value), kind


def test_a_folder_of_mixed_formats_is_one_dataset(files, hospital, tmp_path, own_cache):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for _, path, *_ in files:
        shutil.copy(path, folder / path.name)
    (folder / "other.xml").write_text("<?xml version='1.0'?><ECG/>")
    rows = load_ecg_dataset("folder", str(folder), split="train")
    assert sorted(rows["record_id"]) == sorted(path.stem for _, path, *_ in files)
    report = build_report("folder", str(folder))
    assert any("other.xml" in note and "Mortara" in note for note in report.notes)
    everything = json.dumps(rows.remove_columns(["signal"]).to_list(), default=str) + str(report)
    assert [word for word in hospital.IDENTIFYING if word in everything] == []
    assert len(set(rows["patient_id"])) == 1


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big"])
def test_images_and_the_directory_of_a_disc_are_left_alone_beside_its_ecgs(syntax, hospital, tmp_path, own_cache):
    """What holds a waveform is read, whatever its class says; what does not hold one is named and no broken record."""
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.dcmread(io.BytesIO(hospital.dicom(hospital.ecg_counts(600), syntax=syntax)))
    for name, modality, of_class in (
        ("IM0001", "ECG", "1.2.840.10008.5.1.4.1.1.9.1.1"),
        ("IM0002", "OT", "1.2.840.10008.5.1.4.1.1.7"),
        ("IM0003", "OT", "1.2.840.10008.5.1.4.1.1.7"),
        ("DICOMDIR", "", "1.2.840.10008.1.3.10"),
    ):
        data.SOPClassUID, data.file_meta.MediaStorageSOPClassUID, data.Modality = of_class, of_class, modality
        if name == "IM0003":
            del data.WaveformSequence
        data.save_as(tmp_path / name, enforce_file_format=True)
    rows = load_ecg_dataset("folder", str(tmp_path), split="train")
    assert sorted(rows["record_id"]) == ["IM0001", "IM0002"]
    said = " ".join(FileIndex.scan(tmp_path).left_alone())
    assert "(DICOM file of modality OT without a waveform): IM0003" in said
    assert "(DICOM file without a waveform): DICOMDIR" in said
    (tmp_path / "IM0003").rename(tmp_path / "i.dcm")
    with pytest.raises(UnsupportedFormatError, match=r"modality OT without a waveform\.$"):
        read_record(tmp_path / "i.dcm")


@pytest.mark.parametrize("width", [2, 3])
def test_files_of_annotations_alone_are_left_alone_beside_the_ecg(width, hospital, tmp_path, own_cache):
    """Sleep laboratories keep what was scored in an EDF+ of its own: it is no ECG that cannot be read."""
    counts = hospital.ecg_counts(200, ["II", "V5"])
    (tmp_path / "night.edf").write_bytes(hospital.edf(counts, width=width, kind="EDF+C", onsets=[0, 1]))
    scored = hospital.edf(counts[:, :0], (), width=width, kind="EDF+C", onsets=[0, 1])
    (tmp_path / "scored.edf").write_bytes(scored)
    assert load_ecg_dataset("folder", str(tmp_path), split="train")["record_id"] == ["night"]
    assert "annotations without a signal): scored.edf" in " ".join(FileIndex.scan(tmp_path).left_alone())
    with pytest.raises(UnsupportedFormatError, match="annotations without a signal"):
        read_record(tmp_path / "scored.edf")


def test_a_table_names_files_of_hospital_formats(files, tmp_path, own_cache):
    folder = tmp_path / "table"
    folder.mkdir()
    for _, path, *_ in files:
        shutil.copy(path, folder / path.name)
    names = [path.name for _, path, *_ in files]
    lines = [f"{name},{'AF' if place % 2 else 'N'},train" for place, name in enumerate(names)]
    (folder / "labels.csv").write_text("\n".join(["file,label,split", *lines]) + "\n")
    rows = load_ecg_dataset("folder", str(folder), split="train", patients_may_repeat=True)
    assert sorted(rows["record_id"]) == sorted(path.stem for _, path, *_ in files)


@pytest.mark.parametrize(
    ("old", "new", "options"),
    [
        (b"100     100     ", b"100     50      ", {"lead_names": ["II"]}),
        (b"uV      uV      ", b"uV      %       ", {"lead_names": ["II"]}),
        (b"uV      uV      ", b"                ", {"units": "uV"}),
    ],
)
def test_the_patient_is_found_in_files_that_are_read_with_options_only(
    old, new, options, hospital, tmp_path, own_cache
):
    """The recordings of a patient stay in one part, although nothing else than the options makes them readable."""
    counts = hospital.ecg_counts(400, ["II", "V5"])
    content = hospital.edf(counts).replace(old, new)
    assert new in content
    for place in range(12):
        own = content.replace(hospital.ID.encode(), f"Zx-8091{place // 2}".encode())
        (tmp_path / f"{place:02}.edf").write_bytes(own)
    lines = [f"{place:02}.edf,{'AF' if place % 2 else 'N'}" for place in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *lines]) + "\n")
    parts = load_ecg_dataset("folder", str(tmp_path), **options)
    patients = [set(part["patient_id"]) for part in parts.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 6


def test_files_that_differ_in_their_suffix_only_are_both_records(files, tmp_path, own_cache):
    folder = tmp_path / "twins"
    folder.mkdir()
    shutil.copy(files[0][1], folder / "a.dcm")
    shutil.copy(files[4][1], folder / "a.scp")
    assert sorted(load_ecg_dataset("folder", str(folder), split="train")["record_id"]) == ["a.dcm", "a.scp"]


def test_without_the_extra_the_sentence_says_what_to_install(files, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.setitem(sys.modules, "defusedxml", None)
    monkeypatch.setitem(sys.modules, "defusedxml.common", None)
    for _, path, *_ in files[:4]:
        with pytest.raises(MissingDependencyError, match=r"ecg_transformers\[clinical\]"):
            read_record(path)
    for kind, path, *_ in files[4:]:
        assert read_record(path).num_leads, kind


def test_kinds_that_are_known_and_not_read_are_named(tmp_path):
    for content, word in (
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "HDF5"),
        (b"<?xml version='1.0'?><CardiologyXML/>", "CardioSoft"),
        (b"<html><body/></html>", "HTML"),
        (b"%PDF-1.7", "PDF"),
        (b"", "empty"),
    ):
        (tmp_path / "x.xml").write_bytes(content)
        with pytest.raises(UnsupportedFormatError, match=word):
            read_record(tmp_path / "x.xml")


def test_no_suffix_hides_a_hospital_file_from_a_folder_or_a_reader(files, tmp_path):
    """Arrays, tables, headers and signals are read by their names; these are none, and no capitals make a licence of one."""
    folder = tmp_path / "odd"
    folder.mkdir()
    names = ["M.mat", "N.npy", "Z.npz", "H.hea", "C.csv", "T.tsv", "D.dat", "J.json", "EKG"]
    odd = [(path, folder / f"{kind.upper()}{name}") for kind, path, *_ in files for name in names]
    for path, other in odd:
        other.write_bytes(path.read_bytes())
        np.testing.assert_array_equal(read_record(other).signal, read_record(path).signal, err_msg=other.name)
    (folder / "kardia.json").write_text('{"recordedAt": "2024-01-01T00:00:00Z", "heartRate": 60, "data": {"raw": {}}}')
    (folder / "LICENSE").write_text("words")
    (folder / "link.dcm").symlink_to(files[0][1])
    (folder / "BINARY").write_bytes(bytes(range(256)))
    index = FileIndex.scan(folder)
    assert set(index.paths.values()) == {other for _, other in odd}
    said = " ".join(index.left_alone())
    for named in ("AliveCor Kardia JSON file): kardia.json", "a link out of the folder): link.dcm", "BINARY"):
        assert named in said
    assert "LICENSE" not in said


@pytest.mark.parametrize("content", [b"", b"some notes of somebody", None])
@pytest.mark.parametrize("suffix", [".dat", ".mat", ".xml", ""])
def test_a_hospital_file_beside_what_is_called_header_is_a_record(files, tmp_path, content, suffix):
    """Of signals a header tells, unless it is none, or one of another file."""
    folder = tmp_path / "beside"
    folder.mkdir()
    (folder / "x.hea").write_bytes(files[4][1].read_bytes() if content is None else content)
    path = folder / f"x{suffix}"
    path.write_bytes(files[0][1].read_bytes())
    np.testing.assert_array_equal(read_record(path).signal, read_record(files[0][1]).signal)
    assert set(FileIndex.scan(folder).paths.values()) == {path, folder / "x.hea"}


def test_a_missing_extra_is_said_of_folders_and_tables_too(files, monkeypatch):
    for name in ("pydicom", "defusedxml", "defusedxml.common"):
        monkeypatch.setitem(sys.modules, name, None)
    for table in (None, "file,label,split\n" + "".join(f"{path.name},a,train\n" for _, path, *_ in files)):
        if table:
            (files[0][1].parent / "labels.csv").write_text(table)
        report = build_report("folder", files[0][1].parent, max_skipped=1.0)
        for what in ("a DICOM file", "an HL7 aECG file", "a Philips ECG XML file", "a GE MUSE XML file"):
            sentence = f"this is {what}: install ecg_transformers[clinical] to read it"
            assert sentence in report.notes
            assert sentence in str(report)


def test_a_long_comment_before_the_root_element_hides_nothing(files, tmp_path):
    for kind, path, *_ in files[1:4]:
        text = path.read_bytes().decode("utf-16" if kind == "philips" else "latin-1").replace("UTF-16", "UTF-8")
        declaration, rest = text.split("?>", 1)
        comment = "<!-- <RestingECG> <!ENTITY> " + "words " * 20_000 + "-->"
        (tmp_path / "long.xml").write_text(f"{declaration}?>{comment}{rest}", encoding="utf-8")
        assert format_of(tmp_path / "long.xml") == kind
        np.testing.assert_array_equal(read_record(tmp_path / "long.xml").signal, read_record(path).signal)


def test_nothing_that_identifies_reaches_info_plots_and_logs(files, hospital, caplog):
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    from matplotlib.text import Text

    from ecg_transformers.analysis.plots import plot_ecg

    said = ""
    with caplog.at_level(logging.INFO):
        for _, path, *_ in files:
            said += json.dumps(describe_record(path), default=str)
            said += " ".join(text.get_text() for text in plot_ecg(read_record(path)).findobj(Text))
    said += caplog.text
    assert [word for word in hospital.IDENTIFYING if word in said] == []


def test_a_damaged_value_of_the_patient_is_not_printed(files, hospital):
    """pydicom warns with the value it complains of; nothing of that reaches the terminal."""
    path = files[0][1]
    content = path.read_bytes().replace(b"19430711", b"1943_711").replace(b"076Y", b"7..Y")
    path.write_bytes(content)
    code = f"from ecg_transformers.data.readers import read_record; read_record({str(path)!r})"
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert [word for word in (*hospital.IDENTIFYING, "1943_711") if word in done.stdout + done.stderr] == []
