"""The overview of the cards says what the cards say."""

import sys
from pathlib import Path

import pytest

from ecg_transformers.benchmark import index
from ecg_transformers.training.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]

CARD = """# {title}, recipe `tiny`, on synthetic

## Results

| method | {columns} |
|---|---|---|
| Frozen, pre-trained, per lead | **0.8** | {second} |
| Frozen, pre-trained, pooled | **0.7** | |
| Frozen, random initialisation, per lead | **0.6** | |
| Simple features | **0.9** | {baseline} |
"""


def test_the_overview_in_the_repository_is_that_of_its_cards():
    folder = ROOT / "model_cards"
    assert (folder / "README.md").read_text(encoding="utf-8") == index.index(folder)


def test_every_card_of_the_repository_is_in_it():
    text = index.index(ROOT / "model_cards")
    for path in (ROOT / "model_cards").glob("*.md"):
        assert path.name == "README.md" or f"]({path.name})" in text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    long = CARD.format(title="A", columns="100 % labels | 10 % labels", second="0.75", baseline="0.85")
    short = CARD.replace("|---|---|---|", "|---|---|").replace(" | {second}", "").replace(" | {baseline}", "")
    short = short.replace(" | |", " |").format(title="B", columns="100 % labels")
    (tmp_path / "a.md").write_text(long)
    (tmp_path / "b.md").write_text(short)
    (tmp_path / "c.md").write_text("# Something else\n")
    return tmp_path


def test_the_main_readout_of_each_card_and_every_baseline_once(folder: Path):
    text = index.index(folder)
    assert "| [A `tiny`](a.md) | Frozen, pre-trained, per lead | **0.8** | 0.75 |" in text
    assert "| [B `tiny`](b.md) | Frozen, random initialisation, per lead | **0.6** |  |" in text
    assert "pooled" not in text
    assert text.count("Simple features") == 1
    assert "| – | Simple features | **0.9** | 0.85 |" in text
    assert "- [Something else](c.md)" in text


def test_the_command_writes_it_and_refuses_a_missing_folder(folder: Path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["index.py", str(folder)])
    index.main()
    assert (folder / "README.md").read_text(encoding="utf-8") == index.index(folder)
    monkeypatch.setattr(sys, "argv", ["index.py", str(folder / "nowhere")])
    with pytest.raises(UsageError, match="nowhere"):
        index.main()
