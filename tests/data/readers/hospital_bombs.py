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


def dicom_annotations(count=60_000):
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
    counts = np.zeros((240_000, 8), int)
    leads = ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]
    spans = dict.fromkeys(leads, (31 * 240000, 31 * 240000)) | {"I": (1, 240_000)}
    return files.scp(counts, leads=leads, spans=spans, order=0)


def scp_own_tables(tables=1, codes=4096):
    """Codes of 32 bits whose prefixes are of all lengths: each of them is tried for each sample."""
    widths = list(range(2, 33))
    table = [(width, width, 1, 0, 2**width - 1) for width in widths[:-1]]  # ones, which never come
    table += [(32, 32, 1, 1, 0)]
    table += [(32, 32, 1, 1, 2 * number + 1) for number in range(1, codes - len(table) + 1)]
    packed = struct.pack("<H", tables)
    packed += tables * (struct.pack("<H", len(table)) + b"".join(struct.pack("<BBBhI", *code) for code in table))
    leads, size = 255 // 4, 65_532
    sections = {1: b"\xff\0\0", 2: packed, 3: bytes([leads, 4])}
    sections[3] += b"".join(struct.pack("<IIB", 1, size // 4, number + 1) for number in range(leads))
    sections[6] = struct.pack("<HHBB", 2500, 2000, 0, 0) + struct.pack("<H", size) * leads + b"\0" * size * leads
    return files.scp_file(sections)


def scp_table_switches():
    """Codes that only switch from table to table, one bit each."""
    table = struct.pack("<H", 1) + struct.pack("<BBBhI", 1, 1, 0, 2, 0)
    other = struct.pack("<H", 1) + struct.pack("<BBBhI", 1, 1, 0, 1, 0)
    sections = {1: b"\xff\0\0", 2: struct.pack("<H", 2) + table + other, 3: bytes([30, 4])}
    sections[3] += b"".join(struct.pack("<IIB", 1, 8, number + 1) for number in range(30))
    size = 65_534
    sections[6] = struct.pack("<HHBB", 2500, 2000, 0, 0) + struct.pack("<H", size) * 30 + b"\0" * size * 30
    return files.scp_file(sections)


def scp_zones():
    """Twenty thousand zones from which a long reference beat was taken, all over each other."""
    beat = np.ones((30_000, 8), int)
    leads = ["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"]
    counts = np.zeros((30_000, 8), int)
    zones = [(1, 15_001, 30_000)] * 4_000
    content = files.scp(counts, leads=leads, beat=(beat, 5000, zones[:1]), order=0)
    del content
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


def philips_xli():
    """Leads of zeros: LZW makes five hundred bytes of each."""
    samples = 6_000_000
    chunk = files._xli_chunk(np.zeros(600_000, int))
    del chunk
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
    counts = np.zeros((200_000, 12), int)
    for start in range(10, 200_000 - 30, 30):
        counts[start : start + 12] = 200
    return files.philips(counts, compress=False)


def muse_names(words=1000):
    """A name of many words, and texts in which each of them is looked for."""
    text = files.muse(files.ecg_counts(200, files.LEADS[:8])).decode("latin-1")
    name = " ".join(f"name{number:05}" for number in range(words))
    said = "".join(
        f"<DiagnosisStatement><StmtFlag>ENDSLINE</StmtFlag><StmtText>{'sinus rhythm, ' * 280}</StmtText></DiagnosisStatement>"
        for _ in range(500)
    )
    text = text.replace(f"<PatientLastName>{files.LAST}", f"<PatientLastName>{name}")
    return text.replace("<Diagnosis>", f"<Diagnosis>{said}").encode("latin-1")


def muse_statement_without_end():
    """A line of a diagnosis that never ends."""
    text = files.muse(files.ecg_counts(200, files.LEADS[:8])).decode("latin-1")
    said = "<DiagnosisStatement><StmtText>a</StmtText></DiagnosisStatement>" * 30_000
    return text.replace("<Diagnosis>", f"<Diagnosis>{said}").encode("latin-1")


def aecg_digits(megabytes=20):
    """Leads of an hour and more."""
    text = files.aecg(np.zeros((2, 12), int)).decode()
    digits = "-123 " * (megabytes * 2**20 // 60)
    return text.replace("<digits>0 0</digits>", f"<digits>{digits}</digits>", 12).encode()


def aecg_many_persons(count=30_000):
    """Names of other persons, all of which are looked for in the texts."""
    text = files.aecg(files.ecg_counts(200)).decode()
    persons = "".join(f"<assignedPerson><name>somebody{number:06}</name></assignedPerson>" for number in range(count))
    said = "".join(
        '<component><annotation><code code="MDC_ECG_INTERPRETATION_STATEMENT"/><value>'
        f"{'sinus rhythm ' * 300}</value></annotation></component>"
        for _ in range(200)
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
    nested = head * (depth // 2 - 10) + "word " * 1_000_000 + "</value></annotation>" * (depth // 2 - 10)
    return text.replace("<annotationSet>", f"<annotationSet>{nested}").encode()


def npz_zeros(cells=2**24):
    """An archive of zeros, a thousandth of their size."""
    stream, inner = BytesIO(), BytesIO()
    np.lib.format.write_array(inner, np.zeros((cells // 4, 4)))
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("signal.npy", inner.getvalue())
    return stream.getvalue()


def npz_of_many_arrays(members=60, cells=2**21):
    """An archive of arrays that nobody asks for."""
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, size in [("signal", 400), *((f"other{number}", cells) for number in range(members))]:
            np.lib.format.write_array(inner := BytesIO(), np.zeros((size // 4, 4)))
            archive.writestr(f"{name}.npy", inner.getvalue())
    return stream.getvalue()


def mat_of_many_arrays(members=60, cells=2**21):
    """A compressed MATLAB file of zeros."""
    import scipy.io

    stream = BytesIO()
    arrays = {f"other{number}": np.zeros((4, cells // 4)) for number in range(members)}
    scipy.io.savemat(stream, {**arrays, "val": np.zeros((4, 100))}, do_compression=True)
    return stream.getvalue()


def dicom_deflated(size=2**26 - 2**16):
    """A deflated data set that stays just below what it may grow to."""
    content = files.dicom(files.ecg_counts(100), syntax="deflated")
    start = 144 + int.from_bytes(content[140:144], "little")
    plain = zlib.decompress(content[start:], -15)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    rest = b"\xfc\xff\xfc\xffOB\0\0" + struct.pack("<I", size) + bytes(size)
    return content[:start] + squeeze.compress(plain + rest) + squeeze.flush()


def _parsed(content):
    import pydicom

    return pydicom.dcmread(BytesIO(content))


def _saved(data):
    stream = BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


BOMBS = {
    "dicom_groups_far_apart.dcm": dicom_groups_far_apart,
    "dicom_groups_by_the_dozen.dcm": dicom_groups_by_the_dozen,
    "dicom_annotations.dcm": dicom_annotations,
    "dicom_nested.dcm": dicom_nested,
    "dicom_padding.dcm": dicom_padding,
    "dicom_deflated.dcm": dicom_deflated,
    "scp_leads_far_apart.scp": scp_leads_far_apart,
    "scp_own_tables.scp": scp_own_tables,
    "scp_table_switches.scp": scp_table_switches,
    "scp_zones.scp": scp_zones,
    "edf_gap.edf": edf_gap,
    "philips_xli.xml": philips_xli,
    "philips_pulses.xml": philips_pulses,
    "muse_names.xml": muse_names,
    "muse_statement_without_end.xml": muse_statement_without_end,
    "aecg_digits.xml": aecg_digits,
    "aecg_many_persons.xml": aecg_many_persons,
    "aecg_attributes.xml": aecg_attributes,
    "aecg_nested_annotations.xml": aecg_nested_annotations,
    "npz_zeros.npz": npz_zeros,
    "npz_of_many_arrays.npz": npz_of_many_arrays,
    "mat_of_many_arrays.mat": mat_of_many_arrays,
}
