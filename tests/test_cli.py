"""The command line: every command answers, wrong input is one sentence and exit code 2."""

import json
import sys

import numpy as np
import pytest

from ecg_transformers.models.registry import list_methods, method_table
from ecg_transformers.cli import build_parser, main

LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]


@pytest.fixture
def record(tmp_path):
    signal = np.random.default_rng(0).standard_normal((1000, 12)) * 0.2
    path = tmp_path / "ein EKG.npz"
    np.savez(path, signal=signal, sampling_rate=100, lead_names=LEADS)
    return str(path)


def test_every_command_has_help_with_defaults(capsys):
    for name in build_parser()._subparsers._group_actions[0].choices:
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
        assert name in capsys.readouterr().out


def test_methods_lists_the_registry(capsys):
    assert main(["methods"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in list_methods())
    assert main(["methods", "--markdown"]) == 0
    assert capsys.readouterr().out.strip() == method_table()


def test_datasets_prints_a_fact_sheet_a_line(capsys):
    assert main(["datasets"]) == 0
    sheets = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"synthetic", "folder", "ptb_xl"} <= {sheet["name"] for sheet in sheets}


def test_info_describes_a_record(record, capsys):
    assert main(["info", record]) == 0
    assert json.loads(capsys.readouterr().out)["sampling_rate"] == 100


def test_plot_writes_a_picture(record, tmp_path, capsys):
    assert main(["plot", record, "-o", str(tmp_path / "a picture.png")]) == 0
    assert (tmp_path / "a picture.png").read_bytes().startswith(b"\x89PNG")


def test_build_writes_shards(tmp_path, capsys):
    out = tmp_path / "shards"
    assert main(["build", "synthetic", "--output_dir", str(out), "--option", "num_records=6"]) == 0
    assert list(out.rglob("*.parquet"))


def test_doctor_names_the_versions(capsys):
    assert main(["doctor"]) == 0
    assert json.loads(capsys.readouterr().out)["torch"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "no such file.hea"],
        ["plot", "no such file.hea", "-o", "x.png"],
        ["convert", "st_men", "file.pth", "out"],
        ["convert", "st_mem", "no such file.pth", "out"],
        ["build", "ptb_x", "--output_dir", "out"],
        ["build", "ptb_xl", "--data_dir", "no such folder", "--output_dir", "out"],
        ["predict", "a.hea", "--model", "no such model folder"],
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert printed.startswith(f"ecg-transformers {arguments[0]}:")
    assert not list(tmp_path.iterdir())


def test_the_module_form_is_the_command(capsys, monkeypatch):
    import runpy

    monkeypatch.setattr(sys, "argv", ["ecg-transformers", "--version"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("ecg_transformers", run_name="__main__")
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip()
