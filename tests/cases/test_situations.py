"""The situations that are not about hospital formats: readers, tables, units, precision, checkpoints, resuming."""

import os

import pytest

CASES = [
    "array-orientation",
    "auroc-rare-classes",
    "checkpoint-round-trip",
    "cinc2015-mat",
    "class-without-training-records",
    "csv-columns",
    "csv-decimal-comma",
    "dataset-cache",
    "edf-eeg-electrodes",
    "edf-mu",
    "foreign-formats",
    "fp16-on-cpu",
    "half-precision",
    "hub-without-import",
    "r-peaks",
    "table-patient-column",
    "truncated-files",
    "unit-suspicion",
    "wfdb-folder-in-header",
    "wfdb-formats",
    "wfdb-frames-checksum",
    "wfdb-odd-dates",
    "wfdb-same-lead-names",
    "wfdb-segment-new-lead",
    "wfdb-segments-in-folder",
    "wfdb-signal-file-name",
]
# six training runs one after the other, which `tests/training/test_pretraining.py` stops and resumes in its own process
LONG = pytest.param(
    "resume-mid-epoch", marks=pytest.mark.skipif("ECG_SOAK" not in os.environ, reason="minutes: part of `make soak`")
)


@pytest.mark.parametrize("name", [*CASES, LONG])
def test_what_went_wrong_for_others_goes_right_here(name, run_case):
    run_case(name)
