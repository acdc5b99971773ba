"""The situations of hospital formats: DICOM, aECG, Philips, MUSE, SCP-ECG, ISHNE, BDF, hostile and misnamed files."""

import pytest

pytest.importorskip("pydicom", reason="hospital formats need the extra [clinical]")
pytest.importorskip("defusedxml", reason="hospital formats need the extra [clinical]")

CASES = [
    "clinical-aecg",
    "clinical-bdf",
    "clinical-dicom-12lead",
    "clinical-dicom-ambulatory",
    "clinical-hostile",
    "clinical-ishne",
    "clinical-muse-xml",
    "clinical-philips-103",
    "clinical-philips-xli",
    "clinical-public-twins",
    "clinical-scp-reference-beat",
    "clinical-wrong-extension",
]


@pytest.mark.parametrize("name", CASES)
def test_hospital_files_are_read_right_or_refused_in_a_sentence(name, run_case):
    run_case(name)
