"""What the pages name is there: every verb and its options, every script, import, extra and link."""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from ecg_transformers.cli import build_parser
from ecg_transformers.training.arguments import FinetuningArguments, PretrainingArguments, parse_arguments

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md")]
PAGES += sorted(path for folder in ("docs", "model_cards") for path in (ROOT / folder).rglob("*.md"))
CARDS = [page for page in PAGES if "model_cards" in page.parts]
TABLE = re.compile(r"^\|.*\|\n\|[-| :]+\|\n(?:\|.*\|\n?)+", re.MULTILINE)
TRAINING = {"pretrain": PretrainingArguments, "finetune": FinetuningArguments}
TRAINING |= {"examples/pretrain.py": PretrainingArguments, "examples/finetune_classification.py": FinetuningArguments}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def without_blocks(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of the commands of a page, in blocks and in sentences; `…` stands for what is left out, VERB for any verb."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```(?:bash)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", without_blocks(text))
    for line in [*"\n".join(blocks).splitlines(), *spans]:
        if re.match(r"(ecg-transformers|python|torchrun|accelerate launch) ", line) and not re.search("…|VERB", line):
            yield shlex.split(line, comments=True)


def check_options(words: list[str]) -> None:
    """A command of ours is parsed; of another script the file is there and its folder knows the options."""
    ours = next((n for n, word in enumerate(words) if word in ("ecg-transformers", "ecg_transformers")), None)
    if words[0] == "python" and words[1] in TRAINING:
        ours = 0
    if ours is not None:
        own = words[ours + 1 :]
        if own and own[0] in TRAINING:
            parse_arguments(TRAINING[own[0]], "", own[1:])
        elif own:
            build_parser().parse_args(own)
        return
    path = ROOT / (f"src/{words[2].replace('.', '/')}.py" if words[1] == "-m" else words[1])
    assert path.is_file()
    known = "".join(file.read_text(encoding="utf-8") for file in path.parent.glob("*.py"))
    own = words[: words.index("--")] if "--" in words else words  # what follows are options of another command
    assert [word for word in own if word.startswith("--") and word[2:] not in known] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_of_a_page_is_one_that_there_is(page: Path) -> None:
    for words in commands(page):
        check_options(words)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_import_of_a_page_is_there(page: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for node in (node for node in ast.walk(ast.parse("\n".join(blocks))) if isinstance(node, ast.ImportFrom)):
        assert all(hasattr(import_module(str(node.module)), name.name) for name in node.names), ast.unparse(node)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", without_blocks(page.read_text(encoding="utf-8"))):
        assert (page.parent / target).exists(), target


def first_cells(page: str) -> set[str]:
    """The names in the first column of a page's first table."""
    table = (ROOT / "docs" / page).read_text(encoding="utf-8").partition("\n\n|")[2].partition("\n\n")[0]
    return {name for row in table.splitlines() for name in re.findall(r"`([a-z0-9-]+)[ `]", row.split("|")[1])}


def test_every_verb_and_every_extra_has_its_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert first_cells("command_line.md") == set(build_parser().get_default("verbs"))
    assert first_cells("installation.md") == set(project["optional-dependencies"])


@pytest.mark.parametrize("page", [*CARDS, ROOT / "docs" / "delineation.md"], ids=named)
def test_a_cell_of_a_card_holds_one_figure(page: Path) -> None:
    """Means, intervals and the values of the seeds stand in columns of their own."""
    tables = TABLE.findall(page.read_text(encoding="utf-8"))
    cells = {cell.strip() for table in tables for row in table.splitlines()[2:] for cell in row.strip("|").split("|")}
    figures = {cell for cell in cells if re.fullmatch(r"[-+\d.,%\s±→()\[\]/<]*\d[-+\d.,%\s±→()\[\]/<of]*", cell)}
    assert tables
    assert not [cell for cell in figures if len(re.findall(r"\d[\d.,]*", cell)) > 1]
