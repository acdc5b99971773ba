"""MIMIC-IV-ECG: lead order, missing samples, sentinels, reports, size of the plan (specification: corpora, 12)."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ecg_transformers.data.building.plan import plan_of
from ecg_transformers.data.corpora import make_corpus
from ecg_transformers.data.corpora.mimic_iv_ecg.reports import joined_report, label_bits, measured
from ecg_transformers.data.corpora.shared.packaged import packaged_table
from ecg_transformers.data.errors import DuplicateRecordError, ECGDataError
from ecg_transformers.data.folds import Folds
from ecg_transformers.data.loading import build_report, load_ecg_dataset

LEADS = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]
NUMBERS = ["rr_interval", "p_onset", "p_end", "qrs_onset", "qrs_end", "t_end", "p_axis", "qrs_axis", "t_axis"]


def labels(*report):
    bits = label_bits(joined_report({f"report_{k}": line for k, line in enumerate(report)}))
    return {row["label"] for position, row in enumerate(packaged_table("mimic_report_rules")) if bits >> position & 1}


def measurement_row(subject, study, report, **numbers):
    row = {"subject_id": subject, "study_id": study, "cart_id": 1, "ecg_time": "2180-05-01 08:00:00"}
    row |= {f"report_{k}": report.get(k, "") for k in range(18)}
    row |= {"bandwidth": "0.005-150 Hz", "filtering": '60 Hz notch, "Baseline" filter'}
    return {**row, **dict.fromkeys(NUMBERS, 40), **numbers}


def write_corpus(root, layouts, records, demo=False):
    """records: (subject, study, samples)."""
    rows = []
    for subject, study, samples in records:
        level = "" if demo else f"p{str(subject)[:4]}/"
        path = f"files/{level}p{subject}/s{study}/{study}"
        comments = f"# {subject}: 2180\n"
        layouts.write_wfdb16(root / path, samples, gain="200.0(0)/mV", leads=LEADS, comments=comments)
        rows.append(
            {
                "subject_id": subject,
                "study_id": study,
                "file_name": study,
                "ecg_time": "2180-05-01 08:00:00",
                "path": path,
            }
        )
    layouts.write_table(root / "record_list.csv", rows)
    return rows


@pytest.fixture(scope="module")
def mimic(tmp_path_factory, layouts):
    """Five records of three subjects; the table of measurements in another order."""
    root = tmp_path_factory.mktemp("mimic") / "physionet.org" / "files"
    records = [
        (subject, study, layouts.microvolts(study % 100, 500))
        for subject, study in ((10000099, 40000123), (10000099, 40000124), (10000100, 40000125), (10000101, 40000126))
    ]
    records[2][2][5, 1] = -32768
    records[3][2][:, 11] = 0
    write_corpus(root, layouts, records)
    warning = "--- Warning: Data quality may affect interpretation ---"
    unmeasured = {"p_onset": 29999, "p_axis": 32767, "t_axis": -32768}
    infarct = {0: "Incomplete RBBB", 5: "Probable inferior infarct, age old"}
    layouts.write_table(
        root / "machine_measurements.csv",
        [
            measurement_row(10000100, 40000125, {0: warning, 1: "ATRIAL FIBRILLATION."}),
            measurement_row(10000099, 40000123, {0: "Sinus rhythm", 2: "Normal ECG"}, **unmeasured),
            measurement_row(10000101, 40000126, infarct, rr_interval=65535),
            measurement_row(10000099, 40000124, {}),
        ],
    )
    return root.parents[1]


def test_the_fifth_lead_is_avf(mimic, rows_of, signal_of, layouts):
    row = rows_of("mimic_iv_ecg", mimic)["40000123"]
    assert row["lead_names"] == LEADS
    np.testing.assert_allclose(signal_of(row)[:, 4], layouts.microvolts(23, 500)[:, 4] / 200, rtol=1e-6)


def test_the_extractor_brings_the_leads_into_the_usual_order(mimic, rows_of, layouts):
    from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor

    row = rows_of("mimic_iv_ecg", mimic)["40000123"]
    extractor = ECGFeatureExtractor(sampling_rate=500, seq_len=500, lead_names=layouts.LEADS)
    values = extractor(row)["input_values"][0]
    swapped = extractor({**row, "lead_names": layouts.LEADS})["input_values"][0]
    np.testing.assert_allclose(values[4], swapped[5], atol=1e-5)
    np.testing.assert_allclose(values[5], swapped[4], atol=1e-5)


def test_missing_samples_and_dead_leads_are_kept_and_flagged(mimic, rows_of, signal_of):
    assert np.isnan(signal_of(rows_of("mimic_iv_ecg", mimic)["40000125"])[5, 1])
    report = build_report("mimic_iv_ecg", mimic)
    assert report.flags == {"missing_samples": 1, "flat_lead": 1}
    assert report.skipped == []


def test_numbers_that_could_not_be_measured_are_missing(mimic, rows_of):
    rows = rows_of("mimic_iv_ecg", mimic)
    facts = json.loads(rows["40000123"]["metadata"])["measurements"]
    assert (facts["p_onset"], facts["p_axis"], facts["t_axis"], facts["qrs_axis"]) == (None, None, None, 40)
    assert json.loads(rows["40000126"]["metadata"])["measurements"]["rr_interval"] is None
    assert [measured(text) for text in ("29999", "32767.0", "-32768", "65535", "", "12.5")] == [None] * 5 + [12.5]


def test_reports_are_joined_over_blank_lines_and_by_study(mimic, rows_of):
    rows = rows_of("mimic_iv_ecg", mimic)
    assert rows["40000123"]["labels"] == ["Normal ECG", "Sinus rhythm"]
    assert json.loads(rows["40000123"]["metadata"])["report"] == ["Sinus rhythm", "Normal ECG"]
    assert rows["40000125"]["labels"] == ["Atrial fibrillation", "Poor data quality"]
    assert rows["40000126"]["labels"] == ["Infarction"]
    assert rows["40000124"]["labels"] == []


def test_records_without_a_report_are_told(tmp_path, layouts):
    """A table that was cut at the end of a line looks whole."""
    write_corpus(tmp_path, layouts, [(10000099, 40000123 + k, layouts.microvolts(k, 500)) for k in range(3)])
    rows = [measurement_row(10000099, 40000123 + k, {0: "Sinus rhythm"}) for k in range(3)]
    for kept in (3, 2):
        layouts.write_table(tmp_path / "machine_measurements.csv", rows[:kept])
        said = [text for text in make_corpus("mimic_iv_ecg", tmp_path).plan().warnings if "no row" in text]
        assert len(said) == 3 - kept
    assert said[0].startswith("1 of 3 records have no row in machine_measurements.csv")


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (["Sinus rhythm."], {"Sinus rhythm"}),
        (["***NORMAL ECG***"], {"Normal ECG"}),
        (["Abnormal ECG"], set()),
        (["Right bundle branch block"], {"Right bundle branch block"}),
        (["Incomplete right bundle branch block"], set()),
        (["Supraventricular tachycardia"], {"Tachycardia"}),
        (["Ventricular tachycardia"], {"Tachycardia", "Ventricular tachycardia"}),
        (["Early repolarization", "ST elevation"], set()),
        (["PVC(s)"], {"Premature ventricular contraction"}),
    ],
)
def test_rules_on_reports(report, expected):
    assert labels(*report) == expected


def test_subjects_stay_in_one_fold(mimic, rows_of):
    for seed in range(3):
        rows = rows_of("mimic_iv_ecg", mimic, seed=seed)
        assert rows["40000123"]["fold"] == rows["40000124"]["fold"]
    assert rows["40000123"]["patient_id"] == "10000099"


def test_folds_go_by_the_paths_of_the_list(mimic, tmp_path):
    """The folder that is given may lie above the one whose paths the table has."""
    listed = next(mimic.rglob("record_list.csv")).read_text().splitlines()[1:]
    paths = [line.rsplit(",", 1)[1] for line in listed]
    rows = [f"{path},{int('p10000099' in path)}\n" for path in paths]
    (tmp_path / "folds.csv").write_text("".join(["path,fold\n", *rows]))
    plan = plan_of(make_corpus("mimic_iv_ecg", mimic), Folds(tmp_path / "folds.csv"))
    assert {part: len(items) for part, items in plan.splits.items()} == {"train": 2, "validation": 0, "test": 2}


def test_the_demo_lacks_a_level_and_the_reports(tmp_path, layouts, rows_of):
    write_corpus(tmp_path, layouts, [(10000032, 107143276, layouts.microvolts(1, 500))], demo=True)
    row = rows_of("mimic_iv_ecg", tmp_path)["107143276"]
    assert (row["patient_id"], row["task_kind"]) == ("10000032", "unlabelled")
    assert any("no labels" in note for note in build_report("mimic_iv_ecg", tmp_path).notes)


def test_age_and_sex_come_from_the_patients_of_mimic_iv(tmp_path, layouts, rows_of):
    write_corpus(tmp_path, layouts, [(10000032, 40000001, layouts.microvolts(1, 500))])
    layouts.write_table(tmp_path / "patients.csv", [{"patient": "of another corpus"}])
    assert json.loads(rows_of("mimic_iv_ecg", tmp_path)["40000001"]["metadata"]).get("age") is None
    layouts.write_table(
        tmp_path / "hosp" / "patients.csv",
        [{"subject_id": 10000032, "gender": "F", "anchor_age": 50, "anchor_year": 2175}],
    )
    facts = json.loads(rows_of("mimic_iv_ecg", tmp_path)["40000001"]["metadata"])
    assert (facts["age"], facts["sex"]) == (55, "female")


def test_a_partial_copy_is_counted_and_a_lost_record_named(tmp_path, layouts):
    records = [
        (subject, 40000000 + k, layouts.microvolts(k, 500)) for k, subject in enumerate((10000032, 10000033, 10000034))
    ]
    rows = write_corpus(tmp_path, layouts, records)
    for kept in (3, 2):
        layouts.write_table(tmp_path / "record_list.csv", rows[:kept])
        said = [text for text in make_corpus("mimic_iv_ecg", tmp_path).plan().warnings if "named by no row" in text]
        assert len(said) == 3 - kept
    layouts.write_table(tmp_path / "record_list.csv", rows)
    shutil.rmtree(tmp_path / "files" / "p1000" / "p10000033")
    report = build_report("mimic_iv_ecg", tmp_path)
    assert report.excluded == {"records of record_list.csv whose folder is not here": 1}
    (tmp_path / "files" / "p1000" / "p10000034" / "s40000002" / "40000002.dat").unlink()
    with pytest.raises(ECGDataError, match=r"40000002\.dat"):
        load_ecg_dataset("mimic_iv_ecg", tmp_path)


def test_a_study_that_is_listed_twice_is_refused(tmp_path, layouts):
    rows = write_corpus(tmp_path, layouts, [(10000032, 40000001, layouts.microvolts(1, 500))])
    layouts.write_table(tmp_path / "record_list.csv", rows * 2)
    with pytest.raises(DuplicateRecordError, match="40000001"):
        load_ecg_dataset("mimic_iv_ecg", tmp_path)


def test_a_path_that_leaves_the_folder_is_not_read(tmp_path, layouts):
    layouts.write_wfdb16(tmp_path / "secret", layouts.microvolts(1, 500), leads=LEADS)
    inside = tmp_path / "mimic"
    rows = write_corpus(inside, layouts, [(10000032, 40000001, layouts.microvolts(1, 500))])
    layouts.write_table(inside / "record_list.csv", [rows[0], {**rows[0], "study_id": 2, "path": "../secret"}])
    report = build_report("mimic_iv_ecg", inside, max_skipped=0.5)
    assert [(entry["record"], entry["kind"]) for entry in report.skipped] == [("2", "UnsafePathError")]


def test_a_plan_of_many_records_stays_small(tmp_path, layouts):
    """An item of a plan takes about a kilobyte: forty thousand would show in the peak of the process."""
    samples = layouts.microvolts(1, 20)
    rows = write_corpus(tmp_path, layouts, [(10000032, 40000000, samples)])
    studies = range(41000000, 41040000)
    many = [{**rows[0], "study_id": study, "path": f"files/p1000/p10000032/s{study}/{study}"} for study in studies]
    layouts.write_table(tmp_path / "record_list.csv", many)
    script = (
        "import resource, sys\nfrom ecg_transformers.data.corpora import make_corpus\n"
        "from ecg_transformers.data.corpora.shared.packaged import packaged_table\npackaged_table('mimic_report_rules')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "plan = make_corpus('mimic_iv_ecg', sys.argv[1]).plan()\n"
        "print(plan.num_items, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    result = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stderr[-1000:]
    number, kilobytes = map(int, result.stdout.split())
    assert number == 40000
    assert kilobytes < 40_000


@pytest.mark.parametrize(
    "layout", ["no folder files", "another folder", "list elsewhere", "flat", "flat without a list"]
)
def test_records_are_found_whatever_the_folders_are_called(mimic, tmp_path, layout, rows_of):
    source = next(mimic.rglob("record_list.csv")).parent
    shutil.copytree(source, tmp_path / "a")
    tables, files = tmp_path / "a", tmp_path / "a" / "files"
    if layout == "no folder files":
        for folder in files.iterdir():
            folder.rename(tables / folder.name)
    elif layout in ("another folder", "list elsewhere"):
        files.rename(tables / "waveforms")
        if layout == "list elsewhere":
            (tmp_path / "tables").mkdir()
            for path in tables.glob("*.csv"):
                path.rename(tmp_path / "tables" / path.name)
    else:
        for path in [*files.rglob("*.hea"), *files.rglob("*.dat")]:
            path.rename(tables / path.name)
        shutil.rmtree(files)
        if layout == "flat without a list":
            (tables / "record_list.csv").unlink()
    found, expected = rows_of("mimic_iv_ecg", tmp_path, seed=3), rows_of("mimic_iv_ecg", mimic, seed=3)
    for name, row in expected.items():
        assert [found[name][key] for key in ("signal", "labels", "patient_id")] == [
            row[key] for key in ("signal", "labels", "patient_id")
        ]
