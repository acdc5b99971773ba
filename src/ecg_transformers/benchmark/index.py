"""The overview of a folder of cards: the main rows of each, side by side, copied from the cards and nowhere else.

    python -m ecg_transformers.benchmark.index model_cards

Writes `model_cards/README.md`. A card of the benchmark gives its first readout (pre-trained and random), fine-tuning and
training from scratch; the baselines stand once, below. Other cards, and reports, are linked.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from ecg_transformers.benchmark.page import folder_given
from ecg_transformers.files import write_text
from ecg_transformers.training.errors import run_command

INDEX = "README.md"
ARMS = ("Frozen, pre-trained", "Frozen, random initialisation", "Fine-tuned", "From scratch")
HEADING = re.compile(r"^# (?P<title>.+), recipe `(?P<recipe>\w+)`, on (?P<dataset>\w+)$", re.MULTILINE)
TEXT = """# Model cards

Figures that this package measured on small excerpts of public corpora; they are not comparable with published ones, and
no row is a ranking of the methods: the recipes differ in size and budget. Commands, intervals, seeds and limits stand in
each card.

**Not a medical device.** For research only; nothing here may guide the care of a patient.

## Words

- Macro AUROC: how well a model tells records with a class from those without, averaged over the classes. 0.5 is guessing,
  1 is perfect.
- Frozen: the network stays as it was, and a simple classifier reads what it gives out. Pooled feature: one vector for a record.
  Mean token of each lead: a vector for each lead. Attention probe: a small network that weighs the parts of a record.
- Pre-trained: it first learnt from records without labels. Random initialisation: the same network before that, as a control.
- Fine-tuned: the whole pre-trained network learns on from labels. From scratch: it learns from labels alone.
- 10 % labels: only a tenth of the training patients keep their labels. Seed: the number that all random draws of a run
  follow from.
- Interval: 95 % of resamples of the test patients give a mean inside it.
- Classes of PTB-XL: CD conduction disturbance, HYP hypertrophy, MI myocardial infarction, NORM normal, STTC change of ST or T.
"""


@dataclass
class Card:
    """A card of `ecg_transformers.benchmark.card`: its table of results, row by row."""

    path: Path
    title: str
    recipe: str
    dataset: str
    columns: list[str]
    rows: dict[str, list[str]]

    def main_rows(self) -> list[str]:
        """The first row of each arm: its main readout."""
        first = [next((name for name in self.rows if name.startswith(arm)), None) for arm in ARMS]
        return [name for name in first if name is not None]

    def baselines(self) -> list[str]:
        """Rows that belong to no method."""
        return [name for name in self.rows if not name.startswith(ARMS)]


def main() -> None:
    folder = folder_given(__doc__)
    write_text(folder / INDEX, index(folder))
    print(f"wrote {folder / INDEX}")


def index(folder: Path) -> str:
    """The overview of the cards in a folder, as Markdown."""
    paths = sorted(path for path in folder.glob("*.md") if path.name != INDEX)
    cards = [card for card in map(read_card, paths) if card is not None]
    parts = [TEXT]
    for dataset in sorted({card.dataset for card in cards}):
        parts.append(_table(dataset, [card for card in cards if card.dataset == dataset]))
    others = [path for path in paths if path not in {card.path for card in cards}]
    for title, files in (("Further cards", others), ("Reports", sorted((folder / "reports").glob("*.md")))):
        if files:
            links = [f"- [{_first_title(path)}]({path.relative_to(folder).as_posix()})" for path in files]
            parts.append(f"## {title}\n\n" + "\n".join(links) + "\n")
    return "\n".join(parts)


def read_card(path: Path) -> Card | None:
    """A card in the form of `ecg_transformers.benchmark.card`, else None."""
    text = path.read_text(encoding="utf-8")
    heading = HEADING.search(text)
    table = re.search(r"^\| method \|(?P<columns>.*)\|\n\|[-|]+\|\n(?P<rows>(?:\|.*\|\n)+)", text, re.MULTILINE)
    if heading is None or table is None:
        return None
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table["rows"].splitlines()]
    columns = [cell.strip() for cell in table["columns"].split("|")]
    return Card(path, columns=columns, rows={row[0]: row[1:] for row in rows}, **heading.groupdict())


def _table(dataset: str, cards: list[Card]) -> str:
    columns = max((card.columns for card in cards), key=len)
    lines = [
        f"## `{dataset}`\n",
        "Macro AUROC on the test split, mean over seeds. Intervals and seeds stand in each card.\n",
        f"| method | row | {' | '.join(columns)} |",
        "|---|---|" + "---|" * len(columns),
    ]
    for card in cards:
        name = f"[{card.title} `{card.recipe}`]({card.path.name})"
        lines += [_line(name, row, columns, card) for row in card.main_rows()]
    known: dict[str, list[str]] = {}
    for card in cards:
        for row in card.baselines():
            cells = _cells(row, columns, card)
            if len([cell for cell in cells if cell]) > len([cell for cell in known.get(row, []) if cell]):
                known[row] = cells
    lines += [f"| – | {row} | {' | '.join(cells)} |" for row, cells in known.items()]
    return "\n".join(lines) + "\n"


def _cells(row: str, columns: list[str], card: Card) -> list[str]:
    values = dict(zip(card.columns, card.rows[row], strict=True))
    return [values.get(column, "") for column in columns]


def _line(name: str, row: str, columns: list[str], card: Card) -> str:
    return f"| {name} | {row} | {' | '.join(_cells(row, columns, card))} |"


def _first_title(path: Path) -> str:
    found = re.search(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else path.stem


if __name__ == "__main__":
    sys.exit(run_command(main))
