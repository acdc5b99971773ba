"""Which reader a file belongs to: by its content where that tells, by its suffix for plain arrays and WFDB.

A suffix of a hospital format promises nothing; what is not what it is called is named in one sentence.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ecg_transformers.data.errors import ECGDataError, MissingDependencyError, UnsupportedFormatError
from ecg_transformers.data.readers.aecg import read_aecg
from ecg_transformers.data.readers.arrays import Hints
from ecg_transformers.data.readers.clinical.kinds import EMPTY, HDF5, HEAD_BYTES, Kind, is_wfdb_annotation, recognise
from ecg_transformers.data.readers.clinical.record import Sheet, names_without_identity
from ecg_transformers.data.readers.dicom import read_dicom
from ecg_transformers.data.readers.edf import read_bdf, read_edf
from ecg_transformers.data.readers.ishne import read_ishne
from ecg_transformers.data.readers.limits import Limits
from ecg_transformers.data.readers.muse import read_muse
from ecg_transformers.data.readers.philips import read_philips
from ecg_transformers.data.readers.scp import read_scp
from ecg_transformers.data.record import DigitalRecord, ECGRecord

Reader = Callable[[Path, Hints, Limits], "DigitalRecord | ECGRecord"]

_READERS: dict[str, Callable[[Path, Hints, Limits, Sheet], DigitalRecord | ECGRecord]] = {
    "dicom": read_dicom,
    "aecg": read_aecg,
    "philips": read_philips,
    "muse": read_muse,
    "scp": read_scp,
    "ishne": read_ishne,
    "bdf": read_bdf,
    "edf": read_edf,
}
TITLES = {
    "dicom": "DICOM waveform: 12-lead, general, ambulatory",
    "aecg": "HL7 annotated ECG (XML)",
    "philips": "Philips PageWriter / Sierra XML, 1.03 to 1.04.02",
    "muse": "GE MUSE XML",
    "scp": "SCP-ECG",
    "ishne": "ISHNE Holter, with the .ann beside it",
    "edf": "European Data Format, EDF+C and EDF+D",
    "bdf": "BioSemi Data Format, 24 bits",
}
_NAMES = {
    "dicom": "DICOM",
    "aecg": "HL7 aECG",
    "philips": "Philips XML",
    "muse": "GE MUSE XML",
    "scp": "SCP-ECG",
    "ishne": "ISHNE",
    "edf": "EDF",
    "bdf": "BDF",
}
PARTIAL = frozenset({"dicom", "ishne", "bdf", "edf"})
"""Formats whose readers take `start` and `stop` themselves, in bounded memory."""

_SAID_BY_SUFFIX = {
    ".dcm": "DICOM file",
    ".dicom": "DICOM file",
    ".xml": "XML file",
    ".aecg": "HL7 aECG file",
    ".scp": "SCP-ECG file",
    ".ecg": "ISHNE or SCP-ECG file",
    ".bdf": "BDF file",
    ".edf": "EDF file",
    ".ann": "ISHNE annotation file",
}
_HEADER_BYTES = 2**16
_OWN_SUFFIXES = (".hea", ".npy", ".npz", ".mat")


def clinical_reader(key: str) -> Reader | None:
    """The reader of a key of `TITLES`, whose errors name the format beside the file; None for another key."""
    if key not in _READERS:
        return None

    def read(path: Path, hints: Hints, limits: Limits) -> DigitalRecord | ECGRecord:
        sheet = Sheet()
        try:
            return _READERS[key](path, hints, limits, sheet)
        except ECGDataError as error:
            raise final_error(error, key, sheet, hints) from None

    return read


def final_error(error: ECGDataError, key: str, sheet: Sheet, hints: Hints) -> ECGDataError:
    """The same error with the name of the format, and without the people whom the reader put into its `sheet`.

    Sentences quote what a file has in its fields, often its beginning. The error is a new one without those that led to
    it, since these quote as well.
    """
    reason, lead = error.reason, error.lead
    if not hints.keep_identity:
        reason = sheet.patient.hide_in(reason, may_be_cut=True)
        lead = None if lead is None else names_without_identity([lead], sheet.patient, False)[0]
    name = _NAMES[key]
    if not (name.lower() in reason.lower() or isinstance(error, MissingDependencyError)):  # which says it, too
        reason = f"{name}: {reason}"
    return type(error)(reason, path=error.path, record=error.record, lead=lead)


def clinical_kind(path: Path, root: str | os.PathLike | None = None, *, follow_links: bool = False) -> Kind | None:
    """The kind of a file by its content, whatever it is called; None where that says nothing.

    Signals that the WFDB header beside them names are not looked at, and an HDF5 or empty file of a usual suffix is left to
    its reader, who knows more of it.

    Raises:
        ECGDataError: no regular file, or one that leaves its folder.
    """
    suffix = path.suffix.lower()
    if not path.is_file() or (suffix in (".dat", ".mat") and _is_named_by_header(path)):
        return None
    kind = recognise(path, root, follow_links=follow_links)
    return None if suffix in _OWN_SUFFIXES and kind in (EMPTY, HDF5) else kind


def _is_named_by_header(path: Path) -> bool:
    """Whether the header of its name says that a file holds its signals; what is called `.hea` may be none."""
    try:
        with path.with_suffix(".hea").open("rb") as stream:
            return os.fsencode(path.name) in stream.read(_HEADER_BYTES)
    except OSError:
        return False


def refuse(path: Path, kind: Kind | None) -> None:
    """Raise for a file whose content is known but not read, or is not what its suffix says.

    Raises:
        UnsupportedFormatError: with the kind that it is.
    """
    said = _SAID_BY_SUFFIX.get(path.suffix.lower())
    if kind is not None and kind.key is None:
        is_other = said and said != "XML file" and not kind.title.startswith(said)
        instead = f", not the {said} that its suffix says" if is_other else ""
        raise UnsupportedFormatError(f"this is an unreadable kind of file: {kind.title}{instead}.", path=path)
    if said is None or kind is not None:
        return
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if path.suffix.lower() == ".ecg" and is_wfdb_annotation(head):
        raise UnsupportedFormatError(
            "this is no ISHNE or SCP-ECG file, but looks like WFDB beat annotations, which some data bases of PhysioNet "
            "call .ecg; the ECG lies in the record of that name (.hea, .dat).",
            path=path,
        )
    raise UnsupportedFormatError(f"this is no {said}, although its suffix says so.", path=path)
