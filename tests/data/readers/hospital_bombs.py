"""Small files that claim, repeat or expand more than they hold: each is refused, or read, in bounded time and memory."""

import base64
import struct
import zipfile
import zlib
from io import BytesIO

import hospital_files as files
import numpy as np


def dicom_groups_far_apart():
    """One long lead, and sixteen of two samples at the end of a time of which nearly nothing is stored."""
    leads = list(files.NUMBERS)[:16]
    data = _parsed(files.dicom(np.zeros((65_000, 1), int), ["V7"], groups=(), label="RHYTHM"))
    other = _parsed(files.dicom(np.zeros((2, len(leads)), int), leads, label="RHYTHM"))
    other.WaveformSequence[0].MultiplexGroupTimeOffset = str(31 * 65_000 * 2)
    data.WaveformSequence.append(other.WaveformSequence[0])
    return _saved(data)


def dicom_groups_by_the_dozen():
    """64 groups of a few samples, a day apart from each other."""
    data = _parsed(files.dicom(np.ones((60_000, 1), int), ["V1"]))
    for number in range(63):
        other = _parsed(files.dicom(np.ones((2, 1), int), ["V1"], label="RHYTHM"))
        group = other.WaveformSequence[0]
        group.MultiplexGroupTimeOffset = str(60_000 * number)
        group.ChannelDefinitionSequence[0].ChannelSourceSequence[0].CodeValue = f"a lead {number}"
        group.ChannelDefinitionSequence[0].ChannelSourceSequence[0].CodeMeaning = f"a lead {number}"
        data.WaveformSequence.append(group)
    return _saved(data)


def dicom_annotations(count=20_000):
    """Statements by the ten thousand, written without pydicom, which is slow."""
    data = _parsed(files.dicom(files.ecg_counts(200)))
    del data.WaveformAnnotationSequence
    text = b"\x70\x00\x06\x00ST" + struct.pack("<H", 10) + b"Sinus rh. "
    items = (b"\xfe\xff\x00\xe0" + struct.pack("<I", len(text)) + text) * count
    sequence = b"\x40\x00\x20\xb0SQ\0\0" + struct.pack("<I", len(items)) + items
    content = _saved(data)
    at = content.index(b"\x00\x54\x00\x01SQ")
    return content[:at] + sequence + content[at:]


def dicom_nested(depth=100_000):
    """Sequences within sequences, of undefined length."""
    content = files.dicom(files.ecg_counts(200))
    at = content.index(b"\x00\x54\x00\x01SQ")
    deeper = b"\x40\x00\x20\xb0SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return content[:at] + deeper * depth + content[at:]


def dicom_padding():
    """Runs of the padding value as short as they get."""
    counts = np.ones((300_000, 2), int)
    counts[::2] = 0
    counts[-25:] = 0
    return files.dicom(counts, ["I", "II"], padding=0)


def scp_leads_far_apart():
    """One lead of bits, seven of one sample a long time later."""
    counts = np.zeros((60_000, 8), int)
    leads = ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]
    spans = dict.fromkeys(leads, (31 * 60_000, 31 * 60_000)) | {"I": (1, 60_000)}
    return files.scp(counts, leads=leads, spans=spans, order=0)


def scp_own_tables(codes=4096, leads=5):
    """Codes of 32 bits whose prefixes are of all lengths: each of them is tried for each sample."""
    widths = list(range(2, 33))
    table = [(width, width, 1, 0, 2**width - 1) for width in widths[:-1]]  # ones, which never come
    table += [(32, 32, 1, 1, 0)]
    table += [(32, 32, 1, 1, 2 * number + 1) for number in range(1, codes - len(table) + 1)]
    packed = struct.pack("<HH", 1, len(table)) + b"".join(struct.pack("<BBBhI", *code) for code in table)
    size = 65_532
    sections = {1: b"\xff\0\0", 2: packed, 3: bytes([leads, 4])}
    sections[3] += b"".join(struct.pack("<IIB", 1, size // 4, number + 1) for number in range(leads))
    sections[6] = struct.pack("<HHBB", 2500, 2000, 0, 0) + struct.pack("<H", size) * leads + b"\0" * size * leads
    return files.scp_file(sections)


def scp_zones():
    """Twenty thousand zones from which a long reference beat was taken, all over each other."""
    zones = [(1, 15_001, 30_000)] * 4_000
    sections = {1: b"\xff\0\0", 2: struct.pack("<H", 19999), 3: bytes([8, 5])}
    sections[3] += b"".join(struct.pack("<IIB", 1, 30_000, number + 1) for number in range(8))
    sections[4] = struct.pack("<HHH", 60_000, 15_001, len(zones)) + b"".join(struct.pack("<HIII", 0, *z) for z in zones)
    part = b"\0" * 3750
    data = struct.pack("<HHBB", 5000, 2000, 0, 0) + struct.pack("<H", len(part)) * 8 + part * 8
    sections[5] = sections[6] = data
    return files.scp_file(sections)


def edf_gap(leads=60, onset=50_000):
    """Two data records of many signals with a gap between them of which nothing is stored."""
    counts = np.zeros((400, leads), int)
    names = [f"L{number}" for number in range(leads)]
    return files.edf(counts, names, kind="EDF+D", onsets=[0, onset], per_record=200, rate=200)


def edf_signals_of_one_name(count=4095):
    """As many signals as a header holds, all called alike: each of them needs a name of its own."""
    return files.edf(np.zeros((1, count), int), ["A"] * count, per_record=1)


def edf_signals_of_many_rates(count=200):
    """Each of the signals has a rate of its own, all of which the error tells."""
    content = files.edf(np.zeros((1, count), int), [f"lead of many {n}" for n in range(count)], per_record=1)
    at = 256 + count * (16 + 80 + 8 * 5 + 80)
    rates = b"".join(str(n + 1).encode().ljust(8) for n in range(count))
    return content[:at] + rates + content[at + 8 * count :] + bytes(count * count * 2)


def edf_signals_of_the_patient(count=4095):
    """Each of the signals is called by the name of the patient, which is hidden."""
    return files.edf(np.zeros((1, count), int), [f"{files.LAST} {n}" for n in range(count)], per_record=1)


def philips_xli():
    """Leads of zeros: LZW makes five hundred bytes of each."""
    samples = 6_000_000
    codes, left, width = [], 2 * samples, 0
    while left > 0:
        width = min(width + 1, 1023 - 256 + 1)
        width = min(width, left)
        codes.append(0 if width == 1 else 256 + width - 2)
        left -= width
    codes.append(1023)
    bits = np.array(codes)[:, None] >> np.arange(9, -1, -1) & 1
    packed = np.packbits(bits.astype(np.uint8).ravel()).tobytes()
    content = (struct.pack("<iHh", len(packed), 1, 0) + packed) * 12
    text = files.philips(np.zeros((100, 12), int)).decode("utf-16")
    head, body = text.split('resolution="5">')
    head = head.replace('durationperchannel="200"', f'durationperchannel="{samples * 2}"')
    lines = base64.b64encode(content).decode()
    return f'{head}resolution="5">{lines}{body[body.index("<") :]}'.encode()


def philips_pulses():
    """Calibration pulses by the thousand, all within zeros."""
    counts = np.zeros((30_000, 12), int)
    for start in range(10, 30_000 - 30, 30):
        counts[start : start + 12] = 200
    return files.philips(counts, compress=False)


def muse_names(words=1000):
    """A name of many words, and texts in which each of them is looked for."""
    text = files.muse(files.ecg_counts(200, files.LEADS[:8])).decode("latin-1")
    name = " ".join(f"name{number:05}" for number in range(words))
    said = "".join(
        f"<DiagnosisStatement><StmtFlag>ENDSLINE</StmtFlag><StmtText>{'sinus rhythm, ' * 280}</StmtText></DiagnosisStatement>"
        for _ in range(100)
    )
    text = text.replace(f"<PatientLastName>{files.LAST}", f"<PatientLastName>{name}")
    return text.replace("<Diagnosis>", f"<Diagnosis>{said}").encode("latin-1")


def aecg_digits(megabytes=4):
    """Leads of an hour and more."""
    text = files.aecg(np.zeros((2, 12), int)).decode()
    digits = "-123 " * (megabytes * 2**20 // 60)
    return text.replace("<digits>0 0</digits>", f"<digits>{digits}</digits>", 12).encode()


def aecg_many_persons(count=10_000):
    """Names of other persons, all of which are looked for in the texts."""
    text = files.aecg(files.ecg_counts(200)).decode()
    persons = "".join(f"<assignedPerson><name>somebody{number:06}</name></assignedPerson>" for number in range(count))
    said = "".join(
        '<component><annotation><code code="MDC_ECG_INTERPRETATION_STATEMENT"/><value>'
        f"{'sinus rhythm ' * 300}</value></annotation></component>"
        for _ in range(50)
    )
    text = text.replace("<annotationSet>", "<annotationSet>" + said)
    return text.replace("<componentOf>", f"<author>{persons}</author><componentOf>", 1).encode()


def aecg_attributes(count=99_000):
    """One element of a hundred thousand attributes."""
    text = files.aecg(files.ecg_counts(200)).decode()
    attributes = " ".join(f'a{number}="1"' for number in range(count))
    return text.replace("<componentOf>", f"<x {attributes}/><componentOf>", 1).encode()


def aecg_nested_annotations():
    """Annotations within annotations, each of whose texts holds that of all within it."""
    text = files.aecg(files.ecg_counts(200)).decode()
    depth = 180
    head = '<annotation><code code="MDC_ECG_INTERPRETATION"/><value>'
    nested = head * (depth // 2 - 10) + "word " * 300_000 + "</value></annotation>" * (depth // 2 - 10)
    return text.replace("<annotationSet>", f"<annotationSet>{nested}").encode()


def npz_zeros(cells=2**22):
    """An archive of zeros, a thousandth of their size."""
    stream, inner = BytesIO(), BytesIO()
    np.lib.format.write_array(inner, np.zeros((cells // 4, 4)))
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("signal.npy", inner.getvalue())
    return stream.getvalue()


def dicom_elements(count=100_000):
    """Empty elements of a number each, which pydicom parses one by one."""
    content = files.dicom(files.ecg_counts(200))
    at = content.index(b"\x00\x54\x00\x01SQ")
    elements = b"".join(struct.pack("<HH2sH", 0x11 + 2 * (i >> 16), i & 0xFFFF, b"LO", 0) for i in range(count))
    return content[:at] + elements + content[at:]


def dicom_channels(count=60_000):
    """Channel definitions by the ten thousand in one group."""
    content = files.dicom(files.ecg_counts(200, ["I"]), ["I"])
    at = content.index(b"\x3a\x00\x00\x02SQ") + 8
    items = b"\xfe\xff\x00\xe0\0\0\0\0" * count
    (length,) = struct.unpack_from("<I", content, at)
    content = content[:at] + struct.pack("<I", len(items)) + items + content[at + 4 + length :]
    for mark in (b"\x00\x54\x00\x01SQ\0\0", b"\xfe\xff\x00\xe0"):
        place = content.index(mark, content.index(b"\x00\x54\x00\x01SQ")) + len(mark)
        (old,) = struct.unpack_from("<I", content, place)
        content = content[:place] + struct.pack("<I", old - length + len(items)) + content[place + 4 :]
    return content


def dicom_items_without_end(count=60_000):
    """Items in a sequence of undefined length that nobody asks for."""
    content = files.dicom(files.ecg_counts(200))
    at = content.index(b"\x40\x00\x20\xb0SQ")
    sequence = b"\x32\x00\x64\x10SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" * count
    return content[:at] + sequence + b"\xfe\xff\xdd\xe0\0\0\0\0" + content[at:]


def scp_beat_of_an_hour():
    """A reference beat of 65 s at twenty thousand samples a second, of which a few bytes are there."""
    counts = files.ecg_counts(600)
    content = files.scp(counts, beat=(counts[20:60], 5000, [(21, 41, 60)]))
    at = content.index(struct.pack("<HHH", 80, 21, 1))
    content = content[:at] + struct.pack("<HHH", 65_535, 21, 1) + content[at + 6 :]
    return content.replace(struct.pack("<HHBB", 5000, 2000, 2, 0), struct.pack("<HHBB", 5000, 50, 2, 0))


def muse_lead_of_a_day():
    """A lead that declares fifty million samples, and holds one."""
    text = files.muse(files.ecg_counts(200, files.LEADS[:8])).decode("latin-1")
    text = text.replace("<LeadByteCountTotal>400<", "<LeadByteCountTotal>100000000<")
    return text.replace("<LeadSampleCountTotal>200<", "<LeadSampleCountTotal>50000000<").encode("latin-1")


def philips_names():
    """Ten thousand texts of an order, each of which might be a name."""
    text = files.philips(files.ecg_counts(200)).decode("utf-16")
    order = "".join(f"<a{number}>somebody{number}</a{number}>" for number in range(10_000))
    said = f"<statement><leftstatement>{'sinus rhythm ' * 300}</leftstatement></statement>" * 200
    text = text.replace("<waveforms>", f"<orderinfo>{order}</orderinfo><waveforms>")
    return text.replace("<interpretation>", "<interpretation>" + said).encode("utf-16")


def xml_attributes_with_blanks(count=300_000):
    """Attributes that a count of `="` does not see."""
    text = files.aecg(files.ecg_counts(200)).decode()
    attributes = " ".join(f'a{number} = "1"' for number in range(count))
    return text.replace("<componentOf>", f"<x {attributes}/><componentOf>", 1).encode()


def mat_in_bytes(cells=2**24):
    """Doubles that are stored as bytes and compressed: sixteen hundred to one."""
    shape = np.array([4, cells // 4], "<i4").tobytes()
    flags, name = struct.pack("<IIII", 6, 8, 6, 0), struct.pack("<II", 1, 3) + b"val".ljust(8, b"\0")
    body = flags + struct.pack("<II", 5, 8) + shape + name + struct.pack("<II", 1, cells) + bytes(cells)
    packed = zlib.compress(struct.pack("<II", 14, len(body)) + body, 9)
    return b"MATLAB 5.0".ljust(124) + b"\0\1IM" + struct.pack("<II", 15, len(packed)) + packed


def edf_many_gaps(records=4_000):
    """A gap behind each sample."""
    return files.edf(
        np.ones((records, 1), int), ["II"], kind="EDF+D", onsets=range(0, 3 * records, 3), per_record=1, rate=1
    )


def _parsed(content):
    import pydicom

    return pydicom.dcmread(BytesIO(content))


def _saved(data):
    stream = BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


ARRAY = {"sampling_rate": 100.0, "lead_names": ["I", "II", "V1", "V2"], "units": "mV"}
HINTS = {
    "npz_zeros.npz": ARRAY,
    "mat_in_bytes.mat": ARRAY,
    "scp_beat_of_an_hour.scp": {"allow_truncated": True, "checksum": "ignore"},
    "muse_lead_of_a_day.xml": {"allow_truncated": True},
    "edf_signals_of_one_name.edf": {"lead_names": ["V1"]},
    "edf_signals_of_the_patient.edf": {"lead_names": ["V1"]},
}
BOMBS = {
    "dicom_groups_far_apart.dcm": dicom_groups_far_apart,
    "dicom_groups_by_the_dozen.dcm": dicom_groups_by_the_dozen,
    "dicom_annotations.dcm": dicom_annotations,
    "dicom_nested.dcm": dicom_nested,
    "dicom_padding.dcm": dicom_padding,
    "scp_leads_far_apart.scp": scp_leads_far_apart,
    "scp_own_tables.scp": scp_own_tables,
    "scp_zones.scp": scp_zones,
    "edf_gap.edf": edf_gap,
    "philips_xli.xml": philips_xli,
    "philips_pulses.xml": philips_pulses,
    "muse_names.xml": muse_names,
    "aecg_digits.xml": aecg_digits,
    "aecg_many_persons.xml": aecg_many_persons,
    "aecg_attributes.xml": aecg_attributes,
    "aecg_nested_annotations.xml": aecg_nested_annotations,
    "npz_zeros.npz": npz_zeros,
    "dicom_elements.dcm": dicom_elements,
    "dicom_channels.dcm": dicom_channels,
    "dicom_items_without_end.dcm": dicom_items_without_end,
    "scp_beat_of_an_hour.scp": scp_beat_of_an_hour,
    "muse_lead_of_a_day.xml": muse_lead_of_a_day,
    "philips_names.xml": philips_names,
    "xml_attributes_with_blanks.xml": xml_attributes_with_blanks,
    "mat_in_bytes.mat": mat_in_bytes,
    "edf_many_gaps.edf": edf_many_gaps,
    "edf_signals_of_one_name.edf": edf_signals_of_one_name,
    "edf_signals_of_the_patient.edf": edf_signals_of_the_patient,
    "edf_signals_of_many_rates.edf": edf_signals_of_many_rates,
}
