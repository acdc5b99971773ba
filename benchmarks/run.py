"""Every bench in one process with one thread, one table: what is compared, the ratio, its goal, reached or not.

    python benchmarks/run.py [--only NAME …] [--output FILE.md|FILE.json]

The exit code is 1 when a goal is missed by more than a tenth or a bench fails; a smaller miss is worth a second run,
because the machine may have been busy.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports a BLAS

import argparse
import json
import platform
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

BENCHES = {"signal": "bench_signal", "data": "bench_data", "cropa": "bench_cropa", "st_mem": "bench_st_mem"}
BENCHES |= {"hospital": "bench_hospital", "embeddings": "bench_embeddings"}
MARGIN = 0.10  # of the goal: what a busy machine may take away
COLUMNS = ("what", "forms", "ratio", "goal", "reached")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write; the exit code."""
    options = parse(arguments)
    table, failures = [], []
    for name in options.only or BENCHES:
        started = time.perf_counter()
        try:
            table += measure(name)
        except Exception as error:  # one broken bench must not hide the figures of the others
            traceback.print_exc()
            failures.append(f"{name}: {type(error).__name__}: {error}")
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    text = report(table, failures)
    print(text)
    if options.output is not None:
        write(options.output, table, failures, text)
    return int(bool(failures) or any(row["reached"] == "no" for row in table))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(BENCHES), metavar="NAME", help=f"of {', '.join(BENCHES)}")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table too, as .md or .json")
    options = parser.parse_args(arguments)
    if options.output is not None and options.output.suffix not in (".md", ".json"):
        parser.error(f"--output must end in .md or .json, got {options.output}")
    return options


def measure(name: str) -> list[dict[str, Any]]:
    """The rows of one bench, each with its verdict."""
    import torch

    torch.set_num_threads(1)
    return [{"bench": name, **row, "reached": verdict(row)} for row in import_module(BENCHES[name]).rows()]


def verdict(row: Mapping[str, Any]) -> str:
    """Whether the goal is reached: "yes", "nearly" (short by less than the margin: run again), "no"; "" without one."""
    goal = row.get("goal")
    if goal is None:
        return ""
    if row["ratio"] >= goal:
        return "yes"
    return "nearly" if row["ratio"] >= (1 - MARGIN) * goal else "no"


def describe(forms: Any) -> str:
    """What was compared: a text, or names with what was measured of each."""
    if isinstance(forms, Mapping):
        return ", ".join(f"{name} {value:.3g}" for name, value in forms.items())
    return str(forms)


def report(table: Sequence[Mapping[str, Any]], failures: Sequence[str]) -> str:
    """The Markdown table, the machine, and a last line that sums it up."""
    cells = [
        (
            row["name"],
            describe(row["forms"]),
            f"{row['ratio']:.2f}",
            "" if row["goal"] is None else f"{row['goal']:.2f}",
            row["reached"],
        )
        for row in table
    ]
    lines = [machine(), "", *markdown([COLUMNS, *cells]), ""]
    verdicts = [row["reached"] for row in table]
    with_goal = sum(bool(one) for one in verdicts)
    summary = f"{verdicts.count('yes')} of {with_goal} goals reached"
    summary += f", {verdicts.count('nearly')} nearly (run again), {verdicts.count('no')} missed."
    return "\n".join([*lines, summary, *(f"FAILED {failure}" for failure in failures)])


def markdown(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Rows as a Markdown table whose columns line up when printed; the first row is the head."""
    rows = [[cell.replace("|", "/") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def machine() -> str:
    """What the figures were measured with."""
    import numpy
    import scipy
    import torch

    packages = f"torch {torch.__version__}, numpy {numpy.__version__}, scipy {scipy.__version__}"
    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return f"One CPU thread; ratios of CPU time within one run, forms side by side. {packages}; {system}."


def write(path: Path, table: Sequence[Mapping[str, Any]], failures: Sequence[str], text: str) -> None:
    """The table as Markdown or JSON, put in place in one step."""
    content = text
    if path.suffix == ".json":
        content = json.dumps({"machine": machine(), "rows": table, "failures": failures}, indent=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(content + "\n", encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    raise SystemExit(main())
