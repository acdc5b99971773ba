"""`ecg.check`: every fault of a folder is told at once, by kind, without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ecg_transformers as ecg
from ecg_transformers.cli import main
from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.signal.synthesis import synthesize_ecg


def record(seed: int = 0, seconds: float = 12.0):
    made = synthesize_ecg(0, seed, sampling_rate=250, duration=seconds)
    return made.signal.copy(), list(made.lead_names)


def save(path: Path, signal: np.ndarray, leads: list[str], rate: float = 250, **more: object) -> None:
    np.savez(path, signal=signal, sampling_rate=rate, lead_names=leads, **more)


def found(report, severity: str) -> set[str]:
    return {problem.kind for problem in report.problems if problem.severity == severity}


def test_a_sound_record_has_no_problem(tmp_path):
    save(tmp_path / "r.npz", *record())
    report = ecg.check(tmp_path / "r.npz", method="st_mem")
    assert report.ok
    assert not report.problems
    assert report.records == 1


@pytest.mark.parametrize(("word", "meant"), [("metod", "method"), ("recepie", "recipe"), ("data_dri", "data_dir")])
def test_a_misspelt_argument_is_told_with_the_nearest_one(tmp_path, word, meant):
    for place in (tmp_path, "synthetic"):
        with pytest.raises(ECGDataError, match=f"no argument '{word}'; did you mean '{meant}'"):
            ecg.check(place, **{word: "st_mem"})


def with_gap(signal, leads):
    signal[100:400, 3] = np.nan
    return signal, leads


def dead(signal, leads):
    signal[:, 4] = 0
    return signal, leads


def off_after_four_seconds(signal, leads):
    signal[1000:, 6] = signal[1000, 6]
    return signal, leads


def in_microvolts(signal, leads):
    return signal * 1000, leads


def swapped(signal, leads):
    return signal[:, [1, 0, *range(2, 12)]], leads


@pytest.mark.parametrize(
    ("change", "severity", "kind"),
    [
        (with_gap, "error", "gaps"),
        (dead, "note", "flat or dead leads"),
        (off_after_four_seconds, "note", "flat or dead leads"),
        (in_microvolts, "note", "wrong scale"),
        (swapped, "note", "misplaced leads"),
        (lambda signal, leads: (signal * 0, leads), "error", "flat or dead leads"),
        (lambda signal, leads: (signal[:, :2], leads[:2]), "error", "missing leads"),
        (lambda signal, leads: (signal[:500], leads), "error", "too short"),
    ],
)
def test_each_fault_of_a_record_is_named(tmp_path, change, severity, kind):
    save(tmp_path / "r.npz", *change(*record()))
    needs = "st_mem" if kind != "missing leads" else "ecg_jepa"
    report = ecg.check(tmp_path / "r.npz", method=needs)
    assert kind in found(report, severity), str(report)
    assert report.ok == (severity == "note")
    assert all(problem.file == str(tmp_path / "r.npz") for problem in report.problems)


def test_a_lead_without_any_value_is_an_error_where_the_method_reads_it(tmp_path):
    signal, leads = record()
    signal[:, 4] = np.nan
    save(tmp_path / "r.npz", signal, leads)
    assert found(ecg.check(tmp_path / "r.npz", method="st_mem"), "error") == {"flat or dead leads"}
    for method in (None, "ecg_sl", "ecg_net1d"):  # no method, one that reads lead II alone, one that takes zeros for it
        report = ecg.check(tmp_path / "r.npz", method=method)
        assert report.ok
        assert "flat or dead leads" in found(report, "note")


def test_a_recipe_of_short_crops_takes_what_the_published_one_does_not(tmp_path):
    save(tmp_path / "r.npz", *record(seconds=5))
    assert "too short" in found(ecg.check(tmp_path / "r.npz", method="st_mem"), "error")
    assert ecg.check(tmp_path / "r.npz", method="st_mem", recipe="tiny").ok
    with pytest.raises(ValueError, match="name the method"):
        ecg.check(tmp_path / "r.npz", recipe="tiny")


def test_a_file_without_content_is_unreadable_and_not_a_missing_label(tmp_path):
    (tmp_path / "r.csv").write_text("")
    assert found(ecg.check(tmp_path / "r.csv"), "error") == {"unreadable"}


def test_what_depends_on_a_method_is_a_note_without_one(tmp_path):
    signal, leads = record(seconds=2)
    save(tmp_path / "r.npz", signal[:, :2], leads[:2])
    report = ecg.check(tmp_path / "r.npz")
    assert report.ok
    assert {"too short", "missing leads"} <= found(report, "note")


def test_an_odd_rate_is_a_note(tmp_path):
    save(tmp_path / "r.npz", *record(), rate=25)
    assert "odd rate" in found(ecg.check(tmp_path / "r.npz"), "note")


def test_a_rate_that_no_other_record_of_the_same_length_has_is_a_note(tmp_path):
    signal, leads = record()
    for number in range(5):
        np.savez(tmp_path / f"r{number}.npz", signal=signal + number, lead_names=leads)
    rates = "".join(f"r{number}.npz,{25 if number == 3 else 250},AF\n" for number in range(5))
    (tmp_path / "labels.csv").write_text("file,sampling_rate,labels\n" + rates)
    odd = [problem for problem in ecg.check(tmp_path).problems if problem.kind == "odd rate"]
    assert {Path(problem.file).name for problem in odd} == {"r3.npz"}
    assert "at 25 Hz are 120 s, but 4 records" in odd[-1].sentence


@pytest.fixture
def folder(tmp_path):
    """A folder with a table: a copy, a broken file, and few records of each class."""
    place = tmp_path / "my records"
    place.mkdir()
    for index in range(6):
        save(place / f"r{index}.npz", *record(0 if index == 5 else index))
    (place / "broken.npz").write_bytes(b"no archive")
    rows = [
        (f"r{index}.npz", "AF" if index % 2 else "N", f"p{index}", "train" if index else "test") for index in range(6)
    ]
    rows.append(("broken.npz", "AF", "q", "train"))
    pd.DataFrame(rows, columns=["file", "label", "patient_id", "split"]).to_csv(place / "labels.csv", index=False)
    return place


def test_what_only_all_records_together_show_is_told(folder):
    report = ecg.check(folder)
    assert not report.ok
    assert {"twice", "class with few records"} <= found(report, "note")
    assert any("broken.npz" in str(problem.file) for problem in report.problems if problem.severity == "error")
    text = str(report)
    assert all(problem.sentence in text for problem in report.problems if problem.severity == "error")


def test_a_patient_in_two_splits_is_an_error_and_the_records_are_looked_at_all_the_same(folder):
    table = pd.read_csv(folder / "labels.csv")
    pd.DataFrame(table.assign(patient_id="same")).to_csv(folder / "labels.csv", index=False)
    report = ecg.check(folder)
    assert "patient in two splits" in found(report, "error"), str(report)
    assert any("broken.npz" in str(problem.file) for problem in report.problems)


def test_the_command_exits_with_1_when_an_error_was_found(folder, tmp_path, capsys):
    assert main(["check", str(folder)]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"severity", "kind", "file", "record_id", "lead", "sentence"} == set(rows[0])
    save(tmp_path / "sound.npz", *record())
    assert main(["check", str(tmp_path / "sound.npz"), "--method", "st_mem"]) == 0
    assert main(["check", str(tmp_path / "nowhere")]) == 2


def test_a_name_that_is_nothing_is_an_error():
    with pytest.raises(ECGDataError, match="no file, folder or corpus"):
        ecg.check("no such thing")


def test_checking_loads_neither_torch_nor_transformers(tmp_path):
    save(tmp_path / "r.npz", *record())
    script = (
        "import sys\nimport ecg_transformers as ecg\n"
        f"print(ecg.check({str(tmp_path / 'r.npz')!r}, method='st_mem').ok, {{'torch', 'transformers'}} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert result.stdout.strip() == "True set()", result.stderr[-1000:]


@pytest.mark.parametrize("flags", [[], ["gaps"]])
def test_a_discontinuous_recording_is_to_be_read_in_its_parts(flags, tmp_path):
    """Where its gaps are no value, `check` and the extractor say which way out there is; of other gaps there is none."""
    signal, leads = with_gap(*record())
    discontinuous = ecg.ECGRecord(signal, 250, leads, "r", metadata={"flags": flags})
    with pytest.raises(ValueError, match="300 NaN samples") as caught:
        ecg.ECGFeatureExtractor()(discontinuous)
    assert ("--gaps split" in str(caught.value)) == bool(flags)
    save(tmp_path / "r.npz", signal, leads)
    facts = {"identity_hidden": True, "sampling_rate": 250, "lead_names": leads, "units": "mV", "flags": flags}
    (tmp_path / "r.npz.json").write_text(json.dumps(facts))
    assert ("--gaps split" in str(ecg.check(tmp_path / "r.npz"))) == bool(flags)
