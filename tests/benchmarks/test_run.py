"""The bench runner: every row in one table with its verdict, an exit code, and files. No time is asserted here."""

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
ROWS = [
    {"name": "reached", "forms": {"ours": 1.0, "plain": 2.0}, "ratio": 2.0, "goal": 1.5},
    {"name": "nearly", "forms": "ours / plain", "ratio": 0.91, "goal": 1.0},
    {"name": "for information", "forms": {}, "ratio": 0.5, "goal": None},
]
MISSED = {"name": "missed", "forms": "a | b", "ratio": 0.89, "goal": 1.0}


@pytest.fixture
def benches(monkeypatch):
    """Imports a bench by name, as running the script does; its modules leave `sys.modules` again."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and Path(sys.modules[name].__file__).parent == BENCHMARKS:
            del sys.modules[name]


@pytest.fixture
def runner(benches, monkeypatch):
    run = benches("run")
    for name, rows in (("good", ROWS), ("bad", [MISSED])):
        module = type(sys)(f"bench_{name}")
        module.rows = lambda rows=rows: rows
        monkeypatch.setitem(sys.modules, module.__name__, module)
    broken = type(sys)("bench_broken")
    broken.rows = lambda: 1 / 0
    monkeypatch.setitem(sys.modules, "bench_broken", broken)
    monkeypatch.setattr(run, "BENCHES", {name: f"bench_{name}" for name in ("good", "bad", "broken")})
    return run


def test_table_has_every_row_with_forms_ratio_goal_and_verdict(runner, capsys):
    assert runner.main(["--only", "good"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert cells == [
        ["what", "forms", "ratio", "goal", "reached"],
        ["reached", "ours 1, plain 2", "2.00", "1.50", "yes"],
        ["nearly", "ours / plain", "0.91", "1.00", "nearly"],
        ["for information", "", "0.50", "", ""],
    ]
    assert lines[-1] == "1 of 2 goals reached, 1 nearly (run again), 0 missed."


def test_exit_code_is_one_when_a_goal_is_missed_by_more_than_a_tenth(runner, capsys):
    assert runner.main(["--only", "good", "bad"]) == 1
    out = capsys.readouterr().out
    assert "| no " in out
    assert "a / b" in out  # a bar would break the table


def test_a_broken_bench_is_named_and_the_others_still_run(runner, capsys):
    assert runner.main(["--only", "broken", "good"]) == 1
    out = capsys.readouterr().out
    assert "FAILED broken: ZeroDivisionError: division by zero" in out
    assert "| reached " in out


def test_output_files_hold_the_table(runner, tmp_path, capsys):
    runner.main(["--only", "good", "--output", str(tmp_path / "new" / "bench.md")])
    assert (tmp_path / "new" / "bench.md").read_text() == capsys.readouterr().out
    runner.main(["--only", "good", "--output", str(tmp_path / "bench.json")])
    content = json.loads((tmp_path / "bench.json").read_text())
    assert [row["name"] for row in content["rows"]] == [row["name"] for row in ROWS]
    assert [row["reached"] for row in content["rows"]] == ["yes", "nearly", ""]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "new"]


def test_unknown_names_and_endings_are_refused(runner, capsys):
    for arguments in (["--only", "speed"], ["--output", "table.xls"]):
        with pytest.raises(SystemExit, match="2"):
            runner.main(arguments)
    assert "must end in .md or .json" in capsys.readouterr().err


def test_every_registered_bench_is_a_file_with_rows(benches):
    for module in benches("run").BENCHES.values():
        assert "def rows(" in (BENCHMARKS / f"{module}.py").read_text()


def test_rotation_begins_every_repetition_with_another_form(benches):
    timing, calls = benches("timing"), []
    seconds = timing.rotate({name: lambda name=name: calls.append(name) for name in "abc"}, repeats=3)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"
    assert set(seconds) == set("abc")
    assert all(value >= 0 for value in seconds.values())


def test_st_mem_bench_has_its_rows_and_its_forms_agree(benches):
    """Smallest sizes; the bench itself raises when two forms give different numbers."""
    bench = benches("bench_st_mem")
    small = {
        "seq_len": 300,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "attention_head_size": 16,
        "intermediate_size": 32,
        "decoder_hidden_size": 8,
        "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 1,
        "decoder_attention_head_size": 8,
        "decoder_intermediate_size": 16,
    }
    rows = bench.rows([bench.Setting("mini", 2, small, {"decoder": 1.3}, repeats=1)])
    names = " ; ".join(row["name"] for row in rows)
    for part in ("decoder folded", "Linear over Conv1d", "index_select", "fused over foreach", "fused over for-loop"):
        assert part in names
    assert "share of GEMM peak" in names
    assert "whole step" in names
    assert all(row["ratio"] > 0 for row in rows if "AdamW" not in row["name"])
    assert [row["goal"] for row in rows if row["goal"] is not None] == [1.3]


def test_st_mem_bench_counts_the_operations_that_torch_counts(benches):
    """Of the base model's forward pass, against torch's own counter; it leaves nothing out that matters."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    bench = benches("bench_st_mem")
    model = bench.model_of(bench.TINY)
    model.set_attn_implementation("eager")
    inputs = bench.inputs_of(bench.TINY, model.config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(**inputs)
    ours = bench.TINY.batch * bench.step_flops(model.config) / 3
    assert counter.get_total_flops() == pytest.approx(ours, rel=0.02)


def test_embeddings_bench_has_a_row_for_every_network_and_measures_one(benches):
    bench = benches("bench_embeddings")
    names = bench.distinct_networks()
    assert len(names) == len(set(names))
    assert {"ecgfounder", "ecg-fm", "xecg", "ked", "ecg-jepa"} <= set(names)
    assert "hubert-ecg-sft-base" not in names  # the encoder of hubert-ecg-base
    (row,) = bench.rows(["weimann-jepa"], repeats=1, num_hidden_layers=1)
    assert row["forms"]["records per second"] > 0
    assert row["ratio"] > 0
    assert row["goal"] is None
