"""Rules of single hospital formats: groups, padding, compression, reference beats, gaps, calibration pulses."""

import binascii
import copy
import re
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from ecg_transformers.data.converting import convert_record
from ecg_transformers.data.errors import (
    ChecksumError,
    ECGDataError,
    HeaderError,
    LimitError,
    MissingHintError,
    OptionError,
    SignalError,
    TruncatedError,
    UnitError,
    UnsupportedFormatError,
)
from ecg_transformers.data.readers import aecg, dicom, philips, read_parts, read_record, reading, scp
from ecg_transformers.data.readers.clinical import record as texts
from ecg_transformers.data.readers.clinical import xml
from ecg_transformers.data.readers.clinical.identity import Patient
from ecg_transformers.data.readers.clinical.leads import lead_of_code, lead_of_text
from ecg_transformers.data.readers.clinical.xli import restore_limb_leads
from ecg_transformers.data.readers.limits import ALWAYS_ALLOWED, MOST_EMPTY, Limits


@pytest.fixture
def read(tmp_path):
    """Write some bytes and read them."""

    def call(content, name="x", **hints):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_record(tmp_path / name, **hints)

    return call


def test_names_of_two_signs_are_hidden_in_texts_too():
    """Chinese names have no more, and no gaps around them; a number or an initial is no name."""
    patient = Patient(id="12", names=["Li^Wei=李^伟民=O"], birth_date="1943-07-11")
    said = ["LI Wei, 12 lead ECG", "li", "李伟民的心电图", "O wave", "born 11.07.1943", "AV block, lithium"]
    hidden = [
        "[hidden], 12 lead ECG",
        "li",
        "[hidden]的心电图",
        "O wave",
        "born [hidden]",
        "AV block, lithium",
    ]
    assert patient.hide_in(said) == hidden


def test_names_of_physicians_are_hidden_without_their_titles_too():
    patient = Patient(others={"ReferringPhysicianName": "Kasimir^Ada", "operator": "Prof. Dr. Wolkenstein"})
    said = "seen by Dr. Kasimir, Ada and by wolkenstein"
    assert patient.hide_in(said) == "seen by Dr. [hidden] and by [hidden]"


# DICOM


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big", "deflated"])
def test_dicom_samples_in_every_byte_order(syntax, hospital, read):
    counts = hospital.ecg_counts(300)
    np.testing.assert_allclose(read(hospital.dicom(counts, syntax=syntax)).signal, counts * 0.005, atol=1e-6)


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big"])
def test_dicom_without_its_preamble(syntax, hospital, read):
    counts = hospital.ecg_counts(300)
    content = hospital.dicom(counts, syntax=syntax)
    start = 144 + int.from_bytes(content[140:144], "little")
    np.testing.assert_allclose(read(content[start:]).signal, counts * 0.005, atol=1e-6)


def test_dicom_that_inflates_without_end_is_refused(hospital, read):
    import zlib

    content = hospital.dicom(hospital.ecg_counts(100), syntax="deflated")
    start = 144 + int.from_bytes(content[140:144], "little")
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = squeeze.compress(bytes(2**27)) + squeeze.flush()
    with pytest.raises(LimitError, match="grows"):
        read(content[:start] + bomb)


def test_dicom_groups_of_three_leads_belong_together(hospital, read):
    counts = hospital.ecg_counts(250, hospital.LEADS[:3])
    other = hospital.dicom(counts, leads=hospital.LEADS[:3], label="RHYTHM")
    assert read(other).lead_names == ["I", "II", "III"]
    groups = [("MEDIAN BEAT", 2 * counts[:60])]
    record = read(hospital.dicom(counts, leads=hospital.LEADS[:3], groups=groups))
    np.testing.assert_allclose(record.signal, counts * 0.005, atol=1e-6)


@pytest.mark.parametrize("label", ["", "ECG"])
@pytest.mark.parametrize("beat", ["BEAT", "GE BEAT", "MEAN BEAT", "AVG", "SUMMARY", "Mittelwert", "V1"])
def test_dicom_beats_are_left_out_whatever_they_are_called(hospital, read, label, beat):
    counts = hospital.ecg_counts(2500, hospital.LEADS[:3])
    record = read(hospital.dicom(counts, leads=hospital.LEADS[:3], label=label, groups=[(beat, 2 * counts[:600])]))
    np.testing.assert_allclose(record.signal, counts * 0.005, atol=1e-6)
    assert "other_groups_left_out" in record.metadata["flags"]


def test_a_part_of_a_file_longer_than_the_limit_is_read(hospital, tmp_path):
    limits = Limits(max_samples=400)
    dicom = ("a.dcm", hospital.dicom(hospital.ecg_counts(600)))
    for name, content in [dicom, *(file[:2] for file in hospital.long_files(600))]:
        (tmp_path / name).write_bytes(content)
        part = read_record(tmp_path / name, start=150, stop=550, limits=limits)
        np.testing.assert_array_equal(part.signal, read_record(tmp_path / name).signal[150:550])
        for bounds in ({}, {"start": 100}):
            with pytest.raises(LimitError, match="400"):
                read_record(tmp_path / name, limits=limits, **bounds)


def test_dicom_of_the_median_beat_alone_is_refused(hospital, read):
    with pytest.raises(SignalError, match="median"):
        read(hospital.dicom(hospital.ecg_counts(60), label="MEDIAN BEAT"))


def test_dicom_groups_at_other_times_stand_in_their_time(hospital, read):
    counts = hospital.ecg_counts(200, ["I", "II"])
    offsets = {"RHYTHM 1": 0, "RHYTHM 2": 400}
    content = hospital.dicom(
        counts, leads=["I", "II"], label="RHYTHM 2", groups=[("RHYTHM 1", 3 * counts)], offsets=offsets
    )
    record = read(content)
    np.testing.assert_allclose(record.signal, np.concatenate([3 * counts, counts]) * 0.005, atol=1e-6)
    offsets["RHYTHM 2"] = 1000
    record = read(
        hospital.dicom(counts, leads=["I", "II"], label="RHYTHM 2", groups=[("RHYTHM 1", counts)], offsets=offsets)
    )
    assert record.num_samples == 700
    assert np.isnan(record.signal[200:500]).all()
    assert "leads_at_different_times" in record.metadata["flags"]
    slow = read(
        hospital.dicom(
            counts, leads=["I", "II"], rate=250, label="RHYTHM 2", groups=[("RHYTHM 1", counts)], offsets=offsets
        )
    )
    assert slow.num_samples == 450


def test_a_lead_name_of_any_length_takes_no_time():
    assert lead_of_text("Lead I (Einthoven)") == "I"
    assert len(lead_of_text("(" * 200_000)) <= 200  # in square time this does not end


@pytest.mark.parametrize("factor", [1, 2])
def test_a_rhythm_strip_does_not_displace_the_twelve_leads(hospital, tmp_path, factor):
    pydicom = pytest.importorskip("pydicom")
    counts = hospital.ecg_counts(1500)
    content = hospital.dicom(factor * counts[:1200], label="RHYTHM STRIP", groups=[("STANDARD 12 LEAD", counts)])
    data = pydicom.dcmread(BytesIO(content))
    strip = data.WaveformSequence[1]
    strip.NumberOfWaveformChannels, strip.ChannelDefinitionSequence = 1, strip.ChannelDefinitionSequence[1:2]
    strip.WaveformData = (factor * counts[:1200, 1]).astype("<i2").tobytes()
    strip.ChannelDefinitionSequence[0].ChannelSensitivity = str(5.0 / factor)
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    record = read_record(tmp_path / "a.dcm")
    assert record.lead_names == list(hospital.LEADS)
    np.testing.assert_allclose(record.signal, counts * 0.005, atol=1e-6)
    assert "lead_in_several_groups" in record.metadata["flags"]


@pytest.mark.parametrize(
    ("keyword", "text"),
    [
        ("ChannelSensitivity", "5,0"),
        ("ChannelSensitivityCorrectionFactor", "2,"),
        ("ChannelBaseline", "1x"),
        ("MultiplexGroupTimeOffset", "xx"),
        ("SamplingFrequency", "inf"),
    ],
)
def test_a_dicom_number_that_is_none_is_never_taken_for_absent(hospital, read, keyword, text):
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.dcmread(BytesIO(hospital.dicom(hospital.ecg_counts(100, ["I"]), leads=["I"], syntax="implicit")))
    group = data.WaveformSequence[0]
    owner = group.ChannelDefinitionSequence[0] if keyword.startswith("Channel") else group
    tag = pydicom.datadict.tag_for_keyword(keyword)
    owner[tag] = pydicom.DataElement(tag, "LO", text)  # without its kind in the file it is read as a number
    stream = BytesIO()
    data.save_as(stream, enforce_file_format=True)
    with pytest.raises(HeaderError, match=keyword):
        read(stream.getvalue())


@pytest.mark.parametrize(("padding", "holes"), [(-32768, 3), (0, 30), (-9999, 3)])
def test_dicom_padding_is_believed_at_the_edge_in_runs_and_far_away(padding, holes, hospital, read):
    counts = hospital.ecg_counts(400, ["I", "II"])
    counts[counts == 0] = 1
    counts[5, 0] = counts[9, 0] = 0  # lone zeros are 0 mV
    counts[100 : 100 + holes, 1] = padding
    signal = read(hospital.dicom(counts, leads=["I", "II"], padding=padding)).signal
    assert np.isnan(signal[:, 1]).sum() == holes
    assert not np.isnan(signal[:, 0]).any()


@pytest.mark.parametrize(
    ("kind", "value_type", "stated"), [("SS", "SS", -9999), ("SS", "US", 55537), ("US", "SS", -9999)]
)
def test_dicom_padding_written_as_a_number_counts_by_its_bits(kind, value_type, stated, hospital, read):
    import pydicom

    counts = hospital.ecg_counts(100, ["I", "II"]) + (2000 if kind == "US" else 0)
    counts[40:43, 1] = -9999 if kind == "SS" else 55537
    data = pydicom.dcmread(BytesIO(hospital.dicom(counts, leads=["I", "II"], kind=kind)))
    data.WaveformSequence[0].add_new(0x5400100A, value_type, stated)
    data.AcquisitionDateTime = "2020010203-0330"
    data.save_as(stream := BytesIO())
    record = read(stream.getvalue())
    assert np.flatnonzero(np.isnan(record.signal[:, 1])).tolist() == [40, 41, 42]
    assert record.metadata["acquired"] == "2020-01-02T03:00:00"


def test_dicom_samples_of_another_width_than_is_allocated_are_refused(hospital, read):
    """Read all the same they would be noise; what lies behind the declared samples is told."""
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.dcmread(BytesIO(hospital.dicom(hospital.ecg_counts(300))))
    stream, (group,) = BytesIO(), data.WaveformSequence
    group.NumberOfWaveformSamples = 200
    data.save_as(stream)
    short = read(stream.getvalue())
    assert (short.num_samples, short.metadata["flags"]) == (200, ["bytes_behind_the_samples"])
    group.WaveformSampleInterpretation = "SB"
    data.save_as(stream := BytesIO())
    with pytest.raises(HeaderError, match="allocates 16 bits"):
        read(stream.getvalue())


def test_dicom_without_sensitivity_has_no_scale(hospital, read):
    with pytest.raises(HeaderError, match=r"lead 'I'.* 0\.0 mV is no scale"):
        read(hospital.dicom(hospital.ecg_counts(100), step_uv=0))


def test_dicom_channels_that_are_no_voltage_are_no_ecg(hospital, read):
    with pytest.raises(SignalError, match="voltage"):
        read(hospital.dicom(hospital.ecg_counts(100), unit="mm[Hg]"))


# HL7 aECG


def test_aecg_numbers_that_mean_nothing_are_refused(hospital, read):
    text = hospital.aecg(hospital.ecg_counts(40)).decode()
    for old, new, error in (
        ('scale value="5"', 'scale value="nan"', HeaderError),
        ('scale value="5"', 'scale value=""', HeaderError),
        ('scale value="5"', 'scale value="0"', UnitError),
        ('<scale value="5" unit="uV"/>', "", UnitError),
        ('<scale value="5" unit="uV"/>', '<scale value="5"/>', UnitError),
        ('increment value="0.002"', 'increment value="0"', HeaderError),
        ('unit="s"', 'unit="h"', HeaderError),
        ("<digits>", "<digits>" + "9" * 400 + " ", HeaderError),
        ("<digits>", "<digits>x ", HeaderError),
        ("<digits>", "<digits>1 ", SignalError),
        ('code="RHYTHM"', 'code="REPRESENTATIVE_BEAT"', SignalError),
    ):
        with pytest.raises(error):
            read(text.replace(old, new, 1))


def test_aecg_names_of_other_persons_are_hidden(hospital, read):
    text = hospital.aecg(hospital.ecg_counts(40)).decode()
    author = "<author><assignedEntity><assignedPerson><name><family>Wolkenstein</family></name></assignedPerson>"
    text = text.replace("<componentOf>", f"{author}</assignedEntity></author><componentOf>", 1)
    text = text.replace("Sinus rhythm", "Sinus rhythm, read by Wolkenstein")
    assert read(text).metadata["statements"][0] == "Sinus rhythm, read by [hidden]"
    kept = read(text, keep_identity=True).metadata
    assert (kept["identity"]["person 1"], kept["statements"][0][-11:]) == ("Wolkenstein", "Wolkenstein")


def test_aecg_increments_in_milliseconds(hospital, read):
    counts = hospital.ecg_counts(40)
    record = read(hospital.aecg(counts, rate=250, unit="ms"))
    assert record.sampling_rate == 250
    np.testing.assert_allclose(record.signal, counts * 0.005, atol=1e-6)


def test_aecg_increments_that_do_not_end_are_those_of_whole_rates(hospital, read):
    text = hospital.aecg(hospital.ecg_counts(40)).decode()
    for written, rate in (
        ("0.00333333333", 300),
        ("0.00277778", 360),
        ("0.003", 1 / 0.003),
        ("0.0010003", 1 / 0.0010003),
    ):
        read_rate = read(text.replace('increment value="0.002"', f'increment value="{written}"', 1)).sampling_rate
        assert read_rate == rate


def test_aecg_patient_id_where_mindray_puts_it(hospital, read):
    text = hospital.aecg(hospital.ecg_counts(40)).decode()
    moved = text.replace(f'<id extension="{hospital.ID}"/>', "").replace(
        "<name>", f"<PatientID>{hospital.ID}</PatientID><name>"
    )
    assert read(moved).patient_id == read(text).patient_id


# XML


@pytest.mark.parametrize("kind", ["muse", "aecg", "philips"])
def test_what_writers_put_around_the_xml_does_no_harm(kind, hospital, read):
    content = getattr(hospital, kind)(hospital.ecg_counts(40, hospital.LEADS))
    encoding = "utf-16" if kind == "philips" else "utf-8"
    text, whole = content.decode(encoding), read(content).signal
    for before, behind in (("\r\n \n", ""), ("", "\0" * 20), ("", "\n\x1a"), ("\ufeff\n", "\n\n")):
        np.testing.assert_array_equal(read((before + text + behind).encode(encoding)).signal, whole)


def test_entities_depth_and_encodings(hospital, read):
    text = hospital.muse(hospital.ecg_counts(40, hospital.LEADS[:8])).decode("latin-1")
    bombs = ('<!ENTITY a "b">', '<!ENTITY % a SYSTEM "file:///etc/hostname">%a;', '<!ATTLIST q x CDATA "AAAA">')
    for declared in bombs:
        with pytest.raises(HeaderError, match="of its own"):
            read(text.replace('SYSTEM "restecg.dtd"', f"[{declared}]"))
    with pytest.raises(HeaderError, match=r"undefined entity: line"):
        read(text.replace("Sinus rhythm", f"&{hospital.LAST};"))
    with pytest.raises(LimitError, match="200"):
        read(text.replace("<Diagnosis>", "<Diagnosis>" + "<a>" * 300 + "</a>" * 300))
    said = text.replace("Sinus rhythm", "Größe")
    for encoding, declared in (
        ("latin-1", "ISO-8859-1"),
        ("utf-8", "utf-8"),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
    ):
        record = read(said.replace("ISO-8859-1", declared).encode(encoding))
        assert record.metadata["statements"][0] == "Größe"
    record = read(said.replace("ISO-8859-1", "utf-8").encode("cp1252"))
    assert record.metadata["statements"][0] == "Größe"
    assert "encoding_contradicts_declaration" in record.metadata["flags"]


# GE MUSE


def test_muse_exponent_lead_off_and_waveforms_without_leads(hospital, read):
    eight = ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]
    text = hospital.muse(hospital.ecg_counts(40, eight)).decode("latin-1")
    assert (
        read(text.replace("<SampleBase>500", "<SampleBase>5").replace("Exponent>0", "Exponent>2")).sampling_rate == 500
    )
    record = read(text.replace("<LeadID>V6", "<LeadID>PACE"))
    assert record.lead_names == eight[:-1]
    assert "waveform_without_lead_left_out" in record.metadata["flags"]
    assert "lead_off_V1" in read(text.replace("<LeadID>V1<", "<LeadOff>TRUE</LeadOff><LeadID>V1<")).metadata["flags"]
    with pytest.raises(UnitError, match="units="):
        read(text.replace("<LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits>", ""))
    with pytest.raises(SignalError, match="Rhythm"):
        read(hospital.muse(hospital.ecg_counts(40, eight), kinds=("Median",)))


def test_muse_checksums_may_be_written_with_a_sign(hospital, read):
    counts = hospital.ecg_counts(40, ["I", "II"])
    text = hospital.muse(counts, leads=("I", "II")).decode("latin-1")
    signed = re.sub(r"(?<=<LeadDataCRC32>)\d+", lambda found: str(int(found[0]) - 2**32), text)
    np.testing.assert_array_equal(read(signed).signal, read(text).signal)
    with pytest.raises(ChecksumError):
        read(re.sub(r"(?<=<LeadDataCRC32>)\d+", "-5", text))


def test_muse_leads_of_a_second_rhythm_are_added(hospital, read):
    counts = hospital.ecg_counts(40, ["I", "II"])
    text = hospital.muse(counts, leads=("I", "II"), kinds=("Rhythm", "Rhythm")).decode("latin-1")
    second = text.rindex("<LeadID>I<")
    text = text[:second] + text[second:].replace("<LeadID>I<", "<LeadID>V3R<").replace("<LeadID>II<", "<LeadID>V7<")
    assert read(text).lead_names == ["I", "II", "V3R", "V7"]


# Philips


@pytest.mark.parametrize("compress", [True, False])
def test_philips_samples_stored_both_ways(compress, hospital, read):
    counts = hospital.ecg_counts(500)
    np.testing.assert_allclose(read(hospital.philips(counts, compress=compress)).signal, counts * 0.005, atol=1e-6)


def test_philips_leads_whose_place_is_not_certain_are_refused(hospital, read):
    """Stored lead after lead, a wrong length would give the second half of a lead as the next one."""
    counts = hospital.ecg_counts(400)
    text = hospital.philips(counts, compress=False).decode("utf-16")
    with pytest.raises(HeaderError, match="4800 numbers follow"):
        read(text.replace('durationperchannel="800"', 'durationperchannel="400"').encode("utf-16"))
    flat = np.hstack([counts, np.zeros((400, 4), int)])  # files have room for sixteen leads
    np.testing.assert_allclose(read(hospital.philips(flat, compress=False)).signal, counts * 0.005, atol=1e-6)


def test_philips_calibration_pulse_is_cut_and_told(hospital, read):
    counts = np.concatenate(
        [hospital.ecg_counts(500), np.zeros((50, 12), int), np.full((60, 12), 200), np.zeros((40, 12), int)]
    )
    record = read(hospital.philips(counts))
    assert record.num_samples == 500
    assert "calibration_pulse_removed" in record.metadata["flags"]
    record = read(hospital.philips(np.concatenate([counts, hospital.ecg_counts(200)])))
    assert record.num_samples == 850
    assert np.isnan(record.signal[500:650]).all()


def test_philips_that_is_not_known_is_named(hospital, read):
    text = hospital.philips(hospital.ecg_counts(100)).decode("utf-16")
    for old, new, word in (
        (">1.04<", ">1.05<", "1.05"),
        ('"XLI"', '"Huffman"', "Huffman"),
        ('"Base64"', '"Hex"', "Hex"),
        ("numberofleads=", 'signaloffset="2048" numberofleads=', "signaloffset"),
        ('numberofleads="12"', 'numberofleads="16"', "16 leads"),
        ("I II III aVR aVL aVF", "aVL I II aVF III aVR", "what is left of others"),
    ):
        with pytest.raises(UnsupportedFormatError, match=word):
            read(text.replace(old, new).encode("utf-16"))


def test_philips_bomb_stops_at_the_expected_size(hospital, read):
    text = hospital.philips(np.zeros((3000, 12), int)).decode("utf-16")
    with pytest.raises(ECGDataError, match="unpacks to more"):
        read(text.replace('durationperchannel="6000"', 'durationperchannel="1000"').encode("utf-16"))


def test_philips_leads_that_are_whole_are_read_of_a_cut_file(hospital, read):
    import base64

    counts = hospital.ecg_counts(300)
    text = hospital.philips(counts).decode("utf-16")
    head, body = text.split('resolution="5">')
    packed = base64.b64decode(body[: body.index("<")])
    cut = base64.b64encode(packed[: len(packed) // 2]).decode()
    content = f'{head}resolution="5">{cut}{body[body.index("<") :]}'.encode("utf-16")
    with pytest.raises(TruncatedError, match="lead"):
        read(content)
    record = read(content, allow_truncated=True)
    whole = ~np.isnan(record.signal).any(axis=0)
    assert 1 < whole.sum() < 12
    np.testing.assert_allclose(record.signal[:, whole], counts[:, whole] * 0.005, atol=1e-6)


# SCP-ECG


@pytest.mark.parametrize(("huffman", "order"), [(True, 0), (True, 1), (True, 2), (False, 0), (False, 1), (False, 2)])
def test_scp_every_coding(huffman, order, hospital, read):
    counts = hospital.ecg_counts(400)
    counts[3, 0], counts[4, 0] = 20_000, -20_000  # 16 bits that wrap around in the differences
    record = read(hospital.scp(counts, huffman=huffman, order=order))
    np.testing.assert_allclose(record.signal, counts * 0.005, atol=2e-5)


@pytest.mark.parametrize("beat_nv", [5000, 10_000])
def test_scp_reference_beat_is_added_back(beat_nv, hospital, read):
    counts = hospital.ecg_counts(600)
    zones = [(101, 151, 200), (301, 351, 399)]
    record = read(hospital.scp(counts, beat=(counts[100:200] // (beat_nv // 5000), beat_nv, zones)))
    np.testing.assert_allclose(record.signal, counts * 0.005, atol=1e-5)


def test_scp_leads_of_other_spans_stand_in_their_time(hospital, read):
    counts = hospital.ecg_counts(300, ["I", "II"])
    record = read(hospital.scp(counts, leads=["I", "II"], spans={"I": (1, 300), "II": (101, 300)}))
    np.testing.assert_allclose(record.signal[:, 0], counts[:, 0] * 0.005, atol=1e-6)
    np.testing.assert_allclose(record.signal[100:, 1], counts[:200, 1] * 0.005, atol=1e-6)
    assert np.isnan(record.signal[:100, 1]).all()


def test_scp_tables_of_the_file_itself(hospital, read):
    counts = np.tile([[0], [1], [-1], [2]], (50, 1))
    codes = [(1, 1, 1, 0, 0b0), (2, 2, 1, 1, 0b01), (3, 3, 1, -1, 0b011), (3, 11, 1, 0, 0b111)]
    table = struct.pack("<HH", 1, 4) + b"".join(struct.pack("<BBBhI", *code) for code in codes)
    bits = "".join({0: "0", 1: "10", -1: "110", 2: "111" + "00000010"}[value] for value in counts[:, 0].tolist())
    bits += "0" * (-len(bits) % 8)
    part = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    part += b"\0" * (len(part) % 2)
    sections = {1: b"\xff\0\0", 2: table, 3: bytes([1, 4]) + struct.pack("<IIB", 1, 200, 2)}
    sections[6] = struct.pack("<HHBBH", 2500, 2000, 0, 0, len(part)) + part
    np.testing.assert_allclose(read(hospital.scp_file(sections)).signal, counts * 0.0025, atol=1e-7)


def test_scp_bimodal_compression_is_refused_by_name(hospital, read):
    with pytest.raises(UnsupportedFormatError, match="bimodal"):
        read(hospital.scp(hospital.ecg_counts(100), bimodal=1))


def test_scp_cut_files_are_read_as_far_as_they_go_where_asked(hospital, read):
    counts = hospital.ecg_counts(500, ["I", "II"])
    content = hospital.scp(counts, leads=["I", "II"], huffman=False, order=0)
    cut = content[: content.rindex(b"Sinus") - 1100]
    with pytest.raises(TruncatedError):
        read(cut)
    record = read(cut, allow_truncated=True)
    assert "truncated" in record.metadata["flags"]
    held = ~np.isnan(record.signal)
    assert 0.3 < held.mean() < 1
    truth = counts[: record.num_samples] * 0.005
    np.testing.assert_allclose(record.signal[held], truth[held], atol=1e-6)


# ISHNE


def test_ishne_samples_and_beats_of_a_part(hospital, tmp_path):
    counts = hospital.ecg_counts(1000, ["V1", "V2", "V3"])
    (tmp_path / "h.ecg").write_bytes(hospital.ishne(counts, block=b"some words"))
    beats = b"".join(
        struct.pack("<ccH", label, b" ", gap) for label, gap in ((b"N", 100), (b"V", 300), (b"!", 0), (b"N", 5))
    )
    (tmp_path / "h.ann").write_bytes(hospital.ishne(counts[:0], magic=b"ISHNE1.0", tail=struct.pack("<I", 50) + beats))
    record = read_record(tmp_path / "h.ecg", start=200, stop=900)
    np.testing.assert_allclose(record.signal, counts[200:900] * np.array([0.0025, 0.005, 0.001]), atol=1e-6)
    assert record.annotations["beat_samples"].tolist() == [250]
    assert record.annotations["beat_symbols"].tolist() == ["V"]
    with pytest.raises(UnsupportedFormatError, match="annotation"):
        read_record(tmp_path / "h.ann")


def test_ishne_lengths_counted_over_all_leads_are_told_where_bytes_are_left(hospital, read):
    counts = hospital.ecg_counts(100, ["V1", "V2", "V3"])
    assert read(hospital.ishne(counts, declared=300)).num_samples == 100
    with pytest.raises(TruncatedError, match="80 each, and 120 bytes left"):
        read(hospital.ishne(counts, declared=240))


@pytest.mark.parametrize("kind", ["ishne", "edf", "bdf"])
def test_recordings_that_end_early_are_read_as_far_as_they_go_where_asked(kind, hospital, read):
    """Of EDF and BDF the data records that are whole, also of a recording that was not closed."""
    counts = hospital.ecg_counts(300, ["V1", "V2"])
    make = {
        "ishne": lambda **other: hospital.ishne(counts, codes=(11, 12), step_nv=(1000, 1000)),
        "edf": lambda **other: hospital.edf(counts, ("V1", "V2"), physical=(-32768, 32767), **other),
        "bdf": lambda **other: hospital.edf(counts, ("V1", "V2"), 3, physical=(-8388608, 8388607), **other),
    }[kind]
    for records in (None, -1):
        content = make(records=records)[:-10]
        with pytest.raises(TruncatedError, match="allow_truncated=True"):
            read(content, "x.ecg")
        record = read(content, "x.ecg", allow_truncated=True)
        assert record.num_samples == (297 if kind == "ishne" else 200)
        np.testing.assert_allclose(record.signal, counts[: record.num_samples] * 0.001, atol=1e-6)
        inferred = [] if records is None or kind == "ishne" else ["length_inferred"]
        assert record.metadata["flags"] == [*inferred, "truncated"]


def test_ishne_unknown_leads_get_neutral_names(hospital, read):
    counts = hospital.ecg_counts(100, ["V1", "V2", "V3"])
    names = read(hospital.ishne(counts, codes=(0, 1, 5))).lead_names
    assert names[2] == "I"
    assert len(set(names)) == 3
    with pytest.raises(UnitError, match="resolution"):
        read(hospital.ishne(counts, step_nv=(2500, 0, 1000)))


# EDF and BDF


def test_edf_with_an_inverted_range_is_read_and_told(hospital, read):
    counts = hospital.ecg_counts(100, ["II", "V5"])
    record = read(hospital.edf(counts, physical=(3276.7, -3276.8)), "r.edf")
    np.testing.assert_allclose(record.signal, -(counts + 1) * 1e-4, atol=1e-6)
    assert record.metadata["flags"] == ["inverted_gain"]


@pytest.mark.parametrize(("width", "kind"), [(2, "EDF+D"), (3, "BDF+D"), (2, "EDF+C"), (3, "BDF+C")])
def test_gaps_of_discontinuous_files_are_no_value(width, kind, hospital, tmp_path):
    """Also of those that call themselves continuous while the times of their data records leave seconds out."""
    counts = hospital.ecg_counts(300, ["II", "V5"])
    path = tmp_path / "d.edf"
    path.write_bytes(hospital.edf(counts, width=width, kind=kind, onsets=[0, 1, 4], physical=(-32768, 32767)))
    record = read_record(path)
    assert record.num_samples == 500
    assert np.isnan(record.signal[200:400]).all()
    assert record.metadata["gaps"] == [[200, 400]]
    assert "gaps" in record.metadata["flags"]
    steps = (65535 / (2 ** (8 * width) - 1)) / 1000
    kept = np.concatenate([record.signal[:200], record.signal[400:]])
    np.testing.assert_allclose(np.diff(kept[:200], axis=0), np.diff(counts[:200], axis=0) * steps, atol=3e-5)
    part = read_record(path, start=150, stop=450)
    np.testing.assert_array_equal(part.signal, record.signal[150:450])
    parts = list(read_parts(path))
    assert [len(one.samples) for one in parts] == [200, 100]
    assert [one.metadata["start_seconds"] for one in parts] == [0, 4]
    np.testing.assert_allclose(parts[1].to_record().signal, record.signal[400:], atol=1e-4)


@pytest.mark.parametrize("onsets", [[0, 1.001, 2.002], [0, 0, 0], [0, 3, 2.6], [0, 0.1, 5]])
def test_drifting_or_impossible_times_of_continuous_files_make_no_gaps(onsets, hospital, read):
    counts = hospital.ecg_counts(300, ["II", "V5"])
    record = read(hospital.edf(counts, kind="EDF+C", onsets=onsets))
    assert record.num_samples == 300
    assert "gaps" not in record.metadata
    assert ("times_not_believed" in record.metadata.get("flags", ())) == (onsets in ([0, 3, 2.6], [0, 0.1, 5]))


@pytest.mark.parametrize("kind", ["EDF+D", "EDF+C"])
@pytest.mark.parametrize("step", [1.001, 0.999, 1.0004, 1])
def test_a_clock_that_drifts_makes_no_holes_between_the_gaps(kind, step, hospital, tmp_path):
    counts, times = hospital.ecg_counts(3000, ["II", "V5"]), [step * n for n in range(15)]
    path = tmp_path / "d.edf"
    path.write_bytes(hospital.edf(counts, kind=kind, onsets=[*times, *(60 + time for time in times)]))
    record = read_record(path)
    assert record.metadata["gaps"] == [[1500, 6000]]
    np.testing.assert_allclose(record.signal[:1500], counts[:1500] * 1e-4, atol=1e-6)
    np.testing.assert_allclose(record.signal[6000:], counts[1500:] * 1e-4, atol=1e-6)
    assert [len(part.samples) for part in read_parts(path)] == [1500, 1500]


def test_short_gaps_between_long_data_records_are_no_drift(hospital, read):
    counts = hospital.ecg_counts(18_000, ["II"])
    record = read(hospital.edf(counts, ["II"], kind="EDF+D", onsets=[0, 60.3, 120.6], rate=100, per_record=6000))
    assert record.metadata["gaps"] == [[6000, 6030], [12_030, 12_060]]


def test_a_slow_clock_hides_no_gap(hospital, tmp_path):
    """A thousand data records later it is ten seconds late, longer than the gap."""
    times = [0.99 * n + 5 * (n >= 1000) for n in range(1010)]
    path = tmp_path / "d.edf"
    path.write_bytes(
        hospital.edf(np.zeros((10_100, 1), int), ["II"], kind="EDF+D", onsets=times, rate=10, per_record=10)
    )
    assert [len(part.samples) for part in read_parts(path)] == [10_000, 100]
    (gap,) = read_record(path).metadata["gaps"]
    assert gap[0] == 10_000
    assert 48 <= gap[1] - gap[0] <= 51


def test_a_slow_clock_hides_no_gap_of_a_file_that_calls_itself_continuous(hospital, tmp_path):
    """A hundred millionths a second are eight seconds a day."""
    times = [0.9999 * n + 5 * (n >= 60_000) for n in range(86_400)]
    one = hospital.edf(np.zeros((4, 1), int), ["II"], kind="EDF+C", onsets=[0], rate=4, per_record=4, records=86_400)
    stored = (bytes(8) + f"+{time:.4f}\x14\x14\0".encode().ljust(40, b"\0") for time in times)
    path = tmp_path / "c.edf"
    path.write_bytes(one[: 256 * 3] + b"".join(stored))
    (gap,) = read_record(path).metadata["gaps"]
    assert gap[0] == 240_000
    assert abs(gap[1] - gap[0] - 20) <= 1


@pytest.mark.parametrize(
    ("per_record", "rate", "onsets", "length"),
    [
        (6000, 100, [0, 60, 145], 20_500),  # a gap of less than half a data record
        (1000, 1000, [0, 0.995, 62], 63_000),  # times that jitter by more than a sample
        (1000, 1000, [0, 0.9, 62], 3000),  # times that cannot be
        (6050, 100, [0, 60, 121], 18_150),  # times in whole seconds
    ],
)
def test_seconds_that_a_continuous_file_leaves_out_are_found_by_its_times(
    per_record, rate, onsets, length, hospital, read
):
    counts = hospital.ecg_counts(3 * per_record, ["II"])
    record = read(hospital.edf(counts, ["II"], kind="EDF+C", onsets=onsets, rate=rate, per_record=per_record))
    assert record.num_samples == length
    assert ("gaps" in record.metadata) == (length > 3 * per_record)
    assert np.isfinite(record.signal).sum() == 3 * per_record


def test_who_it_is_is_hidden_once_for_all_parts(hospital, tmp_path, monkeypatch):
    """A day may have a gap behind each second, and 86,400 parts."""
    counts, asked = hospital.ecg_counts(300, ["II", "V5"]), []
    hide = Patient.hide_in
    monkeypatch.setattr(Patient, "hide_in", lambda self, value, **how: asked.append(value) or hide(self, value, **how))
    (tmp_path / "d.edf").write_bytes(
        hospital.edf(counts, kind="EDF+D", onsets=[0.25 * n for n in range(30)], per_record=10)
    )
    parts = list(read_parts(tmp_path / "d.edf"))
    assert [part.metadata.pop("start_seconds") for part in parts] == [0.25 * n for n in range(30)]
    assert all(part.metadata == parts[0].metadata for part in parts)
    assert len({id(part.metadata) for part in parts}) == 30
    assert len(asked) <= 2


def test_a_gap_over_the_edge_of_two_parts_is_one(hospital, tmp_path, monkeypatch):
    (tmp_path / "d.edf").write_bytes(
        hospital.edf(hospital.ecg_counts(300, ["II", "V5"]), kind="EDF+D", onsets=[0, 1, 4])
    )
    monkeypatch.setattr(reading, "_PART", 150)
    parts = [part.metadata.get("gaps") for part in reading.read_stored_parts(tmp_path / "d.edf")]
    assert parts == [None, [[50, 150]], [[0, 100]], None]
    assert read_record(convert_record(tmp_path / "d.edf", tmp_path, "npz")).metadata["gaps"] == [[200, 400]]


def test_folders_split_discontinuous_files_where_asked(hospital, tmp_path, own_cache):
    from ecg_transformers.data.loading import load_ecg_dataset

    counts = hospital.ecg_counts(300, ["II", "V5"])
    (tmp_path / "d.edf").write_bytes(hospital.edf(counts, kind="EDF+D", onsets=[0, 1, 4]))
    (tmp_path / "c.edf").write_bytes(hospital.edf(counts, kind="EDF+C", onsets=[0, 1, 2]))
    whole = load_ecg_dataset("folder", str(tmp_path), split="train")
    assert dict(zip(whole["record_id"], whole["num_samples"])) == {"c": 300, "d": 500}
    split = load_ecg_dataset("folder", str(tmp_path), split="train", gaps="split")
    assert dict(zip(split["record_id"], split["num_samples"])) == {"c": 300, "d#1": 200, "d#2": 100}


def test_a_recording_that_was_not_closed_is_read_to_its_end(hospital, read):
    counts = hospital.ecg_counts(300, ["II", "V5"])
    record = read(hospital.edf(counts, records=-1))
    assert record.num_samples == 300
    assert "length_inferred" in record.metadata["flags"]


def test_gaps_of_years_are_not_allocated(hospital, tmp_path):
    counts = hospital.ecg_counts(200, ["II", "V5"])
    path = tmp_path / "d.edf"
    path.write_bytes(hospital.edf(counts, kind="EDF+D", onsets=[0, 99999]))
    with pytest.raises(LimitError, match="parts"):
        read_record(path)
    assert len(list(read_parts(path))) == 2


# Recordings of a day


def day_of_dicom(whole, old, new, few, many):
    """The bytes before the samples of a file that has `new` bytes of samples, its last element, instead of `old`."""
    head = bytearray(whole[: len(whole) - old])
    assert head[-12:-8] == b"\x00\x54\x10\x10"
    for mark, gap in ((b"\x00\x54\x00\x01SQ\0\0", 0), (b"\xfe\xff\x00\xe0", head.find(b"\x00\x54\x00\x01SQ"))):
        at = head.find(mark, gap) + len(mark)
        (length,) = struct.unpack_from("<I", head, at)
        struct.pack_into("<I", head, at, length - old + new)
    struct.pack_into("<I", head, len(head) - 4, new)
    at = head.find(struct.pack("<HH2sHI", 0x003A, 0x0010, b"UL", 4, few)) + 8
    struct.pack_into("<I", head, at, many)
    return bytes(head)


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "big", "deflated"])
def test_dicom_in_parts_is_the_whole_cut(syntax, hospital, tmp_path):
    counts = hospital.ecg_counts(700)
    counts[100:160, 2] = counts[300, 2] = 0
    groups = [("RHYTHM A", counts[:, :3]), ("RHYTHM B", counts[50:650, :3])]
    for name, changes in (
        ("one", {}),
        ("padded", {"padding": 0}),
        ("two", {"groups": groups[:1], "label": "RHYTHM B"}),
    ):
        leads = hospital.LEADS[:3] if name == "two" else hospital.LEADS
        offsets = {"offsets": {"RHYTHM A": 0, "RHYTHM B": 1600}} if name == "two" else {}
        values = groups[1][1] if name == "two" else counts
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(hospital.dicom(values, leads, syntax=syntax, **changes, **offsets))
        whole = read_record(path).signal
        for start, stop in ((0, 50), (90, 130), (150, 301), (300, 310), (len(whole) - 7, None)):
            np.testing.assert_array_equal(read_record(path, start=start, stop=stop).signal, whole[start:stop])


@pytest.mark.parametrize("kind", ["ishne", "edf", "bdf", "dicom", "wfdb", "wfdb 24"])
def test_a_part_of_a_day_takes_little_memory(kind, hospital, tmp_path):
    """24 hours as a sparse file: what is allocated follows the part and not the file."""
    import os
    import tracemalloc

    path, samples = tmp_path / ("day.dat" if "wfdb" in kind else "day.bin"), 24 * 3600 * 200
    counts = hospital.ecg_counts(200, ["V1", "V2", "V3"])
    if kind == "ishne":
        head, size = hospital.ishne(counts[:0], declared=samples), 6 * samples
    elif "wfdb" in kind:
        bits = 24 if "24" in kind else 16
        lines = [f"day.dat {bits} 200 16 0 0 1 0 {lead}\n" for lead in ("V1", "V2", "V3")]
        (tmp_path / "day.hea").write_text(f"day 3 200 {samples}\n{''.join(lines)}")
        head, size = b"", 3 * bits // 8 * samples
    elif kind == "dicom":  # the lengths of sequence, item and samples follow, and the number of samples
        whole, size = hospital.dicom(counts, ["V1", "V2", "V3"], rate=200, padding=-32768), 6 * samples
        head = day_of_dicom(whole, 6 * len(counts), size, len(counts), samples)
    else:
        width = 2 if kind == "edf" else 3
        whole = hospital.edf(counts, ["II", "V1", "V5"], width=width, per_record=200, rate=200, records=samples // 200)
        head, size = whole[: 256 * 4], 3 * width * samples
    path.write_bytes(head)
    os.truncate(path, len(head) + size)
    read_record(path, start=0, stop=10)  # what is imported once does not count
    tracemalloc.start()
    record = read_record(path, start=samples // 2, stop=samples // 2 + 2000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert record.num_samples == 2000
    assert peak < 12 * 2**20


# What the formats say, statement by statement


def dicom_with(hospital, change, counts, leads, **how):
    """A DICOM file that a function has changed before it is written."""
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.dcmread(BytesIO(hospital.dicom(counts, leads, **how)))
    change(data)
    data.save_as(stream := BytesIO(), enforce_file_format=True)
    return stream.getvalue()


def test_dicom_channels_have_each_its_own_scale_and_lead(hospital, read):
    """Correction factor and baseline, which is in the unit of the sensitivity; leads by codes, words and labels."""
    counts = hospital.ecg_counts(100, ["I", "II", "III", "V1", "V2"])

    def change(data):
        one, two, three, four, five = data.WaveformSequence[0].ChannelDefinitionSequence
        one.ChannelSensitivityCorrectionFactor, one.ChannelBaseline = "2.5", "100"
        two.ChannelSensitivity, two.ChannelBaseline = "0.005", "-0.25"
        two.ChannelSensitivityUnitsSequence[0].CodeValue = "mV"
        two.ChannelSourceSequence[0].CodeValue = "5.6.3-9-61"
        three.ChannelSensitivity, three.ChannelSensitivityUnitsSequence[0].CodeValue = "5000", "nV"
        three.ChannelSourceSequence[0].CodeValue, three.ChannelSourceSequence[0].CodeMeaning = "", "Lead aVR, augmented"
        four.ChannelSensitivity, four.ChannelSensitivityUnitsSequence[0].CodeValue = "5E-6", "V"
        four.ChannelLabel = "Lead V7 (back)"
        del four.ChannelSourceSequence
        five.ChannelSourceSequence[0].CodeValue = "MDC_ECG_LEAD_AVF"

    record = read(dicom_with(hospital, change, counts, ["I", "II", "III", "V1", "V2"]))
    truth = counts * 0.005
    truth[:, 0] = truth[:, 0] * 2.5 + 0.1
    truth[:, 1] -= 0.25
    assert record.lead_names == ["I", "III", "aVR", "V7", "aVF"]
    np.testing.assert_allclose(record.signal, truth, atol=1e-6)


def test_lead_numbers_of_the_standards():
    for number, lead in ((1, "I"), (2, "II"), (3, "V1"), (8, "V6"), (9, "V7"), (10, "V2R"), (11, "V3R"), (15, "V7R")):
        assert (lead_of_code(f"2:{number}"), lead_of_code(f"5.6.3-9-{number}")) == (lead, lead)
    for number, lead in ((16, "X"), (18, "Z"), (61, "III"), (64, "aVF"), (65, "-aVR"), (66, "V8"), (67, "V9")):
        assert (lead_of_code(f"2:{number}"), lead_of_code(f"5.6.3-9-{number}")) == (lead, lead)


def test_dicom_channels_without_sensitivity_or_unit_need_units(hospital, read):
    counts = hospital.ecg_counts(100, ["I", "II"])

    def without(*keywords):
        def change(data):
            for channel in data.WaveformSequence[0].ChannelDefinitionSequence:
                for keyword in keywords:
                    delattr(channel, keyword)

        return dicom_with(hospital, change, counts, ["I", "II"])

    unit = "ChannelSensitivityUnitsSequence"
    for keywords, step in ((("ChannelSensitivity", unit), 1), ((unit,), 5), (("ChannelSensitivity",), 1)):
        with pytest.raises(UnitError, match="units='uV'"):
            read(without(*keywords))
        np.testing.assert_allclose(read(without(*keywords), units="uV").signal, counts * step / 1000, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "bits", "padding", "baseline"), [("US", 12, 4095, -10_240), ("SS", 12, -2048, 0), ("SS", 12, 2047, 0)]
)
def test_dicom_padding_at_the_edge_of_the_stored_bits_is_no_value(kind, bits, padding, baseline, hospital, read):
    counts = hospital.ecg_counts(100, ["I"])
    stored = counts + (2048 if kind == "US" else 0)
    stored[7], stored[9] = padding, padding
    stored[20], stored[21] = (2, 4090) if kind == "US" else (-2040, 2040)  # so that the edges are not far away
    counts[20:22] = stored[20:22] - (2048 if kind == "US" else 0)

    def change(data):
        data.WaveformSequence[0].ChannelDefinitionSequence[0].WaveformBitsStored = bits

    record = read(dicom_with(hospital, change, stored, ["I"], kind=kind, padding=padding, baseline=baseline))
    assert np.flatnonzero(np.isnan(record.signal[:, 0])).tolist() == [7, 9]
    np.testing.assert_allclose(np.delete(record.signal, [7, 9], 0), np.delete(counts, [7, 9], 0) * 0.005, atol=1e-6)


@pytest.mark.parametrize("kind", ["SB", "SS", "US", "SL"])
def test_dicom_samples_of_every_width(kind, hospital, read):
    counts = np.array([[0, 1], [100, -100], [127, -127], [5, 6]])
    stored = counts + (2048 if kind == "US" else 0)
    record = read(hospital.dicom(stored, ["I", "II"], kind=kind, baseline=-10_240 if kind == "US" else 0))
    np.testing.assert_allclose(record.signal, counts * 0.005, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(
    ("times", "acquired"),
    [
        (
            {"AcquisitionDate": "20200102", "AcquisitionTime": "030405.12", "StudyDate": "19990101"},
            "2020-01-02T03:04:05",
        ),
        ({"ContentDate": "20200102", "ContentTime": "0304", "StudyDate": "19990101"}, "2020-01-02T03:04:00"),
        ({"StudyDate": "20200102", "StudyTime": "03"}, "2020-01-02T03:00:00"),
        ({"StudyDate": "20200102"}, "2020-01-02"),
        ({"StudyDate": "2020.01.02", "StudyTime": "03:04:05"}, "2020-01-02T03:04:05"),  # as old files have them
        ({}, None),
    ],
)
def test_dicom_times_one_after_the_other(times, acquired, hospital, read):
    def change(data):
        del data.AcquisitionDateTime
        for keyword, value in times.items():
            setattr(data, keyword, value)

    record = read(dicom_with(hospital, change, hospital.ecg_counts(50, ["I"]), ["I"]))
    assert record.metadata.get("acquired") == acquired


@pytest.mark.parametrize(("age", "years"), [("070Y", 70), ("018M", 1.5), ("026W", 0.5), ("007D", 0.02), ("", 76)])
def test_dicom_ages_have_units_and_follow_from_the_birth_date(age, years, hospital, read):
    def change(data):
        data.PatientAge = age

    assert read(dicom_with(hospital, change, hospital.ecg_counts(50, ["I"]), ["I"])).metadata["age"] == years


def test_dicom_findings_and_measurements(hospital, read):
    def item(name, **fields):
        return hospital._item(ConceptNameCodeSequence=[hospital._item(CodeMeaning=name)], **fields)

    def change(data):
        unit = [hospital._item(CodeValue="ms", CodeMeaning="millisecond")]
        data.SpecificCharacterSet, data.PatientName = "ISO_IR 100", "Größmann^Jörg"
        data.WaveformAnnotationSequence = [
            item("PR interval", NumericValue="160", MeasurementUnitsCodeSequence=unit),
            item("Diagnosis", ConceptCodeSequence=[hospital._item(CodeMeaning="Atrial fibrillation")]),
            hospital._item(UnformattedTextValue="Überleitung von Grossmann"),
        ]

    metadata = read(dicom_with(hospital, change, hospital.ecg_counts(50, ["I"]), ["I"])).metadata
    assert metadata["statements"] == ["Diagnosis: Atrial fibrillation", "Überleitung von [hidden]"]
    assert metadata["measurements"] == {"PR interval": "160 ms"}


def test_dicom_groups_without_labels_the_longest_is_the_rhythm(hospital, read):
    counts = hospital.ecg_counts(2500, ["I", "II"])
    record = read(hospital.dicom(counts, ["I", "II"], label="", groups=[("", 2 * counts[:1500])]))
    np.testing.assert_allclose(record.signal, counts * 0.005, atol=1e-6)
    assert record.metadata["flags"] == ["other_groups_left_out"]


def test_dicom_groups_of_other_rates_are_chosen_by_their_leads(hospital, read):
    counts = hospital.ecg_counts(1000, ["I", "II"])

    def change(data):
        data.WaveformSequence[0].SamplingFrequency = "250"
        for channel, number in zip(data.WaveformSequence[0].ChannelDefinitionSequence, (3, 4)):
            channel.ChannelSourceSequence[0].CodeValue = f"2:{number}"

    content = dicom_with(hospital, change, counts, ["I", "II"], label="RHYTHM 2", groups=[("RHYTHM 1", 3 * counts)])
    with pytest.raises(SignalError, match="250, 500 Hz"):
        read(content)
    record = read(content, lead_names=["V2"])
    assert record.sampling_rate == 250
    np.testing.assert_allclose(record.signal[:, 0], 3 * counts[:, 1] * 0.005, atol=1e-6)


def test_dicom_channels_of_a_pressure_are_left_out_beside_an_ecg(hospital, read):
    def change(data):
        unit = data.WaveformSequence[0].ChannelDefinitionSequence[1].ChannelSensitivityUnitsSequence[0]
        unit.CodeValue, unit.CodeMeaning = "mm[Hg]", "millimetre of mercury"

    record = read(dicom_with(hospital, change, hospital.ecg_counts(50, ["I", "II"]), ["I", "II"]))
    assert (record.lead_names, record.metadata["flags"]) == (["I"], ["channel_without_voltage_left_out"])


def test_dicom_without_a_waveform_and_companded_samples_are_named(hospital, read):
    counts = hospital.ecg_counts(50, ["I"])

    def image(data):
        del data.WaveformSequence
        data.SOPClassUID, data.Modality = "1.2.840.10008.5.1.4.1.1.2", "CT"

    def companded(data):
        data.WaveformSequence[0].WaveformSampleInterpretation = "MB"

    for change, word in ((image, "of modality CT without a waveform"), (companded, r"G\.711")):
        with pytest.raises(UnsupportedFormatError, match=word):
            read(dicom_with(hospital, change, counts, ["I"]))


def test_dicom_of_any_class_is_read_where_it_holds_a_waveform(hospital, read):
    """A deflated one shows that only when it is read, and a cut one is told as cut."""
    counts = hospital.ecg_counts(50, ["I"])

    def other_class(data):
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"

    for syntax in ("explicit", "implicit", "big", "deflated"):
        content = dicom_with(hospital, other_class, counts, ["I"], syntax=syntax)
        np.testing.assert_allclose(read(content).signal, counts * 0.005, atol=1e-6)
    content = hospital.dicom(counts, ["I"])
    with pytest.raises(HeaderError, match="it ends early or is damaged"):
        read(content[: content.index(b"\x00\x54\x00\x01")])


@pytest.mark.parametrize("strip", ["", "RHYTHM STRIP"])
@pytest.mark.parametrize("length", [1250, 5000])
def test_dicom_strips_without_a_label_are_there_for_their_own_leads(strip, length, hospital, read):
    """Four times three leads of 2.5 s, or all for 10 s, beside a strip of lead II; an unlabelled beat adds nothing."""
    counts, leads = hospital.ecg_counts(5000), hospital.LEADS

    def change(data):
        (twelve,) = data.WaveformSequence
        channels = list(twelve.ChannelDefinitionSequence)
        data.WaveformSequence = []
        for label, start, stop, columns in (
            *(("", length % 5000 * n, length % 5000 * n + length, range(3 * n, 3 * n + 3)) for n in range(4)),
            (strip, 0, 5000, [1]),
            ("", 0, 600, range(12)),
        ):
            group = copy.deepcopy(twelve)
            group.ChannelDefinitionSequence = [channels[place] for place in columns]
            group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = len(columns), stop - start
            group.MultiplexGroupLabel, group.MultiplexGroupTimeOffset = label, str(2 * start)
            group.WaveformData = counts[start:stop, list(columns)].astype("<i2").tobytes()
            data.WaveformSequence.append(group)

    record = read(dicom_with(hospital, change, counts, leads))
    assert record.lead_names == leads
    assert np.isfinite(record.signal).sum(axis=0).tolist() == [5000 if lead == "II" else length for lead in leads]
    known = np.isfinite(record.signal)
    np.testing.assert_allclose(record.signal[known], (counts * 0.005)[known], atol=1e-6)


def test_dicom_channels_that_begin_later_are_told(hospital, read):
    counts = hospital.ecg_counts(600, ["I", "II"])
    for keyword, value, told in (
        ("ChannelSampleSkew", "7", True),
        ("ChannelSampleSkew", "0.5", False),
        ("ChannelTimeSkew", "0.01", True),
        ("ChannelTimeSkew", "0", False),
    ):

        def change(data, keyword=keyword, value=value):
            setattr(data.WaveformSequence[0].ChannelDefinitionSequence[1], keyword, value)

        record = read(dicom_with(hospital, change, counts, ["I", "II"]))
        np.testing.assert_allclose(record.signal, counts * 0.005, atol=1e-6)
        assert ("channel_skew_not_applied" in record.metadata.get("flags", ())) == told


@pytest.mark.parametrize(
    ("family", "unit", "what"),
    [
        ("2.1", "mm[Hg]", "hemodynamic"),
        ("3.1", "mm", "electrophysiology"),
        ("4.1", None, "sound"),
        ("5.1", "mm[Hg]", "pulse"),
        ("6.1", "Ohm", "respiration"),
        ("7.1", "uV", "EEG"),
        ("8.1", "deg", "position"),
    ],
)
def test_dicom_waveforms_that_are_no_ecg_are_named(family, unit, what, hospital, read):
    """Of a class that is no ECG's the leads decide: one of the surface is read, whatever lies beside it."""
    counts = hospital.ecg_counts(1500, ["I"])

    def other_class(data, label):
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = f"1.2.840.10008.5.1.4.1.1.9.{family}"
        for channel in data.WaveformSequence[0].ChannelDefinitionSequence:
            del channel.ChannelSourceSequence
            channel.ChannelLabel = label
            if unit is None:
                del channel.ChannelSensitivity, channel.ChannelSensitivityUnitsSequence
            elif label == "Fp1":
                channel.ChannelSensitivityUnitsSequence[0].CodeValue = unit
                channel.ChannelSensitivityUnitsSequence[0].CodeMeaning = unit

    with pytest.raises(UnsupportedFormatError, match=rf"{what}.* without an ECG lead; only ECG waveforms"):
        read(dicom_with(hospital, lambda data: other_class(data, "Fp1"), counts, ["I"]))
    for label in ("V1", "ECG 1"):
        record = read(
            dicom_with(hospital, lambda data, label=label: other_class(data, label), counts, ["I"]), units="uV"
        )
        np.testing.assert_allclose(record.signal, counts * (0.001 if unit is None else 0.005), atol=1e-6)


def test_dicom_that_ends_early_is_read_as_far_as_it_goes_where_asked(hospital, read):
    counts = hospital.ecg_counts(1500, ["I", "II"])
    content = hospital.dicom(counts, ["I", "II"])[:-2000]
    with pytest.raises(TruncatedError, match="2000 bytes before"):
        read(content)
    record = read(content, allow_truncated=True)
    assert (record.num_samples, record.metadata["flags"]) == (1000, ["truncated"])
    np.testing.assert_allclose(record.signal, counts[:1000] * 0.005, atol=1e-6)


def test_aecg_origin_and_scale_have_each_their_own_unit(hospital, read):
    counts = hospital.ecg_counts(40, ["I", "II"])
    text = hospital.aecg(counts, ["I", "II"], rate=250, unit="us").replace(b"TIME_ABSOLUTE", b"TIME_RELATIVE").decode()
    text = text.replace("GLIST_TS", "GLIST_PQ").replace(
        f'<head value="{hospital.WHEN}.000"/>', '<head value="0" unit="s"/>'
    )
    text = text.replace('<origin value="0" unit="uV"/>', '<origin value="0.25" unit="mV"/>', 1)
    second = text.index("MDC_ECG_LEAD_II")
    text = text[:second] + text[second:].replace('scale value="5" unit="uV"', 'scale value="0.002" unit="mV"', 1)
    record = read(text)
    assert record.sampling_rate == 250
    np.testing.assert_allclose(record.signal, counts * [0.005, 0.002] + [0.25, 0], atol=1e-6)


def test_aecg_series_sets_and_sequences_beside_the_rhythm(hospital, read):
    counts = hospital.ecg_counts(40, ["I", "II"])
    text = hospital.aecg(counts, ["I", "II"]).decode()
    begin = text.index("<component><sequenceSet>")
    end = text.index("<derivation>")
    first, whole = text[begin:end], read(text).signal
    other = first.replace("LEAD_II", "LEAD_V2").replace('LEAD_I"', 'LEAD_V1"')
    assert read(text[:end] + other + text[end:]).lead_names == ["I", "II", "V1", "V2"]
    later = read(text[:end] + other.replace(f"{hospital.WHEN}.000", "20190822134511.000") + text[end:])
    assert (later.lead_names, later.metadata["flags"]) == (["I", "II"], ["further_sequence_sets_left_out"])
    series = text[text.rindex("<component><series>", 0, begin) : text.index("</series>") + len("</series></component>")]
    twice = read(text.replace(series, series + series.replace('scale value="5"', 'scale value="9"')))
    assert twice.metadata["flags"] == ["further_rhythm_series_left_out"]
    np.testing.assert_array_equal(twice.signal, whole)
    without = read(text.replace('scale value="5" unit="uV"', 'scale value="5" unit="%"', 1))
    assert (without.lead_names, without.metadata["flags"]) == (["II"], ["channel_without_voltage_left_out"])
    foreign = read(text.replace('MDC_ECG_LEAD_I"', 'MDC_PULS_OXIM_PLETH"', 1))
    assert (foreign.lead_names, foreign.metadata["flags"]) == (["II"], ["sequence_without_lead_left_out"])
    with pytest.raises(SignalError, match="no lead"):
        read(re.sub(r"MDC_ECG_LEAD_\w+", "MDC_PULS_OXIM_PLETH", text))
    with pytest.raises(MissingHintError, match="sampling_rate"):
        read(text.replace("TIME_ABSOLUTE", "TIME_OTHER").replace("GLIST_TS", "X"))
    assert read(text.replace("TIME_ABSOLUTE", "TIME_OTHER"), sampling_rate=500).sampling_rate == 500


@pytest.mark.parametrize("part", ["center", "low", "high"])
def test_aecg_times_and_measurements(part, hospital, read):
    text = hospital.aecg(hospital.ecg_counts(40, ["I"]), ["I"]).decode().replace("<center ", f"<{part} ")
    measured = '<component><annotation><code code="MDC_ECG_TIME_PD_QT"/><value value="412" unit="ms"/></annotation></component>'
    record = read(text.replace("<annotationSet>", f"<annotationSet>{measured}"))
    assert record.metadata["acquired"] == "2019-08-22T13:45:01"
    assert record.metadata["measurements"] == {"MDC_ECG_TIME_PD_QT": "412 ms"}


def test_aecg_ids_and_places_are_hidden(hospital, read):
    text = hospital.aecg(hospital.ecg_counts(40, ["I"]), ["I"]).decode()
    site = '<location><name>Haus Abendrot</name></location><clinicalTrial><id extension="TR-55512"/></clinicalTrial>'
    text = text.replace("<componentOf>", f"{site}<componentOf>", 1).replace("Sinus rhythm", "TR 55512, Haus Abendrot")
    assert read(text).metadata["statements"][0] == "[hidden], [hidden]"


def sierra_103(hospital, counts, **changes):
    """The same file as version 1.03 has it: rate, resolution and leads under `signalcharacteristics`."""
    text = hospital.philips(counts, **changes).decode("utf-16").replace("UTF-16", "UTF-8").replace(">1.04<", ">1.03<")
    text = re.sub(r' (numberofleads|leadlabels|samplespersecond|resolution)="[^"]*"', "", text)
    text = text.replace('compression="XLI"', 'compressflag="True" compressmethod="XLI"')
    signal = "<signalresolution>5</signalresolution><acquisitiontype>STD-12</acquisitiontype>"
    signal += "<numberchannelsallocated>12</numberchannelsallocated>"
    return text.replace("</samplingrate>", f"</samplingrate>{signal}")


def test_philips_fields_of_both_generations(hospital, read):
    counts = hospital.ecg_counts(300)
    old = sierra_103(hospital, counts)
    new = hospital.philips(counts).decode("utf-16").replace("UTF-16", "UTF-8")
    plain = sierra_103(hospital, counts, compress=False)
    numbers = "\n".join(" ".join(map(str, column)) for column in counts.T.tolist())
    in_words = re.sub(r'"Base64"(.*?)>[^<]*<', rf'"Plain"\1>{numbers}<', plain)
    elsewhere = re.sub(r' resolution="5"', "", new).replace(
        "</samplingrate>", "</samplingrate><resolution>5</resolution>"
    )
    both = new.replace("</samplingrate>", "</samplingrate><resolution>7</resolution>").replace(
        "<samplingrate>500", "<samplingrate>50"
    )
    flag = plain.replace("dataencoding", 'compressflag="False" compressmethod="XLI" dataencoding')
    for text in (old, new, plain, in_words, elsewhere, both, flag):
        record = read(text)
        assert (record.lead_names, record.sampling_rate) == (hospital.LEADS, 500)
        np.testing.assert_allclose(record.signal, counts * 0.005, atol=1e-6)
        assert ("limb_leads_restored" in record.metadata.get("flags", [])) == ("XLI" in text and text != flag)
    nothing = new.replace(' resolution="5"', "")
    with pytest.raises(UnitError, match="units='uV'"):
        read(nothing)
    np.testing.assert_allclose(read(nothing, units="uV").signal, counts * 0.001, atol=1e-6)
    with pytest.raises(HeaderError, match="0 microvolts"):
        read(new.replace(' resolution="5"', ' resolution="0"'))
    with pytest.raises(UnsupportedFormatError, match="not stated"):
        read(plain.replace("dataencoding", 'compressflag="True" dataencoding'))


def test_philips_residuals_are_those_of_six_limb_leads_in_their_order(hospital, read):
    """Labels beyond the number of leads name nothing, and halves are rounded down."""
    eight = ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]
    counts = hospital.ecg_counts(200, eight)
    content = b"".join(hospital._xli_chunk(column) for column in counts.T)
    text = hospital.philips(counts, leads=eight, compress=False).decode("utf-16")
    text = re.sub(r">[^<]*</parsed", f">{hospital._lines(content)}</parsed", text)
    text = text.replace("dataencoding", 'compression="XLI" dataencoding').replace('V6" dur', 'V6 V7 V8" dur')
    record = read(text.encode("utf-16"))
    assert record.lead_names == eight
    np.testing.assert_allclose(record.signal, counts * 0.005, atol=1e-6)
    odd = np.array([[1, 0], [-1, 0], [0, -3], [5, 2]])
    stored = np.concatenate([odd, np.zeros((4, 4), int)], axis=1)
    assert restore_limb_leads(stored)[:, 3].tolist() == [0, 1, 2, -3]


@pytest.mark.parametrize(
    ("unit", "number", "age"),
    [("years", 76, 76), ("months", 18, 1.5), ("weeks", 26, 0.5), ("days", 73, 0.2), ("hours", 876, 0.1)],
)
def test_ages_of_xml_have_units(unit, number, age, hospital, read):
    counts = hospital.ecg_counts(60)
    eight = hospital.muse(counts[:, :8]).replace(b"<DateofBirth>07-11-1943</DateofBirth>", b"")
    stated = f"<PatientAge>{number}</PatientAge><AgeUnits>{unit.upper()}</AgeUnits><Gender>".encode()
    assert read(eight.replace(b"<Gender>", stated)).metadata["age"] == age
    text = hospital.philips(counts).decode("utf-16").replace("<dateofbirth>1943-07-11</dateofbirth>", "{}")
    for zero in ("", "<years>0</years>" * (unit != "years")):
        stated = f"{zero}<{unit}>{number}</{unit}>"
        assert read(text.replace("{}", stated).encode("utf-16")).metadata["age"] == age


def test_philips_ids_empty_fields_and_statements(hospital, read):
    text = hospital.philips(hospital.ecg_counts(60)).decode("utf-16")
    own = read(text.encode("utf-16")).patient_id
    for tag in ("MRN", "uniquepatientid"):
        moved = text.replace(
            f"<patientid>{hospital.ID}</patientid>", f"<patientid>---</patientid><{tag}>{hospital.ID}</{tag}>"
        )
        assert read(moved.encode("utf-16")).patient_id == own
    nobody = read(text.replace(hospital.ID, "---").encode("utf-16"))
    assert nobody.patient_id is None
    said = "<statement><leftstatement>AF</leftstatement><rightstatement>no P</rightstatement></statement>"
    said += "<statement deleted='true'><leftstatement>gone</leftstatement></statement><statement><codedstatement>"
    said += "<unparsedstatement>QT ***</unparsedstatement><unparsedstatement deleted='True'>gone</unparsedstatement>"
    said += "</codedstatement></statement></interpretation>"
    severity = "<interpretation><severity>abnormal</severity></interpretation>"
    text = re.sub(r"<statement>.*</interpretation>", said + severity, text)
    measured = "<measurements><globalmeasurements><meanqtint>410</meanqtint><x/></globalmeasurements></measurements>"
    age = "<age defaultage='50'><years>---</years></age>"
    text = re.sub(r"<age>.*</age>", age, text).replace("<waveforms>", f"{measured}<waveforms>")
    metadata = read(text.encode("utf-16")).metadata
    assert metadata["statements"] == ["AF (no P)", "QT ***"]
    assert (metadata["severity"], metadata["measurements"]) == ("abnormal", {"meanqtint": "410"})
    assert "age" not in metadata
    assert "age" not in read(text.replace("<years>---</years>", "").encode("utf-16")).metadata
    assert read(text.replace("---</years>", "61</years>").encode("utf-16")).metadata["age"] == 61


def test_philips_of_nothing_but_a_pulse_and_samples_beyond_sixteen_bits(hospital, read):
    pulse = np.concatenate([np.zeros((50, 12), int), np.full((60, 12), 200), np.zeros((50, 12), int)])
    with pytest.raises(SignalError, match="calibration pulse"):
        read(hospital.philips(pulse))
    steep = np.zeros((4, 12), int)
    steep[:, 6] = [0, 30_000, 60_000, 90_000]
    np.testing.assert_allclose(read(hospital.philips(steep)).signal, steep * 0.005, rtol=1e-6)


def test_muse_statements_are_lines_of_the_machine_and_the_physician_apart(hospital, read):
    text = hospital.muse(hospital.ecg_counts(40, ["I", "II"]), leads=("I", "II")).decode("latin-1")

    def diagnosis(name, *parts):
        made = "".join(
            f"<DiagnosisStatement>{''.join(f'<StmtFlag>{flag}</StmtFlag>' for flag in flags)}<StmtText>{said}</StmtText>"
            "</DiagnosisStatement>"
            for said, *flags in parts
        )
        return f"<{name}>{made}</{name}>"

    edited = diagnosis(
        "Diagnosis",
        ("Sinus", "USERINSERT"),
        ("bradycardia", "USERINSERT", "ENDSLINE"),
        ("LVH", "ENDSLINE"),
        ("by hand",),
    )
    own = diagnosis("OriginalDiagnosis", ("Sinus rhythm", "ENDSLINE"))
    measured = "<RestingECGMeasurements><QTInterval>402</QTInterval></RestingECGMeasurements><PaceSpikes/>"
    text = re.sub("<Diagnosis>.*</Diagnosis>", edited + own + measured, text)
    aged = "<PatientAge>18</PatientAge><AgeUnits>MONTHS</AgeUnits><Gender>"
    metadata = read(text.replace("<Gender>", aged).replace("08-22-2019", "12-31-2019")).metadata
    assert metadata["statements"] == ["Sinus bradycardia", "LVH", "by hand"]
    assert metadata["machine_statements"] == ["Sinus rhythm"]
    assert metadata["measurements"] == {"QTInterval": "402"}
    assert (metadata["age"], metadata["acquired"]) == (1.5, "2019-12-31T13:45:01")
    assert metadata["flags"] == ["pace_spikes_stated"]


def test_muse_fields_that_contradict_each_other_or_are_not_understood(hospital, read):
    text = hospital.muse(hospital.ecg_counts(40, ["I", "II"]), leads=("I", "II"), kinds=("Rhythm",)).decode("latin-1")
    whole = read(text).signal
    for field in ("FirstSampleBaseline", "LeadOffsetFirstSample"):
        assert read(text.replace("<LeadID>I<", f"<{field}>0</{field}><LeadID>I<")).metadata.get("flags") is None
        told = read(text.replace("<LeadID>I<", f"<{field}>12</{field}><LeadID>I<"))
        assert told.metadata["flags"] == [f"{field}_not_applied"]
        np.testing.assert_array_equal(told.signal, whole)
    volts = text.replace("MICROVOLTS", "MILLIVOLTS").replace("PerBit>4.88", "PerBit>.00488")
    np.testing.assert_allclose(read(volts).signal, whole, rtol=1e-6)
    fewer = text.replace("<LeadByteCountTotal>80", "<LeadByteCountTotal>60", 1)
    four = text.replace("<LeadSampleSize>2", "<LeadSampleSize>4", 1)
    for changed, error, word in (
        (fewer, HeaderError, "at once"),
        (
            fewer.replace("<LeadSampleCountTotal>40", "<LeadSampleCountTotal>30", 1),
            HeaderError,
            "30 samples, 40 follow",
        ),
        (four, UnsupportedFormatError, "4 bytes"),
        (text.replace("MICROVOLTS", "BPM", 1), UnitError, "no voltage"),
    ):
        with pytest.raises(error, match=word):
            read(changed)
    wrong = re.sub(r"CRC32>\d+", "CRC32>7", text)
    assert read(wrong, checksum="warn").metadata["flags"] == ["checksum_mismatch"]
    np.testing.assert_array_equal(read(wrong, checksum="ignore").signal, whole)


def test_muse_leads_that_end_early_and_leads_of_other_lengths(hospital, read):
    counts = hospital.ecg_counts(40, ["I", "II"])
    text = hospital.muse(counts, leads=("I", "II"), kinds=("Rhythm",)).decode("latin-1")
    second = text.rindex("<LeadData>")
    short = text[second:].replace(">80<", ">120<").replace(">40<", ">60<")
    with pytest.raises(TruncatedError, match="60 samples, 40 follow"):
        read(text[:second] + short)
    with pytest.raises(SignalError, match=r"unequal lengths \(\[40, 60\]"):
        read(text[:second] + short, allow_truncated=True)
    record = read(text.replace(">80<", ">120<").replace(">40<", ">60<"), allow_truncated=True)
    assert record.metadata["flags"] == ["truncated"]
    np.testing.assert_allclose(record.signal[:40], counts * 0.00488, atol=1e-6)
    assert np.isnan(record.signal[40:]).all()
    wave = text[text.index("<Waveform>") : text.index("</Waveform>") + len("</Waveform>")]
    twice = read(
        text.replace(wave, wave + wave.replace("<SampleBase>500", "<SampleBase>250").replace("ID>I<", "ID>V1<"))
    )
    assert (twice.lead_names, twice.metadata["flags"]) == (["I", "II"], ["further_rhythm_left_out"])


def test_muse_names_of_others_and_places_are_hidden(hospital, read):
    text = hospital.muse(hospital.ecg_counts(40, ["I"]), leads=("I",)).decode("latin-1")
    others = (
        "<SiteName>Haus Abendrot</SiteName><OverreaderID>K-55512</OverreaderID><OverreaderMDNum>77123</OverreaderMDNum>"
    )
    text = text.replace("</TestDemographics>", f"{others}</TestDemographics>")
    text = text.replace("Sinus rhythm", "Haus Abendrot, Kasimir, 77123")
    assert read(text).metadata["statements"][0] == "[hidden], [hidden], [hidden]"


# SCP-ECG, section by section


def sections_of(content):
    """The bodies of the sections of a file, without their headers."""
    found = {}
    (length,) = struct.unpack_from("<I", content, 10)
    for at in range(22, 6 + length, 10):
        number, size, index = struct.unpack_from("<HII", content, at)
        if number and size:
            found[number] = content[index - 1 + 16 : index - 1 + size]
    return found


def scp_tags(*tags):
    return b"".join(struct.pack("<BH", tag, len(value)) + value for tag, value in tags) + b"\xff\0\0"


def test_scp_texts_are_in_the_language_of_the_machine(hospital, read):
    sections = sections_of(hospital.scp(hospital.ecg_counts(50, ["I"]), leads=["I"]))
    for code, codec, name in ((0, "latin-1", "Größ"), (0x03, "iso8859_2", "Łukaš"), (0x13, "iso8859_5", "Иванов")):
        machine = b"\0" * 14 + bytes([20, 0, code, 0]) + b"\0" * 20
        said = f"Befund: {name}, Ä".encode(codec, "replace")
        sections[1] = scp_tags(
            (0, b"Quellmann\0"), (3, name.encode(codec)), (14, machine), (4, struct.pack("<HB", 18, 2))
        )
        sections[8] = bytes([1, 0, 0, 0, 0, 0, 0, 0, 1, 1]) + struct.pack("<H", len(said)) + said
        metadata = read(hospital.scp_file(sections)).metadata
        assert metadata["statements"] == [f"Befund: [hidden], {'Ä'.encode(codec, 'replace').decode(codec)}"]
        assert (metadata["age"], metadata["statements_confirmed"]) == (1.5, True)


def test_scp_measurements_and_universal_statements(hospital, read):
    sections = sections_of(hospital.scp(hospital.ecg_counts(50, ["I"]), leads=["I"]))
    sections[1] = scp_tags((16, b"Haus Abendrot\0"), (14, b"\0" * 90))  # longer than it may be: seen, and harmless
    sections[7] = struct.pack("<BBHH5H3h", 1, 2, 812, 29999, 286, 388, 434, 554, 854, 44, -61, 29999)
    sections[11] = bytes([0] * 8 + [1, 1]) + struct.pack("<H", 19) + b"\1AFIB\0Haus Abendrot"
    metadata = read(hospital.scp_file(sections)).metadata
    intervals = {"pr_ms": 148, "qrs_ms": 120, "qt_ms": 420, "p_axis": 44, "qrs_axis": -61}
    assert metadata["measurements"] == {"rr_ms": 812, **intervals}
    sections[7] = struct.pack("<BBHH5H3h", 1, 0, 0, 29999, 29999, 29999, 434, 554, 29998, 999, 999, 999)
    assert read(hospital.scp_file(sections)).metadata["measurements"] == {"qrs_ms": 120}
    for nothing in (struct.pack("<BBHH5H3h", 0, 0, 0, 0, *range(8)), struct.pack("<BBHH", 1, 0, 0, 0)):
        assert "measurements" not in read(hospital.scp_file({**sections, 7: nothing})).metadata
    assert metadata["universal_statements"] == ["AFIB [hidden]"]
    assert metadata["flags"] == ["pace_spikes_stated"]


@pytest.mark.parametrize("place", [30, -40])
def test_scp_checksums_of_the_file_and_of_each_section(place, hospital, read):
    content = bytearray(hospital.scp(hospital.ecg_counts(100, ["I"]), leads=["I"]))
    at = content.index(hospital.LAST.encode()) if place > 0 else len(content) + place
    content[at] ^= 1
    of_the_file = bytes(content)
    content[:2] = struct.pack("<H", binascii.crc_hqx(bytes(content[2:]), 0xFFFF))
    for damaged, what in ((of_the_file, "the file"), (bytes(content), "the section")):
        with pytest.raises(ChecksumError, match=what):
            read(damaged)
        assert read(damaged, checksum="warn").metadata["flags"] == ["checksum_mismatch"]
        assert "flags" not in read(damaged, checksum="ignore").metadata


def test_scp_zones_of_other_types_keep_what_is_stored(hospital, read):
    counts = hospital.ecg_counts(600, ["I"])
    shape = counts[100:200]
    sections = sections_of(hospital.scp(counts, leads=["I"], beat=(shape, 5000, [(101, 151, 200), (301, 351, 400)])))
    body = bytearray(sections[4])
    body[6 + 14 : 6 + 16] = struct.pack("<H", 1)
    truth = counts.copy()
    truth[300:400] -= shape
    np.testing.assert_allclose(read(hospital.scp_file({**sections, 4: bytes(body)})).signal, truth * 0.005, atol=1e-5)
    slower = bytearray(sections[5])
    slower[2:4] = struct.pack("<H", 4000)
    for damaged in ({**sections, 5: bytes(slower)}, {number: sections[number] for number in (1, 2, 3, 6)}):
        with pytest.raises(HeaderError, match="reference beat"):
            read(hospital.scp_file(damaged))


def test_scp_of_version_three_has_no_bimodal_byte_and_may_have_a_long_rhythm(hospital, read):
    counts = hospital.ecg_counts(100, ["I"])
    content = bytearray(hospital.scp(counts, leads=["I"], bimodal=1))
    at = struct.unpack_from("<I", content, 22 + 60 + 6)[0] - 1
    content[at + 8] = 30
    np.testing.assert_allclose(read(bytes(content), checksum="ignore").signal, counts * 0.005, atol=1e-6)
    sections = {**sections_of(hospital.scp(counts, leads=["I"])), 12: bytes(40)}
    assert read(hospital.scp_file(sections)).metadata["flags"] == ["long_term_rhythm_left_out"]
    del sections[6]
    with pytest.raises(UnsupportedFormatError, match="section 12"):
        read(hospital.scp_file(sections))
    with pytest.raises(UnsupportedFormatError, match="coding 3"):
        read(hospital.scp_file({**sections, 6: hospital._scp_data(counts, 5000, 500, True, 3, 0)}))


def test_scp_tables_that_switch_to_each_other(hospital, read):
    """The first table has 0, 1 and a switch, the second 2, -1 and the way back; each is counted from 1."""
    first = [(1, 1, 1, 0, 0b0), (2, 2, 1, 1, 0b01), (2, 2, 0, 2, 0b11)]
    second = [(1, 1, 1, 2, 0b1), (2, 2, 1, -1, 0b00), (2, 2, 0, 1, 0b10)]
    table = struct.pack("<H", 2)
    for codes in (first, second):
        table += struct.pack("<H", 3) + b"".join(struct.pack("<BBBhI", *code) for code in codes)
    bits = "0" + "10" + "11" + "1" + "00" + "1" + "01" + "10" + "0"
    part = bytes(int(bits.ljust(16, "0")[at : at + 8], 2) for at in (0, 8))
    sections = {1: b"\xff\0\0", 2: table, 3: bytes([1, 4]) + struct.pack("<IIB", 1, 7, 2)}
    sections[6] = struct.pack("<HHBBH", 5000, 2000, 0, 0, len(part)) + part
    truth = np.array([0, 1, 2, -1, 2, 1, 0])
    np.testing.assert_allclose(read(hospital.scp_file(sections)).signal[:, 0], truth * 0.005, atol=1e-7)


def test_scp_of_old_protocols_is_known_by_its_first_pointer(hospital, read):
    counts = hospital.ecg_counts(50, ["I"])
    content = hospital.scp(counts, leads=["I"])
    old = content[:16] + bytes(6) + content[22:]
    np.testing.assert_allclose(read(old, checksum="ignore").signal, counts * 0.005, atol=1e-6)
    with pytest.raises(ChecksumError):
        read(old)


# ISHNE, field by field


def test_ishne_blocks_offsets_and_checksums_as_writers_have_them(hospital, read):
    counts = hospital.ecg_counts(100, ["V1", "V2", "V3"])
    truth = counts * [0.0025, 0.005, 0.001]
    content = bytearray(hospital.ishne(counts, block=b"some words of somebody"))
    whole = read(bytes(content), "x.ecg")
    np.testing.assert_allclose(whole.signal, truth, atol=1e-6)
    content[22:26] = struct.pack("<i", 522)  # writers err
    crc = binascii.crc_hqx(bytes(content[10 : 522 + 22]), 0xFFFF)
    for stated in (struct.pack("<H", crc), struct.pack(">H", crc), b"\0\0"):
        content[8:10] = stated
        np.testing.assert_allclose(read(bytes(content), "x.ecg").signal, truth, atol=1e-6)
    content[8:10] = struct.pack("<H", crc ^ 1)
    with pytest.raises(ChecksumError):
        read(bytes(content), "x.ecg")
    assert read(bytes(content), "x.ecg", checksum="warn").metadata["flags"] == ["checksum_mismatch"]


def test_ishne_lead_faults_codes_and_people(hospital, read):
    counts = hospital.ecg_counts(100, ["V1", "V2", "V3"])
    counts[20:30, 1] = -32768
    content = bytearray(hospital.ishne(counts, codes=(17, 16, 10)))
    content[230:232], content[8:10] = struct.pack("<h", 2), b"\0\0"
    record = read(bytes(content), "x.ecg")
    assert record.lead_names == ["ES", "V6", "aVF"]
    assert np.flatnonzero(np.isnan(record.signal[:, 1])).tolist() == list(range(20, 30))
    assert np.isnan(record.signal).sum() == 10
    assert (record.metadata["pacemaker"], record.metadata["sex"]) == (2, "F")
    content[128:130] = struct.pack("<h", 1)
    assert read(bytes(content), "x.ecg").metadata["sex"] == "M"
    longer = read(bytes(content) + bytes(60), "x.ecg")
    assert (longer.num_samples, longer.metadata["flags"]) == (100, ["bytes_behind_the_samples"])


@pytest.mark.parametrize(
    ("tail", "flag", "samples"),
    [
        (b"\x0a\0\0\0N \x05\0V \x07\0", None, [15, 22]),
        (b"\x0a\0\0\0N \x05\0! \0\0V \x07\0", "beats_behind_timeout_left_out", [15]),
        (b"", "annotations_not_read", None),
    ],
)
@pytest.mark.parametrize("name", ["x.ann", "x.ANN"])
def test_ishne_beats_lie_beside_the_ecg(name, tail, flag, samples, hospital, read, tmp_path):
    counts = hospital.ecg_counts(100, ["V1", "V2", "V3"])
    (tmp_path / name).write_bytes(hospital.ishne(counts[:0], magic=b"ANN  1.0", tail=tail))
    record = read(hospital.ishne(counts), "x.ecg")
    assert (record.metadata.get("flags") or [None]) == [flag]
    beats = None if record.annotations is None else record.annotations["beat_samples"].tolist()
    assert beats == samples


@pytest.mark.parametrize(
    ("checksum", "flags", "beats"),
    [("error", ["annotations_not_read"], None), ("warn", ["checksum_mismatch"], [15]), ("ignore", [], [15])],
)
def test_ishne_annotations_have_a_checksum_of_their_own(checksum, flags, beats, hospital, read, tmp_path):
    counts = hospital.ecg_counts(100, ["V1", "V2", "V3"])
    annotations = hospital.ishne(counts[:0], block=b"note", magic=b"ANN  1.0", tail=b"\x0a\0\0\0N \x05\0")
    for damaged in (annotations.replace(b"note", b"nope"), annotations[:28] + b"X" + annotations[29:]):
        (tmp_path / "x.ann").write_bytes(damaged)
        record = read(hospital.ishne(counts), "x.ecg", checksum=checksum)
        assert record.metadata.get("flags", []) == flags
        assert (None if record.annotations is None else record.annotations["beat_samples"].tolist()) == beats
    (tmp_path / "x.ann").write_bytes(damaged[:8] + b"\0\0" + damaged[10:])  # none is stated
    assert read(hospital.ishne(counts), "x.ecg").annotations["beat_samples"].tolist() == [15]


# EDF and BDF, field by field


def test_bdf_triggers_and_annotations_are_no_leads(hospital, read):
    counts = hospital.ecg_counts(200, ["II", "V5"])
    content = hospital.edf(counts, ("II", "Status"), width=3, physical=(-8388608, 8388607), onsets=[0, 1], kind="BDF+C")
    content = content.replace(b"ECG Status".ljust(16), b"Status".ljust(16)).replace(
        b"uV      uV", b"\xb5V      Boolean "[:10]
    )
    record = read(content)
    assert (record.lead_names, record.metadata["flags"]) == (["II"], ["status_channel_left_out"])
    np.testing.assert_allclose(record.signal[:, 0], counts[:, 0] * 0.001, atol=1e-6)
    with_unit = hospital.edf(counts, ("II", "Status"), width=3).replace(b"ECG Status", b"Status    ")
    assert read(with_unit).lead_names == ["II"]


@pytest.mark.parametrize("width", [2, 3])
def test_leads_are_chosen_among_any_number_of_signals(width, hospital, read):
    """A BioSemi amplifier writes 64 to 256 electrodes of the scalp, eight others with the ECG among them, and `Status`."""
    counts = hospital.ecg_counts(200, ["II"] * 200)
    counts[:, 170] += 7
    names = [f"A{place}" for place in range(200)]
    content = hospital.edf(counts, names, width=width)
    record = read(content, lead_names=["ECG A170", "ECG A3"])
    alone = read(hospital.edf(counts[:, [170, 3]], ["A170", "A3"], width=width))
    assert record.lead_names == alone.lead_names
    np.testing.assert_array_equal(record.signal, alone.signal)
    with pytest.raises(LimitError, match=r"200 signals, and 64 are read at once; pass lead_names"):
        read(content)
    with pytest.raises(LimitError, match="header of more than the 2048 bytes"):
        read(content, lead_names=["ECG A3"], limits=Limits(max_header_bytes=2048))


def test_signals_without_a_label_get_neutral_names(hospital, read):
    counts = hospital.ecg_counts(200, ["II", "V5"])
    content = hospital.edf(counts, ("A", "B")).replace(b"ECG A", b"     ").replace(b"ECG B", b"     ")
    assert read(content).lead_names == ["signal 1", "signal 2"]
    np.testing.assert_array_equal(read(content, lead_names=["signal 2"]).signal, read(content).signal[:, 1:])


@pytest.mark.parametrize(
    ("old", "new", "acquired", "age"),
    [
        (b"", b"", "2019-08-22T13:45:01", 76),
        (b"Startdate 22-AUG-2019", b"Startdate 03-FEB-2018", "2018-02-03T13:45:01", 74),
        (b"Startdate 22-AUG-2019", b"Startdate X          ", "2019-08-22T13:45:01", 76),
        (
            b"Startdate 22-AUG-2019 X Dr._Kasimir X",
            b"nothing in particular                 ",
            "2019-08-22T13:45:01",
            76,
        ),
        (b"Startdate 22-AUG-2019 X Dr._Kasimir X22.08.19", b"", None, None),
    ],
)
def test_edf_dates_of_both_fields(old, new, acquired, age, hospital, read):
    content = hospital.edf(hospital.ecg_counts(100, ["II"]), ["II"])
    if not new:
        content = content[:88] + b"".ljust(80) + b"01.01.85" + content[176:] if old else content
    else:
        content = content.replace(old, new[: len(old)], 1)
    metadata = read(content).metadata
    assert (metadata.get("acquired"), metadata.get("age")) == (acquired, age)
    early = content[:168] + b"22.08.91" + content[176:]
    assert read(early[:88] + b"".ljust(80) + early[168:]).metadata["acquired"] == "1991-08-22T13:45:01"


def test_edf_texts_ranges_and_rates_that_are_odd(hospital, read):
    counts = hospital.ecg_counts(200, ["II", "V5"])
    content = hospital.edf(counts)
    patient = content[8:88]
    anonymous = content.replace(patient, b"X F X X".ljust(80), 1)
    assert read(anonymous).patient_id is None
    assert read(anonymous).metadata["sex"] == "F"
    assert read(content.replace(patient, b"X M X".ljust(80), 1)).patient_id is None
    comma = content.replace(b"-3276.8 ", b"-3276,8 ").replace(b"3276.7  ", b"3276,7  ")
    np.testing.assert_array_equal(read(comma).signal, read(content).signal)
    for old, new, error in (
        (b"3276.7  ", b"-3276.8 ", "empty"),
        (b"uV      uV      ", b"uV              ", "states no unit"),
        (b"uV      uV      ", b"uV      mmHg    ", "not a voltage"),
    ):
        with pytest.raises((HeaderError, UnitError), match=error):
            read(content.replace(old, new))
    assert read(content.replace(b"uV      uV      ", b"uV      mmHg    "), lead_names=["II"]).lead_names == ["II"]
    with pytest.raises(HeaderError, match=r"file '.*the sampling rate 0\.0"):
        read(content.replace(b"1.0     2   ", b"99999   2   "))
    half = content.replace(b"100     100     ", b"100     50      ")
    with pytest.raises(SignalError, match=r"several rates \(II at 100 Hz; V5 at 50 Hz\); pass lead_names"):
        read(half, allow_truncated=True)
    assert read(half, lead_names=["II"], allow_truncated=True).sampling_rate == 100


def test_edf_lowest_count_is_a_value(hospital, read):
    counts = hospital.ecg_counts(200, ["II", "V5"])
    counts[7, 0] = -32768
    record = read(hospital.edf(counts))
    assert record.signal[7, 0] == np.float32(-3.2768)
    np.testing.assert_allclose(record.signal, counts * 1e-4, atol=1e-6)


def test_edf_data_records_that_overlap_are_refused(hospital, read):
    with pytest.raises(HeaderError, match="overlap"):
        read(hospital.edf(hospital.ecg_counts(300, ["II"]), ["II"], kind="EDF+D", onsets=[0, 0.9, 3]))


# What all have in common


def test_ids_that_are_none_and_rates_that_contradict(hospital, read):
    for nobody in ("", "---", "Unknown", "  ", "N/A", "00000000", "XXXX", "anonymous"):
        text = (
            hospital.muse(hospital.ecg_counts(40, ["I"]), leads=("I",)).decode("latin-1").replace(hospital.ID, nobody)
        )
        assert read(text).patient_id is None
    padded = text.replace("<PatientID>anonymous", f"<PatientID> {hospital.ID}\n")
    assert read(padded).patient_id == read(hospital.dicom(hospital.ecg_counts(40, ["I"]), ["I"])).patient_id
    assert Patient(id=f"\x02{hospital.ID} \0").patient_id(keep=True) == hospital.ID
    with pytest.raises(OptionError, match="500"):
        read(text, sampling_rate=250)
    twice = hospital.muse(hospital.ecg_counts(40, ["I", "II"]), leads=("I", "I"))
    assert (read(twice).lead_names, read(twice).metadata["flags"]) == (["I", "I 2"], ["lead_names_numbered"])


def test_texts_beyond_their_bounds_are_cut_and_told(hospital, read):
    text = hospital.muse(hospital.ecg_counts(40, ["I"]), leads=("I",)).decode("latin-1")
    long = read(text.replace("Sinus rhythm", "word " * 1000)).metadata
    assert (len(long["statements"][0]), long["flags"]) == (texts.MAX_TEXT, ["texts_shortened"])
    one = "<DiagnosisStatement><StmtFlag>ENDSLINE</StmtFlag><StmtText>x</StmtText></DiagnosisStatement>"
    many = read(text.replace("<Diagnosis>", f"<Diagnosis>{one * 2100}")).metadata
    assert len(many["statements"]) == texts.MAX_TEXTS


def test_digits_that_are_decimals_stay_so(hospital, read):
    counts = hospital.ecg_counts(40, ["I"])
    counts[counts == 0] = 1
    text = hospital.aecg(counts, ["I"]).decode()
    digits = text.split("<digits>")[1].split("</digits>")[0]
    record = read(text.replace(digits, " ".join(f"{digit}.25" for digit in digits.split()), 1))
    signs = np.where(counts < 0, -1, 1)
    np.testing.assert_allclose(record.signal, (counts + 0.25 * signs) * 0.005, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "name", "word"),
    [
        (b"<?xml version='1.0'?><sapphire/>", "x.xml", "Sapphire"),
        (b"@  MFER" + bytes(100), "x.ecg", "MFER"),
        (b'{"recordedAt": 1, "leadI": [1, 2]}', "x.json", "Kardia"),
        (b"\x01\x04" * 300, "nsr001.ecg", "WFDB beat annotations"),
        ("<?xml version='1.0' encoding='UTF-16'?><examdescript/>".encode("utf-16-be"), "x.xml", "Schiller"),
    ],
)
def test_files_of_others_are_named(content, name, word, read):
    with pytest.raises(UnsupportedFormatError, match=word):
        read(content, name)


# the page of the docs


def test_the_docs_tell_the_limits_of_the_code():
    text = (Path(__file__).resolve().parents[3] / "docs" / "clinical_formats.md").read_text(encoding="utf-8")
    limits = Limits()
    for row in (
        f"{limits.max_leads} leads, {limits.max_samples:,} samples a lead (of the part that is read), "
        f"{limits.max_file_bytes // 2**20} MiB a file",
        f"{limits.max_growth} samples, all leads together, for each byte of the file, and {MOST_EMPTY:,} more than it has bytes "
        f"at most; {ALWAYS_ALLOWED:,} samples always",
        f"{xml.MAX_XML_BYTES // 2**20} MiB, {xml.MAX_DEPTH} elements within each other, {xml.MAX_NODES:,} elements",
        f"| {aecg.MAX_DIGITS:,} characters of digits a lead |",
        f"| Philips XML | {philips.MOST_LEADS} leads, {philips.MAX_SAMPLES:,} samples of all leads together |",
        f"| {scp.MAX_DECODED:,} samples of all leads together |",
        f"{dicom.MAX_GROUPS} multiplex groups; a deflated file: {dicom.MAX_INFLATED // 2**20} MiB unpacked",
        f"{texts.MAX_TEXTS:,} statements of {texts.MAX_TEXT:,} characters, {texts.MAX_OF_ALL:,} characters together",
    ):
        assert row in text
