"""Print the table of transformers' common tests: test × method, passed or skipped with the reason.

python tests/common/table.py > common_tests.md
"""

import collections
import contextlib
import re
import sys
from pathlib import Path

import pytest

from ecg_transformers.models.registry import list_methods


class Collector:
    """Keeps the outcome of every generated test."""

    def __init__(self) -> None:
        self.outcome: dict[str, dict[str, str]] = collections.defaultdict(dict)
        self.reasons: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        match = re.search(r"::Test_(\w+)::(test_\w+)$", report.nodeid)
        if match is None or (report.when != "call" and report.outcome != "skipped"):
            return
        method, test = match.groups()
        self.outcome[test].setdefault(method, report.outcome)
        if report.outcome == "failed":
            self.outcome[test][method] = "failed"
        if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
            self.reasons[test] = report.longrepr[2].removeprefix("Skipped: ")


def main() -> int:
    collector = Collector()
    test_file = Path(__file__).with_name("test_transformers_common.py")
    with contextlib.redirect_stdout(sys.stderr):
        status = pytest.main([str(test_file), "-q", "--no-header"], plugins=[collector])
    methods = list_methods()
    print("| test | " + " | ".join(methods) + " | why skipped |\n|---" + "|---" * (len(methods) + 1) + "|")
    letters = {"passed": "✓", "skipped": "–", "failed": "FAILED"}
    for test in sorted(collector.outcome):
        row = [letters.get(collector.outcome[test].get(method, ""), "") for method in methods]
        reason = collector.reasons.get(test, "").replace("|", "/").splitlines()
        print(f"| {test} | {' | '.join(row)} | {reason[0] if reason else ''} |")
    counts = collections.Counter(state for row in collector.outcome.values() for state in row.values())
    print("\n" + ", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
