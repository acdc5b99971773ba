"""The page of a card: no figure of the report is lost or changed, every table cell holds one thing, its lines run."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from ecg_transformers.benchmark.page import card_of_report, page, same_rows

CARDS = Path(__file__).resolve().parents[2] / "model_cards"
REPORT = """# ST-MEM, recipe `tiny`, on synthetic

What it does.

## Results

Macro AUROC: mean over seeds, 95 % interval, values of the seeds.

| method | 100 % labels | 10 % labels |
|---|---|---|
| Frozen, pre-trained | **0.818** [0.781, 0.852] (0.820 0.816) | **0.772** [0.734, 0.806] (0.753 0.791) |
| From scratch | **0.700** [0.650, 0.750] (0.700 0.701) |  |

- Ahead at 100 % labels: Frozen, pre-trained (0.818).

## Paired differences

On the same records.

| difference | labels | mean [95 % interval] | per seed |
|---|---|---|---|
| Frozen − Random | 100 % | **+0.054** [+0.026, +0.085] | +0.071 +0.059 |
| Frozen − Random | 10 % | **-0.010** [-0.042, +0.021] | -0.020 -0.015 |

## How to make it again

--method st_mem, lr 0.001
"""


def test_every_figure_of_the_report_stands_in_the_page():
    text = page(REPORT, "st_mem").partition("\n---\n")[2]
    figures = re.findall(r"\d+\.\d+", REPORT)
    assert sorted(re.findall(r"\d+\.\d+", text)) == sorted(figures)


def test_a_report_that_would_lose_a_figure_is_refused():
    with pytest.raises(ValueError, match=r"0\.999"):
        page(REPORT.replace("What it does.", "What it does.\n\n## Odd section\n\n0.999"), "st_mem")


def test_the_first_table_holds_one_thing_a_cell_and_differences_are_a_matrix():
    text = page(REPORT, "st_mem")
    assert "| Frozen, pre-trained | 0.818 | 0.772 |" in text
    assert "| From scratch | 0.700 |  |" in text
    assert "| Frozen − Random | **+0.054** | -0.010 |" in text
    assert "| method | labels | low | high | seed no. 1 | seed no. 2 |" in text
    assert "| Frozen, pre-trained | 10 % | 0.734 | 0.806 | 0.753 | 0.791 |" in text


def test_a_row_that_is_that_of_another_card_is_said(tmp_path):
    row = "| Frozen, random initialisation, pooled | 0.763 | 0.694 |"
    for name in ("a", "b"):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n\n{row}\n")
    (tmp_path / "c.md").write_text(f"# c\n\n{row.replace('0.763', '0.764')}\n")
    said = same_rows(tmp_path)
    assert set(said) == {tmp_path / "a.md", tmp_path / "b.md"}
    assert "[b](b.md)" in said[tmp_path / "a.md"]


def test_a_report_of_its_own_form_gets_a_card_that_links_it():
    report = "# ECG-SL, recipe `tiny`\n\nIdea.\n\n## A\n\n### Here\n\n" + (
        "| run | pre-training | leads | labels | seeds | macro F1 | macro AUROC |\n|---|---|---|---|---|---|---|\n"
        "| x | none | II | 100% | 3 | 0.5 ± 0.1 [0.4, 0.6] | 0.7 ± 0.1 [0.6, 0.8] |\n"
    )
    text = card_of_report(report, "reports/r.md", "ecg_sl", "### Here")
    assert "| From scratch | 100% | 0.5 | 0.7 |" in text
    assert "A. Leads: II. Means over 3 seeds" in text
    assert "[the report](reports/r.md)" in text


@pytest.mark.parametrize("path", sorted(CARDS.glob("*-tiny*.md")), ids=lambda path: path.stem)
def test_the_lines_of_every_card_run(path, own_cache):
    code = re.search(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)[1]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, path.name, "exec"), {})
    assert "torch.Size([1, " in printed.getvalue()


@pytest.mark.parametrize("path", sorted(CARDS.glob("*-tiny*.md")), ids=lambda path: path.stem)
def test_a_card_is_one_screen_of_text(path):
    text = re.sub(r"<details>.*?</details>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len([line for line in text.splitlines() if line.strip()]) < 75
    assert text.startswith("---\n")
    assert "Not a medical device" in text
