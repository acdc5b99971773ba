"""What kind of file this is, by its content and never by its suffix.

Hospital exports are called `.dcm`, `.xml`, `.TXT`, `.dat`, `.ecg` or nothing at all, so only the first bytes count. Files
of kinds that are known but not read are named too: a file that nobody names vanishes.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from ecg_transformers.data.readers.clinical.encoding import decoded
from ecg_transformers.data.readers.limits import open_file

CLINICAL_SUFFIXES = (".dcm", ".xml", ".scp", ".ecg", ".bdf", ".ann", ".dicom", ".aecg")
FORMAT_SUFFIXES = (".hea", ".mat", ".npy", ".npz", ".csv", ".tsv", *CLINICAL_SUFFIXES, ".edf", ".dat", ".txt")
HEAD_BYTES = 4096
XML_HEAD_BYTES = 2**20
"""A long comment or DTD may stand before the root element; no file of ours needs more than this."""


@dataclass(frozen=True)
class Kind:
    """A kind of file: `key` of its reader, or None where there is none, and what people call it."""

    key: str | None
    title: str


DICOM = Kind("dicom", "DICOM file")
AECG = Kind("aecg", "HL7 aECG file")
PHILIPS = Kind("philips", "Philips ECG XML file")
MUSE = Kind("muse", "GE MUSE XML file")
SCP = Kind("scp", "SCP-ECG file")
ISHNE = Kind("ishne", "ISHNE Holter file")
ISHNE_ANNOTATIONS = Kind("ishne", "ISHNE annotation file")
BDF = Kind("bdf", "BDF file (BioSemi, 24 bits)")
EDF = Kind("edf", "EDF file")
EDF_ANNOTATIONS = Kind(None, "EDF+ or BDF+ file of annotations without a signal")
EMPTY = Kind(None, "empty file (0 bytes)")
HDF5 = Kind(None, "HDF5 file")

_ROOTS = {"AnnotatedECG": AECG, "restingecgdata": PHILIPS, "RestingECG": MUSE}
_FOREIGN_ROOTS = {
    "ECG": "Mortara ELI XML",
    "CardiologyXML": "GE CardioSoft XML",
    "sapphire": "GE Sapphire XML",
    "examdescript": "Schiller XML",
    "html": "an HTML page",
    "HTML": "an HTML page",
    "svg": "an SVG picture",
    "ClinicalDocument": "an HL7 CDA document",
}
_MAGIC = (
    (b"\x89HDF\r\n\x1a\n", HDF5.title),
    (b"%PDF", "PDF document"),
    (b"\x89PNG", "PNG picture"),
    (b"\xff\xd8\xff", "JPEG picture"),
    (b"\x1f\x8b", "gzip archive"),
    (b"PK\x03\x04", "ZIP archive"),
    (b"ALIVE\0\0\0", "AliveCor ATC file"),
    (b"@  MFER", "MFER file"),
    (b"@ MFR ", "MFER file"),
    (b"RIFF", "RIFF (sound) file"),
)
KARDIA = Kind(None, "AliveCor Kardia JSON file")
_KARDIA_KEYS = re.compile(
    rb'"(recordedAt|algorithmDetermination|amplitudeResolution|mainsFrequency|data12L|leadI|heartRate|deviceInfo)"\s*:'
)
_ANNOTATION_MAGIC = b"ANN  1.0"
_CLASS = re.compile(rb"1\.2\.840\.10008\.(?:1\.3\.10|5\.1\.4\.1\.1\.\d[\d.]*)")
_WAVEFORM_CLASS, _DEFLATED = b"1.2.840.10008.5.1.4.1.1.9.", b"1.2.840.10008.1.2.1.99"
_WAVEFORM_SEQUENCE = (b"\x00\x54\x00\x01", b"\x54\x00\x01\x00")
_MODALITY = re.compile(
    rb"(?:\x08\0\x60\0|\0\x08\0\x60)(?:CS)?(?:[\x02-\x04]\0|\0[\x02-\x04])(?:\0\0)?([A-Z]{2,4})(?![A-Z])"
)
_VALUE_TYPES = (b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OW PN SH SL SQ SS ST TM UC UI UL UN UR US UT").split()


def name_of(path: Path) -> str:
    """The name of the record in a file: without a suffix of a format, which archives' `1.2.840.5` does not have."""
    return path.stem if path.suffix.lower() in FORMAT_SUFFIXES else path.name


def recognise(
    path: str | os.PathLike, root: str | os.PathLike | None = None, *, follow_links: bool = False
) -> Kind | None:
    """The kind of a regular file by its first bytes, or None where they tell nothing.

    Raises:
        ECGDataError: the path is no regular file, or leaves its folder (see `safe_file`).
    """
    descriptor, size = open_file(path, root, follow_links=follow_links)
    try:
        head = os.read(descriptor, HEAD_BYTES)
        if len(head) == HEAD_BYTES and looks_like_xml(head) and root_element(head) == "":
            while len(head) < XML_HEAD_BYTES and (more := os.read(descriptor, XML_HEAD_BYTES - len(head))):
                head += more
        kind = kind_of(head, size, Path(path).suffix.lower())
        return _without_waveform(descriptor, head) or kind if kind is DICOM else kind
    finally:
        os.close(descriptor)


def _without_waveform(descriptor: int, head: bytes) -> Kind | None:
    """The kind of a DICOM file that is of another class and holds no waveform: images, reports and the directory lie
    beside the ECGs on the discs and in the exports of archives. The class alone decides nothing.
    """
    stated = _CLASS.search(head)
    if stated is None or stated.group().startswith(_WAVEFORM_CLASS) or _DEFLATED in head:
        return None
    try:
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as content:
            if any(content.find(tag) >= 0 for tag in _WAVEFORM_SEQUENCE):
                return None
    except (OSError, ValueError):
        return None
    modality = _MODALITY.search(head)
    of = f" of modality {modality.group(1).decode('ascii')}" if modality else ""
    return Kind(None, f"DICOM file{of} without a waveform")


def kind_of(head: bytes, size: int, suffix: str = "") -> Kind | None:
    """The kind of a file that begins with `head` and has `size` bytes. Only `.ann` counts as a name: data bases have
    ISHNE annotation files with the magic number of an ECG.
    """
    if not size:
        return EMPTY
    if _is_dicom(head):
        return DICOM
    if head.startswith((b"ISHNE1.0", _ANNOTATION_MAGIC)):
        return ISHNE_ANNOTATIONS if suffix == ".ann" or head.startswith(_ANNOTATION_MAGIC) else ISHNE
    if _is_scp(head):
        return SCP
    if (is_bdf := head.startswith(b"\xffBIOSEMI")) or _is_edf(head):
        return EDF_ANNOTATIONS if _holds_annotations_only(head) else BDF if is_bdf else EDF
    if looks_like_xml(head):
        return xml_kind(head)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return KARDIA if len(set(_KARDIA_KEYS.findall(head))) > 1 else None
    if suffix == ".npz":  # a ZIP archive, and ours
        return None
    return next((Kind(None, title) for magic, title in _MAGIC if head.startswith(magic)), None)


def xml_kind(head: bytes) -> Kind:
    """The kind of an XML file by its root element, compared exactly: `restingecgdata` is not `RestingECG`."""
    root = root_element(head)
    if root in _ROOTS:
        return _ROOTS[root]
    if not root:
        return Kind(None, f"XML file whose root element does not stand within {len(head)} bytes")
    if root in _FOREIGN_ROOTS:
        return Kind(None, f"XML file with the root element <{root}> ({_FOREIGN_ROOTS[root]})")
    return Kind(None, f"XML file with the root element <{root[:40]}>")


def looks_like_xml(head: bytes) -> bool:
    """Whether the first thing behind a byte order mark and blanks is `<` and a name, `?` or `!`."""
    text = decoded(head[:400])[0].lstrip("\ufeff \t\r\n")
    return re.match(r"<[?!A-Za-z_]", text) is not None


def root_element(head: bytes) -> str:
    """The local name of the first element of an XML file, "" where it does not come in time.

    Declarations, comments, processing instructions and the DOCTYPE before it are skipped: a comment that mentions
    `<RestingECG>` makes no MUSE file.
    """
    text = decoded(head)[0]
    at = 0
    while (at := text.find("<", at)) >= 0:
        if text.startswith("<!--", at):
            at = _after(text, "-->", at + 4)
        elif text.startswith("<?", at):
            at = _after(text, "?>", at + 2)
        elif text.startswith("<!", at):
            at = _after_doctype(text, at + 2)
        else:
            match = re.compile(r"<(?:[\w.\-]+:)?([\w.\-]+)[\s/>]").match(text, at)
            return match.group(1) if match else ""
        if at < 0:
            return ""
    return ""


def _after(text: str, mark: str, at: int) -> int:
    found = text.find(mark, at)
    return -1 if found < 0 else found + len(mark)


def _after_doctype(text: str, at: int) -> int:
    """Behind the `>` that ends a DOCTYPE; quotes, comments and the internal subset may hold others."""
    depth = 0
    while at < len(text):
        sign = text[at]
        if sign in "\"'":
            at = _after(text, sign, at + 1)
            if at < 0:
                return -1
            continue
        if text.startswith("<!--", at):
            at = _after(text, "-->", at + 4)
            if at < 0:
                return -1
            continue
        if sign in "[<":
            depth += 1
        elif sign == "]" or (sign == ">" and depth):
            depth -= 1
        elif sign == ">":
            return at + 1
        at += 1
    return -1


def _is_dicom(head: bytes) -> bool:
    """`DICM` at byte 128, or a data set that begins at once with an element of group 0002 or 0008 (old exports)."""
    if head[128:132] == b"DICM":
        return True
    if len(head) < 16 or head[:2] not in (b"\x02\x00", b"\x08\x00", b"\x00\x08"):
        return False
    order = ">" if head[0] == 0 else "<"
    (element,) = struct.unpack(order + "H", head[2:4])
    if element > 0x0100:
        return False
    if head[4:6] in _VALUE_TYPES:
        return True
    (length,) = struct.unpack("<I", head[4:8])  # implicit value types are always little endian
    return order == "<" and element in (0x0000, 0x0001, 0x0005, 0x0008, 0x0012, 0x0016, 0x0018) and length <= 256


def _is_scp(head: bytes) -> bool:
    """`SCPECG` in the header of section 0; files of protocol 1.0 and 1.3 lack it, their first pointer tells."""
    if len(head) < 32 or head[8:10] != b"\0\0":
        return False
    if head[16:22] == b"SCPECG":
        return True
    (length,) = struct.unpack("<I", head[10:14])
    return head[22:24] == b"\0\0" and struct.unpack("<II", head[24:32]) == (length, 7)


def _is_edf(head: bytes) -> bool:
    if len(head) < 256 or head[:8].replace(b"\0", b" ").strip() != b"0":
        return False
    counts = (head[184:192].strip(b" \0"), head[252:256].strip(b" \0"))
    return any(text.isdigit() for text in counts) or head[168:176].count(b".") == 2


def _holds_annotations_only(head: bytes) -> bool:
    """Whether no signal of an EDF or BDF file is one: sleep laboratories keep what was scored in a file beside the ECG."""
    number = head[252:256].strip(b" \0")
    labels = head[256 : 256 + 16 * int(number)] if number.isdigit() else b""
    names = {labels[at : at + 16].strip(b" \0") for at in range(0, len(labels), 16)}
    return bool(names) and names <= {b"EDF Annotations", b"BDF Annotations"}


def is_wfdb_annotation(head: bytes) -> bool:
    """Whether a file may hold WFDB annotations, which some data bases of PhysioNet call `.ecg`: pairs of bytes whose
    upper six bits are codes up to 41, or one of the five that carry more bytes (59 to 63).
    """
    words = struct.unpack(f"<{len(head) // 2}H", head[: len(head) // 2 * 2])
    codes = [word >> 10 for word in words]
    return len(words) > 2 and sum(code <= 41 or code >= 59 for code in codes) == len(codes) and 0 < codes[0] <= 41
