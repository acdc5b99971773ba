"""The README works as it is written: its code and every command are run, its table is the registry's, its tests exist."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ecg_transformers as ecg
from ecg_transformers.data.loading import label_names
from ecg_transformers.models.tables import method_page, method_table

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
SHELL = [block for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) if "git clone" not in block]


def section(title: str, language: str) -> str:
    """The first block of a language in a section of the README."""
    found = re.search(rf"## {title}\n.*?```{language}\n(.*?)```", README, re.DOTALL)
    assert found, title
    return found[1]


def write_record(path: Path, signal: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".hea":
        import wfdb

        options = {"units": ["mV"] * 12, "sig_name": LEADS, "fmt": ["16"] * 12}
        wfdb.wrsamp(path.stem, fs=500, p_signal=signal, write_dir=str(path.parent), **options)
    elif path.suffix == ".npz":
        np.savez(path, signal=signal, sampling_rate=500, lead_names=LEADS)
    else:
        np.savetxt(path, signal, delimiter=",", header=",".join(LEADS), comments="", fmt="%.4f")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the records of the README's table."""
    table = re.search(r"a table `labels\.csv`:\n\n```\n(.*?)```", README, re.DOTALL)[1]
    place = tmp_path_factory.mktemp("a work place")
    (place / "my_records").mkdir()
    (place / "my_records" / "labels.csv").write_text(table, encoding="utf-8")
    generator = np.random.default_rng(0)
    for line in table.strip().splitlines()[1:]:
        write_record(place / "my_records" / line.split(",")[0], generator.standard_normal((5000, 12)) * 0.2)
    return place


def test_the_python_blocks_run(tmp_path):
    lines, steps = section("Ten lines that run", "python"), section("Preprocessing, exactly", "python")
    assert len([line for line in lines.splitlines() if line.strip()]) <= 11
    code = f"{lines}\nprint('====')\n{steps}"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr[-2000:]
    answers, _, printed = result.stdout.partition("====\n")
    assert answers.count("LABEL_") == 3
    names = [ast.literal_eval(line)["step"] for line in printed.splitlines()]
    assert names[:2] == ["select_leads", "to_millivolts"]


@pytest.mark.slow
def test_every_command_runs_as_it_stands(workplace):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "ECG_CACHE_DIR": str(workplace / "cache"), "OMP_NUM_THREADS": "1"}
    for block in SHELL:
        script = f"set -e\n{block}"
        result = subprocess.run(
            ["bash", "-c", script], cwd=workplace, env=environment, capture_output=True, text=True, timeout=500
        )
        assert result.returncode == 0, f"{block}\n{result.stdout[-1000:]}\n{result.stderr[-3000:]}"
    for name in ("a17.png", "predictions.csv", "tuned/metrics.json", "two/model.safetensors"):
        assert (workplace / name).is_file(), name


def test_the_table_of_own_records_loads_as_written(workplace):
    splits = ecg.load_ecg_dataset("folder", data_dir=workplace / "my_records", cache_dir=workplace / "own cache")
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 2, "validation": 2, "test": 2}
    assert set(label_names(splits["train"])) == {"AF", "PVC", "normal"}
    assert {row["sampling_rate"] for name in splits for row in splits[name]} == {500.0}


def test_the_table_of_methods_is_the_registry():
    table = re.search(r"<!-- methods: .*? -->\n(.*?)<!-- end of methods -->", README, re.DOTALL)[1]
    assert table.strip() == method_table()
    assert (ROOT / "docs" / "methods.md").read_text(encoding="utf-8").strip() == method_page().strip()


def test_the_ideas_are_short():
    rows = [line.split("|") for line in method_table().splitlines()[2:]]
    assert all(0 < len(row[3].split()) <= 8 for row in rows)


def test_every_figure_of_the_readme_stands_in_a_card():
    cards = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "model_cards").glob("*.md"))
    table = section_text("Which method, which numbers")
    figures = re.findall(r"\| (0\.\d{3}) ", table)
    assert len(figures) == 12
    assert all(figure in cards for figure in figures)


def section_text(title: str) -> str:
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_every_test_that_backs_a_promise_exists():
    named = re.findall(r"`(tests/[\w/.]*)(?:::(\w+))?`", README)
    assert len(named) >= 8
    for path, function in named:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert function, path
        assert f"def {function}(" in text, function
