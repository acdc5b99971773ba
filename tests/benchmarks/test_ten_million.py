"""The page on ten million records is what its command prints; measured and assumed figures stand apart."""

import importlib
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "ten_million_records.md").read_text(encoding="utf-8")


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("ten_million")
    for name in ("ten_million", "bench_data", "run", "timing"):
        sys.modules.pop(name, None)


def found(bench, **changes):
    figures = {"read": 2000.0, "read_wfdb": 50.0, "build": 500.0, "rows": 10_000.0, "exact": 200.0, "fast": 400.0}
    figures |= {"stored_bytes": 120_000.0, "step_flops": 64e9, "parameters": 88_500_000}
    return bench.Measured(**{**figures, **changes})


def words(text):
    """A page without its figures, their units, and the widths of the columns."""
    text = re.sub(r"(?m)^One CPU thread.*$", "", text)
    return re.sub(r"[-| ]+", " ", re.sub(r"\d[\d.,]*( (s|min|h|days)\b)?", "#", text)).split()


def test_the_page_is_what_its_command_prints(bench):
    assert words(bench.text(found(bench), page=True)) == words(PAGE)


def test_measured_and_assumed_figures_share_no_table(bench):
    measured, extrapolated, assumed, calculated = (rows for _, rows in bench.tables(found(bench)))
    changed = found(bench, read=1.0, build=1.0, exact=1.0, stored_bytes=1.0, step_flops=1e12)
    again = [rows for _, rows in bench.tables(changed)]
    assert assumed == again[2]
    assert all(one != other for one, other in zip((measured, extrapolated, calculated), (again[0], again[1], again[3])))
    titles = [title for title, _ in bench.tables(found(bench))]
    assert [title.split()[0].strip(":,") for title in titles] == ["Measured", "Extrapolated", "Assumed", "Calculated"]


def test_extrapolations_are_the_measured_figures_times_the_number(bench):
    costs = dict(bench.extrapolated_table(found(bench)))
    assert costs["storage"] == "1.20 TB"
    assert costs["build"] == "5.6 core-hours"  # 10,000,000 / 500 / 3600
    gpus = {row[0]: row[1:] for row in bench.gpu_table(found(bench))}
    assert gpus["records/s"] == ("6,200", "400,000")  # 400 TFLOP/s over 64 GFLOP
    assert gpus["cores for the exact filters"] == ("32", "2,000")
