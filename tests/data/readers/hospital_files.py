"""Writers of small hospital files whose millivolts are known to the last digit; every name, id and date is invented.

Each takes counts `(T, L)`, and gives bytes. What identifies the invented patient stands in `IDENTIFYING`, to grep for.
"""

import base64
import binascii
import struct
import zlib
from io import BytesIO

import numpy as np

ID, LAST, FIRST = "Zx-80917", "Brombach", "Wendeline"
BIRTH = "19430711"
IDENTIFYING = (ID, LAST, FIRST, BIRTH, "1943-07-11", "07-11-1943", "11-JUL-1943", "Dr. Kasimir")
WHEN = "20190822134501"
LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
STATEMENTS = ["Sinus rhythm", f"Old infarct of {LAST}"]
NUMBERS = {"I": 1, "II": 2, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64, "X": 16, "Y": 17, "Z": 18, "V3R": 11, "V7": 9}
NUMBERS |= {f"V{i}": i + 2 for i in range(1, 7)}


def ecg_counts(num_samples=600, leads=LEADS, seed=3, step_uv=5.0):
    """Integers like an ECG of one beat a second at 500 Hz, Einthoven's law kept to a count."""
    rng = np.random.default_rng(seed)
    time = np.arange(num_samples)
    wave = np.exp(-(((time % 500) - 200) ** 2) / 60) + 0.2 * np.exp(-(((time % 500) - 320) ** 2) / 900)
    counts = np.rint(1000 / step_uv * np.outer(wave, rng.uniform(-1, 1.5, 12))).astype(int)
    counts += rng.integers(-3, 4, counts.shape)
    one, two = counts[:, 0], counts[:, 1]
    counts[:, 2], counts[:, 3] = two - one, -(one + two) // 2
    counts[:, 4], counts[:, 5] = (2 * one - two) // 2, (2 * two - one) // 2
    return counts[:, [LEADS.index(lead) if lead in LEADS else 7 for lead in leads]]


def dicom(counts, leads=LEADS, step_uv=5.0, rate=500, kind="SS", syntax="explicit", label="RHYTHM", **changes):
    """A DICOM 12-lead ECG by pydicom; `groups` of `changes` are further (label, counts) before the rhythm."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import (
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
    )

    syntaxes = {"explicit": ExplicitVRLittleEndian, "implicit": ImplicitVRLittleEndian, "big": ExplicitVRBigEndian}
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = {**syntaxes, "deflated": DeflatedExplicitVRLittleEndian}[syntax]
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.9.1.1"
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3.4.5"
    data.PatientName, data.PatientID, data.PatientBirthDate = f"{LAST}^{FIRST}", ID, BIRTH
    data.PatientSex, data.PatientAge, data.Modality = "F", "076Y", "ECG"
    data.AcquisitionDateTime, data.ReferringPhysicianName = WHEN, "Dr. Kasimir"
    data.WaveformAnnotationSequence = [_item(UnformattedTextValue=text) for text in STATEMENTS]
    groups = [*changes.get("groups", ()), (label, counts)]
    data.WaveformSequence = [
        _group(values, leads, step_uv, rate, kind, syntax, name, changes) for name, values in groups
    ]
    stream = BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _item(**fields):
    from pydicom.dataset import Dataset

    item = Dataset()
    for name, value in fields.items():
        setattr(item, name, value)
    return item


def _group(counts, leads, step_uv, rate, kind, syntax, label, changes):
    dtype = {"SS": "i2", "US": "u2", "SB": "i1", "SL": "i4"}[kind]
    channels = []
    for lead in leads:
        code = [_item(CodeValue=f"2:{NUMBERS[lead]}", CodingSchemeDesignator="MDC", CodeMeaning=f"Lead {lead}")]
        unit = [_item(CodeValue=changes.get("unit", "uV"), CodingSchemeDesignator="UCUM", CodeMeaning="microvolt")]
        channels.append(
            _item(
                ChannelSourceSequence=code,
                ChannelSensitivity=str(step_uv),
                ChannelSensitivityUnitsSequence=unit,
                ChannelSensitivityCorrectionFactor="1",
                ChannelBaseline=str(changes.get("baseline", 0)),
                WaveformBitsStored=8 * np.dtype(dtype).itemsize,
            )
        )
    order = ">" if syntax == "big" else "<"
    group = _item(
        WaveformOriginality="ORIGINAL",
        NumberOfWaveformChannels=len(leads),
        NumberOfWaveformSamples=len(counts),
        SamplingFrequency=str(rate),
        ChannelDefinitionSequence=channels,
        WaveformBitsAllocated=8 * np.dtype(dtype).itemsize,
        WaveformSampleInterpretation=kind,
    )
    if label:
        group.MultiplexGroupLabel = label
    content = np.asarray(counts).astype(order + dtype).tobytes()
    group.add_new(0x54001010, "OB" if dtype.endswith("1") else "OW", content)
    if "padding" in changes:
        group.add_new(
            0x5400100A, "OB" if dtype.endswith("1") else "OW", np.array(changes["padding"], order + dtype).tobytes()
        )
    if "offsets" in changes:
        group.MultiplexGroupTimeOffset = str(changes["offsets"][label])
    return group


def aecg(counts, leads=LEADS, step_uv=5.0, rate=500, unit="s"):
    """An HL7 aECG with a rhythm and a derived representative beat of other numbers."""
    step = {"s": 1, "ms": 1e3, "us": 1e6}[unit] / rate

    def sequences(values):
        lines = [
            f'<component><sequence><code code="TIME_ABSOLUTE"/><value xsi:type="GLIST_TS"><head value="{WHEN}.000"/>'
            f'<increment value="{step:g}" unit="{unit}"/></value></sequence></component>'
        ]
        for place, lead in enumerate(leads):
            digits = " ".join(map(str, values[:, place]))
            lines.append(
                f'<component><sequence><code code="MDC_ECG_LEAD_{lead.upper()}"/><value xsi:type="SLIST_PQ">'
                f'<origin value="0" unit="uV"/><scale value="{step_uv:g}" unit="uV"/><digits>{digits}</digits></value>'
                "</sequence></component>"
            )
        return f"<component><sequenceSet>{''.join(lines)}</sequenceSet></component>"

    said = "".join(
        f'<component><annotation><code code="MDC_ECG_INTERPRETATION_STATEMENT"/><value xsi:type="ST">{text}</value>'
        "</annotation></component>"
        for text in STATEMENTS
    )
    beat = f'<derivedSeries><code code="REPRESENTATIVE_BEAT"/>{sequences(2 * counts[:50])}</derivedSeries>'
    beat = f"<derivation>{beat}</derivation>"
    person = (
        f"<name><family>{LAST}</family><given>{FIRST}</given></name>"
        f'<administrativeGenderCode code="F"/><birthTime value="{BIRTH}"/>'
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<AnnotatedECG xmlns="urn:hl7-org:v3" '
        f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><effectiveTime><center value="{WHEN}"/></effectiveTime>'
        "<componentOf><timepointEvent><componentOf><subjectAssignment><subject><trialSubject>"
        f'<id extension="{ID}"/><subjectDemographicPerson>{person}</subjectDemographicPerson></trialSubject></subject>'
        "</subjectAssignment></componentOf></timepointEvent></componentOf>"
        f'<component><series><code code="RHYTHM"/>{sequences(counts)}{beat}'
        f"<subjectOf><annotationSet>{said}</annotationSet></subjectOf></series></component></AnnotatedECG>"
    ).encode()


def muse(
    counts, leads=("I", "II", "V1", "V2", "V3", "V4", "V5", "V6"), step_uv=4.88, rate=500, kinds=("Median", "Rhythm")
):
    """A GE MUSE file; the median beat holds twice the numbers."""

    def lead_data(lead, values):
        content = values.astype("<i2").tobytes()
        return (
            f"<LeadData><LeadByteCountTotal>{len(content)}</LeadByteCountTotal><LeadSampleCountTotal>{len(values)}"
            f"</LeadSampleCountTotal><LeadAmplitudeUnitsPerBit>{step_uv}</LeadAmplitudeUnitsPerBit><LeadAmplitudeUnits>"
            f"MICROVOLTS</LeadAmplitudeUnits><LeadID>{lead}</LeadID><LeadSampleSize>2</LeadSampleSize><LeadDataCRC32>"
            f"{zlib.crc32(content)}</LeadDataCRC32><WaveFormData>{_lines(content)}</WaveFormData></LeadData>"
        )

    waves = ""
    for kind in kinds:
        values = 2 * counts[:100] if kind == "Median" else counts
        data = "".join(lead_data(lead, values[:, place]) for place, lead in enumerate(leads))
        head = f"<WaveformType>{kind}</WaveformType><SampleBase>{rate}</SampleBase><SampleExponent>0</SampleExponent>"
        waves += f"<Waveform>{head}{data}</Waveform>"
    said = "".join(
        f"<DiagnosisStatement><StmtFlag>ENDSLINE</StmtFlag><StmtText>{text}</StmtText></DiagnosisStatement>"
        for text in STATEMENTS
    )
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n<RestingECG>'
        f"<PatientDemographics><PatientID>{ID}</PatientID><PatientLastName>{LAST}</PatientLastName><PatientFirstName>"
        f"{FIRST}</PatientFirstName><DateofBirth>07-11-1943</DateofBirth><Gender>FEMALE</Gender></PatientDemographics>"
        "<TestDemographics><AcquisitionDate>08-22-2019</AcquisitionDate><AcquisitionTime>13:45:01</AcquisitionTime>"
        "<OverreaderLastName>Dr. Kasimir</OverreaderLastName></TestDemographics>"
        f"<Diagnosis>{said}</Diagnosis>{waves}</RestingECG>"
    ).encode("latin-1")


def philips(counts, leads=LEADS, step_uv=5.0, rate=500, compress=True, version="1.04"):
    """A Philips file, UTF-16 as carts write it, XLI or plain int16."""
    content = xli(counts) if compress else b"".join(column.astype("<i2").tobytes() for column in counts.T)
    how = 'compression="XLI" ' if compress else ""
    said = "".join(f"<statement><leftstatement>{text}</leftstatement></statement>" for text in STATEMENTS)
    return (
        '<?xml version="1.0" encoding="UTF-16"?><restingecgdata xmlns="http://www3.medical.philips.com"><documentinfo>'
        f"<documenttype>PhilipsECG</documenttype><documentversion>{version}</documentversion></documentinfo>"
        '<dataacquisition date="2019-08-22" time="13:45:01"><acquirer><operatorid>Dr. Kasimir</operatorid></acquirer>'
        f"<signalcharacteristics><samplingrate>{rate}</samplingrate></signalcharacteristics></dataacquisition><patient>"
        f"<generalpatientdata><patientid>{ID}</patientid><name><lastname>{LAST}</lastname><firstname>{FIRST}</firstname>"
        "</name><age><dateofbirth>1943-07-11</dateofbirth></age><sex>Female</sex></generalpatientdata></patient>"
        f"<interpretations><interpretation>{said}</interpretation></interpretations><waveforms>"
        f'<parsedwaveforms dataencoding="Base64" {how}numberofleads="{len(leads)}" leadlabels="{" ".join(leads)}" '
        f'durationperchannel="{1000 * len(counts) // rate}" samplespersecond="{rate}" resolution="{step_uv:g}">'
        f"{_lines(content)}</parsedwaveforms></waveforms></restingecgdata>"
    ).encode("utf-16")


def xli(counts):
    """Second differences of what is left after Einthoven, high and low bytes apart, LZW of ten bits; a chunk a lead."""
    left = counts.copy()
    one, two, three = counts[:, 0], counts[:, 1], counts[:, 2]
    left[:, 2], left[:, 3] = two - one - three, -counts[:, 3] - (one + two) // 2
    left[:, 4], left[:, 5] = (one - three) // 2 - counts[:, 4], (two + three) // 2 - counts[:, 5]
    return b"".join(_xli_chunk(column) for column in left.T)


def _xli_chunk(column):
    stored = np.zeros(len(column), dtype=np.int64)
    stored[:2] = column[:2]
    bends = 2 * column[1:-1] - column[:-2] - column[2:]  # what makes x[2], x[3] … of the two samples before
    stored[2:-1] = bends[1:] + 64
    words = stored.astype("<i2").view("<u2")
    unpacked = (words >> 8).astype(np.uint8).tobytes() + (words & 255).astype(np.uint8).tobytes()
    table = {bytes([value]): value for value in range(256)}
    codes, known = [], b""
    for value in unpacked:
        longer = known + bytes([value])
        if longer in table:
            known = longer
            continue
        codes.append(table[known])
        if len(table) < 1023:
            table[longer] = len(table)
        known = bytes([value])
    codes += [table[known], 1023]
    packed = np.packbits(
        np.array([[code >> place & 1 for place in range(9, -1, -1)] for code in codes], np.uint8).ravel()
    )
    return struct.pack("<iHh", len(packed), 1, int(bends[0])) + packed.tobytes()


def scp(counts, leads=LEADS, step_nv=5000, rate=500, huffman=True, order=2, beat=None, spans=None, bimodal=0):
    """An SCP-ECG file; `beat` is (reference beat, its nV a count, zones of (first, fiducial, last)) to be subtracted."""
    values = counts.copy()
    sections = {}
    if beat is not None:
        shape, beat_nv, zones = beat
        fiducial = len(shape) // 2 + 1
        for first, middle, last in zones:
            place = np.arange(first, last + 1) + fiducial - middle - 1
            values[first - 1 : last] -= shape[place] * (beat_nv // step_nv)
        sections[4] = struct.pack("<HHH", 1000 * len(shape) // rate, fiducial, len(zones))
        sections[4] += b"".join(struct.pack("<HIII", 0, *zone) for zone in zones)
        sections[5] = _scp_data(shape, beat_nv, rate, huffman, order, 0)
    spans = spans or {lead: (1, len(counts)) for lead in leads}
    sections[1] = _scp_patient()
    if huffman:
        sections[2] = struct.pack("<H", 19999)
    head = bytes([len(leads), (beat is not None) | 4])
    sections[3] = head + b"".join(struct.pack("<IIB", *spans[lead], NUMBERS[lead]) for lead in leads)
    columns = [values[: spans[lead][1] - spans[lead][0] + 1, place] for place, lead in enumerate(leads)]
    sections[6] = _scp_data(columns, step_nv, rate, huffman, order, bimodal, by_lead=True)
    said = b"".join(struct.pack("<BH", n, len(t) + 1) + t.encode() + b"\0" for n, t in enumerate(STATEMENTS, 1))
    sections[8] = struct.pack("<BHBBBBBB", 1, 2019, 8, 22, 13, 45, 1, len(STATEMENTS)) + said
    return scp_file(sections)


def scp_file(sections):
    """Sections with their headers, pointers and checksums."""
    made = {number: _scp_section(number, body) for number, body in sorted(sections.items())}
    count = max(12, *made) + 1
    pointers, at = [(0, 16 + 10 * count, 7)], 6 + 16 + 10 * count
    for number in range(1, count):
        size = len(made.get(number, b""))
        pointers.append((number, size, at + 1 if size else 0))
        at += size
    first = _scp_section(0, b"".join(struct.pack("<HII", *pointer) for pointer in pointers), b"SCPECG")
    content = struct.pack("<I", at) + first + b"".join(made.values())
    return struct.pack("<H", binascii.crc_hqx(content, 0xFFFF)) + content


def _scp_section(number, body, reserved=b"\0" * 6):
    body += b"\0" * (len(body) % 2)
    content = struct.pack("<HIBB", number, 16 + len(body), 20, 20) + reserved + body
    return struct.pack("<H", binascii.crc_hqx(content, 0xFFFF)) + content


def _scp_patient():
    machine = b"\0" * 14 + bytes([20, 0, 0, 0]) + b"\0" * 20
    tags = [(0, LAST.encode() + b"\0"), (1, FIRST.encode() + b"\0"), (2, ID.encode() + b"\0"), (8, b"\2")]
    tags += [(5, struct.pack("<HBB", 1943, 7, 11)), (14, machine), (20, b"Dr. Kasimir\0")]
    tags += [(25, struct.pack("<HBB", 2019, 8, 22)), (26, bytes([13, 45, 1]))]
    return b"".join(struct.pack("<BH", tag, len(value)) + value for tag, value in tags) + b"\xff\0\0"


def _scp_data(values, step_nv, rate, huffman, order, bimodal, by_lead=False):
    parts = []
    for column in values if by_lead else np.asarray(values).T:
        column = np.asarray(column)
        if order == 1:
            column = np.concatenate([column[:1], np.diff(column)])
        elif order == 2:
            column = np.concatenate([column[:2], np.diff(column, 2)])
        part = _huffman(column.tolist()) if huffman else column.astype("<i2").tobytes()
        parts.append(part + b"\0" * (len(part) % 2))
    head = struct.pack("<HHBB", step_nv, 1_000_000 // rate, order, bimodal)
    return head + b"".join(struct.pack("<H", len(part)) for part in parts) + b"".join(parts)


def _huffman(values):
    """The standard's own table."""
    bits = []
    for value in values:
        size = abs(value)
        if size <= 8:
            bits.append("0" if not value else "1" * size + "0" + str(int(value < 0)))
        elif -128 <= value < 128:
            bits.append("1111111110" + format(value & 0xFF, "08b"))
        else:
            bits.append("1111111111" + format(value & 0xFFFF, "016b"))
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))


def ishne(
    counts,
    codes=(2, 3, 4),
    step_nv=(2500, 5000, 1000),
    rate=200,
    block=b"",
    declared=None,
    magic=b"ISHNE1.0",
    tail=None,
):
    """An ISHNE Holter file, or annotations where `tail` stands for the samples."""

    def words(values):
        return struct.pack("<12h", *values, *[-9] * (12 - len(values)))

    def text(value, width):
        return value.encode("latin-1").ljust(width, b"\0")

    body = struct.pack("<4ih", len(block), len(counts) if declared is None else declared, 522, 522 + len(block), 1)
    body += text(FIRST, 40) + text(LAST, 40) + text(ID, 20) + struct.pack("<2h", 2, 0)
    body += struct.pack("<12h", 11, 7, 1943, 22, 8, 2019, 22, 8, 2019, 13, 45, 1)
    body += (
        struct.pack("<h", len(codes)) + words(codes) + words([1] * len(codes)) + words(step_nv) + struct.pack("<h", 0)
    )
    body += text("digital", 40) + struct.pack("<h", rate) + text("", 80) + text("", 80) + text("", 88) + block
    samples = np.asarray(counts).astype("<i2").tobytes() if tail is None else tail
    return magic + struct.pack("<H", binascii.crc_hqx(body, 0xFFFF)) + body + samples


def edf(counts, leads=("II", "V5"), width=2, kind="", onsets=None, physical=(-3276.8, 3276.7), per_record=100, **other):
    """EDF (`width` 2) or BDF (3); with `onsets` each data record begins with its time, as EDF+ has it."""
    full, rate, records = 2 ** (8 * width - 1), other.get("rate", 100), other.get("records")
    name = "EDF" if width == 2 else "BDF"
    signals = [(f"ECG {lead}", "uV", *physical, -full, full - 1, per_record) for lead in leads]
    if onsets is not None:
        signals.append((f"{name} Annotations", "", -1, 1, -full, full - 1, 20))

    def field(value, size):
        return str(value).encode("latin-1").ljust(size)[:size]

    count = len(counts) // per_record
    head = b"0".ljust(8) if width == 2 else b"\xffBIOSEMI"
    head += field(f"{ID} F 11-JUL-1943 {LAST}_{FIRST}", 80) + field("Startdate 22-AUG-2019 X Dr._Kasimir X", 80)
    head += b"22.08.1913.45.01" + field(256 * (len(signals) + 1), 8) + field(kind, 44)
    head += field(count if records is None else records, 8) + field(per_record / rate, 8) + field(len(signals), 4)
    for place, size in ((0, 16), (None, 80), (1, 8), (2, 8), (3, 8), (4, 8), (5, 8), (None, 80), (6, 8), (None, 32)):
        head += b"".join(field("" if place is None else signal[place], size) for signal in signals)
    content = b""
    for record in range(count):
        block = counts[record * per_record : (record + 1) * per_record]
        for column in block.T:
            content += np.ascontiguousarray(column).astype("<i4").view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
        if onsets is not None:
            content += f"+{onsets[record]:g}\x14\x14\0".encode().ljust(20 * width, b"\0")
    return head + content


def _lines(content):
    text = base64.b64encode(content).decode()
    return "\n".join(text[at : at + 76] for at in range(0, len(text), 76))


def every_format(num_samples=600):
    """One file of each format: (file name, bytes, counts, microvolts a count, leads, Hz)."""
    return [*cart_files(num_samples), *long_files(num_samples)]


def cart_files(num_samples=600):
    """Files of resting ECGs, as `every_format` gives them."""
    counts, eight = ecg_counts(num_samples), [0, 1, 6, 7, 8, 9, 10, 11]
    return [
        ("a.dcm", dicom(counts), counts, 5.0, LEADS, 500),
        ("b.xml", aecg(counts), counts, 5.0, LEADS, 500),
        ("c.xml", philips(counts), counts, 5.0, LEADS, 500),
        ("d.xml", muse(counts[:, eight]), counts[:, eight], 4.88, [LEADS[place] for place in eight], 500),
        ("e.scp", scp(counts), counts, 5.0, LEADS, 500),
    ]


def long_files(num_samples=600):
    """Files of recorders, as `every_format` gives them; `num_samples` is a multiple of 100."""
    holter, two = ecg_counts(num_samples, ["V1", "V2", "V3"]), ecg_counts(num_samples, ["II", "V5"])
    fine = 32 * two - 5_760_000  # steps of 31.25 nV beside an electrode offset of -180 mV
    return [
        ("f.ecg", ishne(holter), holter, np.array([2.5, 5.0, 1.0]), ["X", "Y", "Z"], 200),
        ("g.edf", edf(two), two, 0.1, ["II", "V5"], 100),
        ("h.bdf", edf(fine, width=3, physical=(-262144, 262143)), fine, None, ["II", "V5"], 100),
    ]
