"""The README's code runs, and its generated table is the registry's."""

import re
import subprocess
import sys
from pathlib import Path

from ecg_transformers.models.registry import method_table

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_quickstart_runs(tmp_path):
    code = re.search(r"## Quickstart\n\n```python\n(.*?)```", README, re.DOTALL).group(1)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.count("LABEL_") >= 4


def test_the_table_of_methods_is_the_registry():
    table = re.search(r"<!-- methods: .*? -->\n(.*?)<!-- end of methods -->", README, re.DOTALL).group(1)
    assert table.strip() == method_table()


def test_every_test_file_that_backs_a_promise_exists():
    root = Path(__file__).resolve().parents[1]
    for name in re.findall(r"`(tests/[\w/.]*)`", README):
        assert (root / name).exists(), name
