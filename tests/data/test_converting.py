"""`convert_record`: what was read is written whole, without identity, and read again equal."""

import importlib.util
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from ecg_transformers.data import converting
from ecg_transformers.data.converting import convert_record, convert_records
from ecg_transformers.data.errors import ECGDataError, LeadNotFoundError, LimitError, OptionError
from ecg_transformers.data.loading import load_ecg_dataset
from ecg_transformers.data.readers import (
    Limits,
    describe_record,
    patient_in_file,
    read_digital,
    read_parts,
    read_record,
    reading,
)
from ecg_transformers.data.readers.reading import read_stored

SUFFIXES = {"wfdb": ".hea", "npz": ".npz", "csv": ".csv"}


@pytest.fixture
def hospital(monkeypatch, tmp_path_factory):
    """The writers of small hospital files, which stand with the tests of the readers."""
    pytest.importorskip("pydicom", reason="hospital formats need the extra [clinical]")
    pytest.importorskip("defusedxml", reason="hospital formats need the extra [clinical]")
    monkeypatch.setenv("ECG_CACHE_DIR", str(tmp_path_factory.mktemp("key")))
    place = Path(__file__).resolve().parent / "readers" / "hospital_files.py"
    spec = importlib.util.spec_from_file_location("hospital_files_to_convert", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("to", SUFFIXES)
def test_every_format_is_read_again_equal(to, hospital, tmp_path):
    for name, content, *_ in hospital.every_format():
        (tmp_path / name).write_bytes(content)
        before = read_record(tmp_path / name)
        written = convert_record(tmp_path / name, tmp_path / "out", to)
        assert written == tmp_path / "out" / f"{name[0]}{SUFFIXES[to]}"
        after = read_record(written, **({"sampling_rate": before.sampling_rate} if to == "csv" else {}))
        np.testing.assert_allclose(after.signal, before.signal, rtol=0, atol=2e-8)
        assert (after.lead_names, after.sampling_rate) == (before.lead_names, before.sampling_rate)


@pytest.mark.parametrize("name", ["g.edf", "h.bdf", "f.ecg", "b.xml"])
def test_the_only_lead_is_called_as_asked_whatever_its_own_name(name, hospital, tmp_path):
    """Formats that are read in parts, too, take `lead_names` for which lead `ECG` is; other names stay an error."""
    counts = hospital.ecg_counts(300, ["II"])
    content = {
        "g.edf": hospital.edf(counts, ["II"], kind="EDF+D", onsets=[0, 1, 4]).replace(b"ECG II", b"ECG   "),
        "h.bdf": hospital.edf(counts, ["II"], width=3).replace(b"ECG II", b"ECG   "),
        "f.ecg": hospital.ishne(counts, codes=(1,), step_nv=(2500,)),
        "b.xml": hospital.aecg(counts, ["II"]).replace(b"MDC_ECG_LEAD_II", b"MDC_ECG_LEAD_A"),
    }
    path = tmp_path / name
    path.write_bytes(content[name])
    assert read_record(path, lead_names=["V2"]).lead_names == ["V2"]
    assert [part.lead_names for part in read_parts(path, lead_names=["V2"])] == [["V2"]] * (1 + (name == "g.edf"))
    for gaps in ("nan", "split"):
        made = list(convert_records([path], tmp_path / gaps, gaps=gaps, lead_names=["V2"]))
        assert [read_record(one.written).lead_names for one in made] == [["V2"]] * len(made)
    with pytest.raises(LeadNotFoundError, match=rf"{name}.*V2"):
        list(read_parts(path, lead_names=["V2", "V3"]))


def test_the_identity_is_left_out_unless_asked_for(hospital, tmp_path):
    for name, content, *_ in hospital.every_format():
        (tmp_path / name).write_bytes(content)
        for to in SUFFIXES:
            convert_record(tmp_path / name, tmp_path / "hidden", to)
            convert_record(tmp_path / name, tmp_path / "kept", to, keep_identity=True)
    hidden = b"".join(path.read_bytes() for path in sorted((tmp_path / "hidden").iterdir()))
    assert [word for word in hospital.IDENTIFYING if word.encode() in hidden] == []
    assert hospital.LAST in (tmp_path / "kept" / "a.hea").read_text()
    assert json.loads((tmp_path / "kept" / "d.npz.json").read_text())["patient_id"] == hospital.ID


@pytest.mark.parametrize("to", SUFFIXES)
def test_what_was_hidden_once_stays_the_same_patient_however_often_it_is_converted(to, hospital, tmp_path):
    (tmp_path / "a.dcm").write_bytes(hospital.dicom(hospital.ecg_counts(100)))
    own = read_record(tmp_path / "a.dcm").patient_id
    for first, second in itertools.product((False, True), repeat=2):
        once = convert_record(tmp_path / "a.dcm", tmp_path / f"{first} {second}", to, keep_identity=first)
        twice = convert_record(once, tmp_path / f"{first} {second} twice", to, keep_identity=second)
        assert read_record(twice).patient_id == own
        kept = read_record(twice, keep_identity=True).patient_id
        assert kept == (hospital.ID if first and second else own)


def test_a_long_record_is_held_against_its_samples_and_not_against_its_header(tmp_path):
    """A header of 70 bytes may describe a day."""
    samples = np.arange(2**23 + 100, dtype="<i2")
    samples.tofile(tmp_path / "r.dat")
    (tmp_path / "r.hea").write_text(f"r 1 128 {samples.size}\nr.dat 16 200 16 0 0 0 0 II\n")
    written = convert_record(tmp_path / "r.hea", tmp_path / "out")
    assert written.with_suffix(".dat").stat().st_size == samples.nbytes


def test_files_that_an_archive_names_by_numbers_are_records_of_their_own(hospital, tmp_path):
    """`1.2.840.5` and `1.2.840.6` differ in what looks like a suffix."""
    names = ["1.2.840.113619.5", "1.2.840.113619.6", "EKG.2024", "EKG.2025", "x.v2.dcm"]
    for number, name in enumerate(names):
        content = (
            hospital.edf(hospital.ecg_counts(100))
            if "EKG" in name
            else hospital.dicom(hospital.ecg_counts(100, seed=number))
        )
        (tmp_path / name).write_bytes(content)
    assert [read_record(tmp_path / name).record_id for name in names] == [*names[:4], "x.v2"]
    results = list(convert_records([tmp_path / name for name in names], tmp_path / "out"))
    assert [result.problem for result in results] == [""] * 5
    for name, result in zip(names, results):
        np.testing.assert_array_equal(read_record(result.written).signal, read_record(tmp_path / name).signal)


@pytest.mark.parametrize("gaps", ["nan", "split"])
def test_files_of_one_name_in_several_folders_are_records_of_their_own(gaps, hospital, tmp_path):
    """`PAT1/IM0001`, `PAT2/IM0001`: so archives write, and a second run overwrites nothing."""
    files = [tmp_path / folder / "IM0001" for folder in ("a", "b", "c")] + [tmp_path / "a" / "IM0001.scp"]
    for number, path in enumerate(files):
        path.parent.mkdir(exist_ok=True)
        counts = hospital.ecg_counts(100, seed=number)
        path.write_bytes(hospital.scp(counts) if path.suffix else hospital.dicom(counts))
    written = [result.written for result in convert_records(files, tmp_path / "out", gaps=gaps)]
    assert [path.name for path in written] == ["IM0001.hea", "IM0001_2.hea", "IM0001_3.hea", "IM0001_4.hea"]
    for path, made in zip(files, written):
        np.testing.assert_array_equal(read_record(made).signal, read_record(path).signal)
    again = list(convert_records(files, tmp_path / "out", gaps=gaps))
    assert all("already" in result.problem for result in again)
    twice = list(convert_records([files[0], files[0]], tmp_path / "twice", gaps=gaps))
    assert ["already" in result.problem for result in twice] == [False, True]


@pytest.mark.parametrize("to", SUFFIXES)
def test_a_lead_that_is_called_as_the_patient_is_hidden_again(to, hospital, tmp_path):
    content = hospital.edf(hospital.ecg_counts(200, ["II", "V5", "V6"]), ("II", "V5", "V6"))
    for name, other in (("V5", hospital.LAST), ("V6", hospital.FIRST)):
        content = content.replace(f"ECG {name}".encode().ljust(16), other.encode().ljust(16), 1)
    (tmp_path / "g.edf").write_bytes(content)
    written = convert_record(tmp_path / "g.edf", tmp_path / "out", to, keep_identity=True)
    assert read_record(written, keep_identity=True).lead_names == ["II", hospital.LAST, hospital.FIRST]
    hidden = read_record(written)
    assert hidden.lead_names == read_record(tmp_path / "g.edf").lead_names == ["II", "[hidden]", "[hidden] 2"]
    assert "lead_names_numbered" in hidden.metadata["flags"]


@pytest.mark.parametrize("keep", [False, True])
def test_a_converted_folder_tells_all_that_the_originals_told(keep, hospital, tmp_path):
    """Patient, age, sex, time, statements (umlauts among them), measurements and beats; hidden and kept identities."""
    hospital.STATEMENTS = ["Sinus rhythm", f"Überleitung von Frau {hospital.LAST} verzögert", "76", "true"]
    files = hospital.every_format(400)
    for name, content, *_ in files:
        (tmp_path / name).write_bytes(content)
    beats = b"".join(bytes([ord(label), 32, 80, 0]) for label in "NVPC")
    holter = hospital.ishne(hospital.ecg_counts(400, ["V1", "V2", "V3"]), magic=b"ANN  1.0", tail=b"\x0a\0\0\0" + beats)
    (tmp_path / "f.ann").write_bytes(holter)
    for to, (name, *_) in itertools.product(SUFFIXES, files):
        written = convert_record(tmp_path / name, tmp_path / to, to, keep_identity=keep)
        assert patient_in_file(written) == patient_in_file(tmp_path / name)
        for asked in (False, True):
            before = read_record(tmp_path / name, keep_identity=asked and keep)
            after = read_record(written, keep_identity=asked)
            facts = [{key: value for key, value in one.metadata.items() if key != "flags"} for one in (before, after)]
            assert facts[0] == facts[1], (name, to)
            assert set(before.metadata.get("flags", [])) <= set(after.metadata.get("flags", []))
            assert (after.patient_id, repr(after.annotations)) == (before.patient_id, repr(before.annotations))
    cut = read_record(tmp_path / "wfdb" / "f.hea", start=100, stop=200).annotations
    assert (cut["beat_samples"].tolist(), cut["beat_symbols"].tolist()) == ([70], ["V"])


def test_parts_give_the_same_bytes_and_an_interruption_leaves_nothing(hospital, tmp_path, monkeypatch):
    for name, content, *_ in [*hospital.long_files(400), hospital.cart_files(400)[0]]:
        (tmp_path / name).write_bytes(content)
        for to in SUFFIXES:
            whole = convert_record(tmp_path / name, tmp_path / "whole", to)
            with monkeypatch.context() as small:
                small.setattr(reading, "_PART", 100)  # 400 samples end with a part, and 399 more would not
                convert_record(tmp_path / name, tmp_path / "parts", to)
        for path in (tmp_path / "whole").glob(f"{whole.stem}.*"):
            assert (tmp_path / "parts" / path.name).read_bytes() == path.read_bytes(), path.name
    moved = Path.rename

    def interrupted(self, target):
        if Path(target).suffix == ".hea":
            raise KeyboardInterrupt
        return moved(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert_record(tmp_path / name, tmp_path / "broken", "wfdb")
    assert list((tmp_path / "broken").iterdir()) == []


@pytest.mark.parametrize(
    "facts", ["[", '{"annotations": {"beat_samples": [9999], "beat_symbols": ["N"]}', '{"patient_id": 7']
)
def test_a_changed_description_is_told_and_one_of_others_is_left_alone(facts, hospital, tmp_path):
    (tmp_path / "g.edf").write_bytes(hospital.long_files(400)[1][1])
    written = convert_record(tmp_path / "g.edf", tmp_path / "out", "npz")
    beside = written.with_name("g.npz.json")
    beside.write_text(f'{{"other": {facts}')
    assert read_record(written).patient_id is None
    beside.write_text(f'{{"identity_hidden": true, {facts[1:]}}}')
    with pytest.raises(ECGDataError, match=r"g\.npz"):
        read_record(written)


def test_wfdb_keeps_counts_time_and_statements(hospital, tmp_path):
    name, content, counts, *_ = hospital.every_format()[3]
    (tmp_path / name).write_bytes(content)
    written = convert_record(tmp_path / name, tmp_path / "out")
    np.testing.assert_array_equal(read_digital(written).samples, counts)
    head = written.read_text()
    assert "13:45:01" in head.splitlines()[0]
    assert "statements: Sinus rhythm" in head


def full_scale(hospital):
    """Random integers over all that a file can hold, both ends among them: (name, bytes, counts, times the counts)."""
    rng = np.random.default_rng(7)

    def counts(bits, leads, low=None, num_samples=600):
        low, high = -(2 ** (bits - 1)) if low is None else low, 2 ** (bits - 1) - 1
        values = rng.integers(low, high, (num_samples, leads), endpoint=True)
        values[:2] = [[low], [high]]
        return values

    for name, bits, lowest, physical, times in (
        ("bdf_symmetric.bdf", 24, None, (-8388608, 8388607), 1),
        ("bdf_usual.bdf", 24, None, (-262144, 262143), 2),
        ("bdf_without_lowest.bdf", 24, 1 - 2**23, (-8388608, 8388607), 1),
        ("edf_whole.edf", 16, None, (-3276.8, 3276.7), 1),
        ("edf_half.edf", 16, None, (-5000, 5000), 2),
        ("edf_third.edf", 16, None, (-32768, 163837), None),
    ):
        values = counts(bits, 2, lowest)
        yield name, hospital.edf(values, width=bits // 8, physical=physical), values, times
    for kind, bits, lowest in (("SS", 16, None), ("SL", 32, 1 - 2**31)):
        values = counts(bits, 12, lowest)
        yield f"dicom_{kind}.dcm", hospital.dicom(values, kind=kind, step_uv=0.001), values, 1
    values = counts(16, 12)
    yield "dicom_baseline.dcm", hospital.dicom(values, step_uv=2.5, baseline=-1.25), values, 2
    yield "aecg.xml", hospital.aecg(values), values, 1
    yield "plain_philips.xml", hospital.philips(values, compress=False), values, 1
    yield "muse.xml", hospital.muse(values[:, :8]), values[:, :8], 1
    yield "plain.scp", hospital.scp(values, huffman=False, order=0), values, 1
    values = counts(16, 3, -32767)
    yield "holter.ecg", hospital.ishne(values), values, 1


def test_wfdb_holds_the_very_counts_of_a_file_over_its_full_scale(hospital, tmp_path):
    wfdb = pytest.importorskip("wfdb")
    for name, content, counts, times in full_scale(hospital):
        (tmp_path / name).write_bytes(content)
        before = read_stored(tmp_path / name)
        written = convert_record(tmp_path / name, tmp_path / "out")
        second = wfdb.rdrecord(str(written.with_suffix("")), physical=False)
        factors = np.array(second.adc_gain) / before.gain
        assert times is None or (factors == times).all(), name
        np.testing.assert_array_equal(second.d_signal, np.rint(factors).astype(int) * counts, err_msg=name)
        ours = read_stored(written)
        for gain, baseline, stored in (
            (np.array(second.adc_gain), np.array(second.baseline), second.d_signal),
            (ours.gain, ours.offset, ours.samples),
        ):
            millivolts = (stored - baseline) / gain
            again = millivolts * before.gain + before.offset
            assert np.abs(again - counts).max() <= 0.011, name
            np.testing.assert_array_equal(np.rint(again), counts, err_msg=name)


@pytest.mark.parametrize("to", ["npz", "csv"])
def test_a_count_of_24_bits_can_be_told_from_float32_millivolts(to, hospital, tmp_path):
    counts = np.random.default_rng(0).integers(-(2**23), 2**23, (600, 2))
    (tmp_path / "h.bdf").write_bytes(hospital.edf(counts, width=3, physical=(-262144, 262143)))
    scale = read_stored(tmp_path / "h.bdf")
    written = convert_record(tmp_path / "h.bdf", tmp_path / "out", to)
    signal = read_record(written, **({"sampling_rate": 100} if to == "csv" else {})).signal
    np.testing.assert_array_equal(np.rint(signal.astype(float) * scale.gain + scale.offset), counts)


def test_missing_samples_and_beats_survive(hospital, tmp_path):
    wfdb = pytest.importorskip("wfdb")
    counts = hospital.ecg_counts(400, ["V1", "V2", "V3"])
    counts[50:60, 1] = -32768
    (tmp_path / "h.ecg").write_bytes(hospital.ishne(counts))
    beats = b"".join(bytes([label, 32, interval, 0]) for label, interval in ((78, 100), (86, 90), (80, 80)))
    (tmp_path / "h.ann").write_bytes(hospital.ishne(counts, magic=b"ANN  1.0", tail=bytes([10, 0, 0, 0]) + beats))
    for to in SUFFIXES:
        written = convert_record(tmp_path / "h.ecg", tmp_path / to, to)
        signal = read_record(written, **({"sampling_rate": 200} if to == "csv" else {})).signal
        assert np.isnan(signal).sum() == 10
        assert np.isnan(signal[50:60, 1]).all()
    marks = wfdb.rdann(str(tmp_path / "wfdb" / "h"), "atr")
    assert (marks.sample.tolist(), marks.symbol) == ([110, 200, 280], ["N", "V", "/"])


NAMES = [
    *(
        "ECG (uV)",
        "ECG uV",
        "ECG [uV]",
        "ECG_uV",
        "lead/uV",
        "ECG1 (V)",
        "II_mV",
        "[mV]",
        "'V1'",
        "lead (ms)",
        "time_s",
    ),
    *(
        "V1,V2",
        "V3;V4",
        '"',
        'a "b"',
        "#1",
        "% 2",
        "nan",
        "7",
        "V1\tx",
        "a\rb",
        "a\nb",
        "a\x85b",
        "\xb5V",
        "sample",
        "=",
    ),
]


@pytest.fixture
def oddly_named(hospital, tmp_path):
    content = hospital.edf(hospital.ecg_counts(200, NAMES), NAMES)
    for name in NAMES:
        content = content.replace(f"ECG {name}".encode("latin-1").ljust(16), name.encode("latin-1").ljust(16), 1)
    (tmp_path / "n.edf").write_bytes(content)
    return tmp_path / "n.edf"


@pytest.mark.parametrize("to", SUFFIXES)
def test_names_come_back_whatever_they_look_like(to, oddly_named, tmp_path):
    before = read_record(oddly_named)
    assert len(set(before.lead_names) & set(NAMES)) > 20
    after = read_record(convert_record(oddly_named, tmp_path / "out", to))
    assert (after.lead_names, after.sampling_rate) == (before.lead_names, before.sampling_rate)
    np.testing.assert_array_equal(after.signal, before.signal)


def test_a_csv_file_whose_columns_were_renamed_does_not_fit_its_description(oddly_named, tmp_path):
    written = convert_record(oddly_named, tmp_path / "out", "csv")
    assert read_record(written, lead_names=["ECG (uV)"]).signal.shape == (200, 1)
    lines = written.read_text().splitlines()
    written.write_text("\n".join([lines[0].replace("II_mV", "V9"), *lines[1:]]))
    with pytest.raises(ECGDataError, match=r"n\.csv.*does not name the columns"):
        read_record(written)


@pytest.mark.parametrize("to", SUFFIXES)
def test_what_read_record_would_refuse_is_not_written(to, hospital, tmp_path, monkeypatch):
    monkeypatch.setattr(converting, "DEFAULT_LIMITS", Limits(max_samples=150))
    (tmp_path / "g.edf").write_bytes(hospital.edf(hospital.ecg_counts(200, ["II", "V5"])))
    with pytest.raises(LimitError, match=r"g\.edf.*150 samples a lead.*start="):
        convert_record(tmp_path / "g.edf", tmp_path / "out", to)
    few = Limits(max_header_bytes=100, max_file_bytes=100, max_table_bytes=100)
    monkeypatch.setattr(converting, "DEFAULT_LIMITS", few)
    with pytest.raises(LimitError, match=r"g\.edf.*100 bytes.*start="):
        convert_record(tmp_path / "g.edf", tmp_path / "out", to, stop=100)
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.undo()
    assert read_record(convert_record(tmp_path / "g.edf", tmp_path / "out", to, start=50, stop=100)).num_samples == 50


@pytest.mark.parametrize("to", SUFFIXES)
def test_parts_of_a_converted_recording_are_those_of_the_original(to, hospital, tmp_path):
    counts = hospital.ecg_counts(400, ["II", "V5"])
    (tmp_path / "s.edf").write_bytes(hospital.edf(counts, kind="EDF+D", onsets=[0, 1, 5, 9]))
    before = list(read_parts(tmp_path / "s.edf"))
    after = list(read_parts(convert_record(tmp_path / "s.edf", tmp_path / "out", to)))
    for one, two in zip(before, after, strict=True):
        np.testing.assert_allclose(two.to_record().signal, one.to_record().signal, rtol=0, atol=1e-5)
        flags = two.metadata.pop("flags", [])
        assert (two.metadata, two.patient_id) == (one.metadata, one.patient_id)
        assert "gaps" not in flags
    assert [part.metadata["start_seconds"] for part in after] == [0, 5, 9]


def test_strips_a_day_apart_are_written_as_a_record_each(hospital, tmp_path, own_cache):
    counts = hospital.ecg_counts(400, ["II", "V5"])
    (tmp_path / "s.edf").write_bytes(hospital.edf(counts, kind="EDF+D", onsets=[0, 1, 86400, 86401]))
    (whole,) = convert_records([tmp_path / "s.edf"], tmp_path / "out")
    assert "gaps='split'" in whole.problem
    strips = [one.written for one in convert_records([tmp_path / "s.edf"], tmp_path / "out", gaps="split")]
    assert load_ecg_dataset("folder", str(tmp_path / "out"), split="train")["record_id"][:] == ["s_1", "s_2"]
    assert [path.name for path in strips] == ["s_1.hea", "s_2.hea"]
    np.testing.assert_array_equal(np.concatenate([read_digital(path).samples for path in strips]), counts)
    assert [path.read_text().split()[4:6] for path in strips] == [
        ["13:45:01", "22/08/2019"],
        ["13:45:01", "23/08/2019"],
    ]


@pytest.mark.parametrize("to", SUFFIXES)
def test_a_recording_with_a_gap_behind_each_second_is_one_record_all_the_same(to, hospital, tmp_path, capsys):
    """A header has no room for the places of so many gaps; the samples tell them."""
    from ecg_transformers.cli.records import print_sheet

    number = 17_000
    counts, times = np.arange(number * 2).reshape(-1, 1) % 100 - 50, range(0, 2 * number, 2)
    (tmp_path / "d.edf").write_bytes(hospital.edf(counts, ["II"], kind="EDF+D", onsets=times, rate=2, per_record=2))
    before = read_record(tmp_path / "d.edf")
    written = convert_record(tmp_path / "d.edf", tmp_path / "out", to)
    after = read_record(written)
    np.testing.assert_allclose(after.signal, before.signal, rtol=0, atol=2e-8)
    listed = before.metadata["gaps"] if to != "wfdb" else None
    assert (after.metadata.get("gaps"), "gaps_not_listed" in after.metadata["flags"]) == (listed, to == "wfdb")
    print_sheet(describe_record(tmp_path / "d.edf"))
    said = capsys.readouterr().out
    assert "16,999 in all" in said
    assert len(said) < 5000


def test_a_description_out_of_proportion_is_refused_before_it_is_parsed(hospital, tmp_path):
    (tmp_path / "g.edf").write_bytes(hospital.edf(hospital.ecg_counts(200, ["II", "V5"])))
    written = convert_record(tmp_path / "g.edf", tmp_path / "out", "npz")
    with written.with_name("g.npz.json").open("a") as beside:
        beside.write(" " * 2**22)
    with pytest.raises(LimitError, match=r"g\.npz\.json.*allowed beside g\.npz"):
        read_record(written)


def test_nothing_is_overwritten_and_a_bad_file_ends_nothing(hospital, tmp_path):
    name, content, *_ = hospital.every_format()[0]
    (tmp_path / name).write_bytes(content)
    (tmp_path / "bad.xml").write_text("<html/>")
    results = list(convert_records([tmp_path / "bad.xml", tmp_path / name], tmp_path / "out", "npz"))
    assert [result.written is None for result in results] == [True, False]
    assert "bad.xml" in results[0].problem
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    with pytest.raises(OptionError, match="already"):
        convert_record(tmp_path / name, tmp_path / "out", "npz")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before
    with pytest.raises(OptionError, match="wfdb"):
        convert_record(tmp_path / name, tmp_path / "out", "edf")


def test_the_verb_names_what_it_wrote_and_what_it_could_not_read(hospital, tmp_path, capsys):
    from ecg_transformers.cli import main

    name, content, *_ = hospital.every_format()[0]
    (tmp_path / name).write_bytes(content)
    (tmp_path / "bad.xml").write_text("<html/>")
    arguments = [str(tmp_path / "bad.xml"), str(tmp_path / name), "-o", str(tmp_path / "out"), "--to", "csv"]
    assert main(["convert-record", *arguments]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["written"] == str(tmp_path / "out" / "a.csv")
    assert "bad.xml" in err


@pytest.mark.parametrize("to", SUFFIXES)
def test_texts_without_end_beside_a_record_are_cut_and_none_is_left_unhidden(hospital, tmp_path, to):
    (tmp_path / "g.edf").write_bytes(hospital.long_files(200)[1][1])
    written = convert_record(tmp_path / "g.edf", tmp_path / "out", to, keep_identity=True)
    facts = {f"measurement {number}": f"told of {hospital.LAST}" for number in range(2500)}
    if to == "wfdb":
        with written.open("a") as stream:
            stream.writelines(f"# {key}: {value}\n" for key, value in facts.items())
    else:
        beside = written.with_name(f"{written.name}.json")
        beside.write_text(json.dumps({**json.loads(beside.read_text()), **facts}))
    metadata = read_record(written).metadata
    assert "texts_shortened" in metadata["flags"]
    assert metadata["measurement 5"] == "told of [hidden]"
    assert hospital.LAST not in json.dumps(metadata)


@pytest.mark.parametrize("name", ["index", "RESP", "time"])
def test_a_lead_that_rises_like_a_column_of_times_comes_back_from_csv(name, tmp_path):
    signal = np.stack([np.sin(np.arange(50)), 0.1 * np.arange(50)], axis=1)
    np.savez(tmp_path / "r.npz", signal=signal, sampling_rate=100, lead_names=["II", name])
    after = read_record(convert_record(tmp_path / "r.npz", tmp_path / "out", "csv"))
    assert after.lead_names == ["II", name]
    np.testing.assert_allclose(after.signal, signal, rtol=1e-6, atol=1e-7)
