"""Which attributes of a DICOM data set tell who somebody is: after the basic profile of PS3.15, table E.1-1.

Persons are known by their value representation (PN), wherever they stand; ids and places by their names. Attributes of
the profile that no free text repeats word by word (comments, histories, descriptions) are not handed out at all.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence
from typing import TYPE_CHECKING, Any

from ecg_transformers.data.readers.clinical.identity import add_text

if TYPE_CHECKING:
    from pydicom import Dataset

_MAX_DEPTH, _MAX_ELEMENTS = 8, 20_000
_WITHOUT_PERSONS = {"WaveformSequence", "WaveformAnnotationSequence"}
_IDS = {
    *("PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID", "AdmissionID", "ServiceEpisodeID"),
    *("MedicalRecordLocator", "InsurancePlanIdentification", "PatientTelephoneNumbers", "PersonTelephoneNumbers"),
    *("ReferringPhysicianTelephoneNumbers", "OrderCallbackPhoneNumber", "RequestedProcedureID"),
    *("ScheduledProcedureStepID", "PerformedProcedureStepID", "PlacerOrderNumberImagingServiceRequest"),
    *("FillerOrderNumberImagingServiceRequest", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"),
    *("SpecimenAccessionNumber", "DeviceSerialNumber", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
}
_PLACES = {
    *("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "PatientAddress", "PersonAddress"),
    *("ReferringPhysicianAddress", "RegionOfResidence", "CountryOfResidence", "CurrentPatientLocation"),
    *("PatientInstitutionResidence", "ScheduledPatientInstitutionResidence", "StationName", "PerformedStationName"),
    *("ScheduledStationName", "PerformedLocation", "ScheduledProcedureStepLocation", "RequestedProcedureLocation"),
    *("RequestingService", "IssuerOfPatientID", "OrderEntererLocation", "ClinicalTrialSiteName"),
}
_OWN = {"PatientName", "PatientID"}
"""What the reader takes by itself, of the patient at the top of the data set."""


def others_of(data: Dataset) -> dict[str, str]:
    """Names of persons and further ids by the attribute they stand in; a second value of one is `NAME 2`."""
    found: dict[str, str] = {}
    for keyword, is_name, text, depth in _texts_of(data):
        if (is_name or keyword in _IDS) and not (keyword in _OWN and depth == 0):
            add_text(found, keyword, text)
    return found


def places_of(data: Dataset) -> dict[str, str]:
    """Hospitals, departments, addresses by the attribute they stand in."""
    found: dict[str, str] = {}
    for keyword, _, text, _ in _texts_of(data):
        if keyword in _PLACES:
            add_text(found, keyword, text)
    return found


def _texts_of(data: Any) -> Iterator[tuple[str, bool, str, int]]:
    """Keyword, whether it is a person's name, text and depth of the elements of a data set, with their sequences."""
    waiting = [(data, 0, False)]
    for _ in range(_MAX_ELEMENTS):
        if not waiting:
            return
        items, depth, identifies = waiting.pop()
        for tag in list(items.keys())[:_MAX_ELEMENTS]:
            keyword, kind, value = _element(items, tag)
            if kind == "SQ":
                if depth < _MAX_DEPTH and keyword not in _WITHOUT_PERSONS:
                    waiting += [(item, depth + 1, "Identification" in keyword or identifies) for item in value or ()]
            elif value is not None and not isinstance(value, bytes):
                is_name = kind == "PN" or (identifies and keyword in ("CodeMeaning", "CodeValue"))
                for text in value if isinstance(value, MutableSequence) else [value]:
                    yield keyword, is_name, str(text), depth


def _element(items: Any, tag: Any) -> tuple[str, str, Any]:
    try:
        element = items[tag]
        return element.keyword, element.VR, element.value
    except Exception:  # pydicom converts a value when it is first asked for: a damaged one names nobody
        return "", "", None
