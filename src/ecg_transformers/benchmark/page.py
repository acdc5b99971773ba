"""From the full report of a card to its page: one screen of text, a table with one thing a cell, the rest folded away.

    python -m ecg_transformers.benchmark.page model_cards

brings the cards of a folder that are still full reports into this form, and refuses to where a figure would change.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

from huggingface_hub import ModelCardData

from ecg_transformers.files import write_text
from ecg_transformers.training.errors import UsageError, run_command

CELL = re.compile(r"\*\*(?P<mean>[-+\d.]+)\*\* \[(?P<low>[-+\d.]+), (?P<high>[-+\d.]+)\](?: \((?P<seeds>[^)]*)\))?")
FIGURE = re.compile(r"[-+]?\d+\.\d+")  # what was measured; the sections that are folded away stay as they are
TITLE = re.compile(r"^# (?P<title>.+), recipe `(?P<recipe>\w+)`, on (?P<dataset>\w+)$", re.MULTILINE)
TRAINED = {"none": "From scratch", "both": "Pre-trained in both stages, fine-tuned"}
FOLDED = ("Per class", "Pre-training", "Recipe", "Data", "How to make it again", "Protocol and limits")


def page(report: str, method: str) -> str:
    """The page of a full report.

    Raises:
        ValueError: a figure of the report would not stand in the page exactly as often.
    """
    head, *sections = re.split(r"^## ", report, flags=re.MULTILINE)
    found = TITLE.search(head)
    if found is None:
        raise ValueError("the report has no title of the form '# METHOD, recipe `NAME`, on CORPUS'.")
    parts = dict(section.partition("\n")[::2] for section in sections)
    results, folded = _results(parts["Results"])
    body = [head.strip(), "\n## Results\n", results]
    if "Paired differences" in parts:
        matrix, details = _differences(parts["Paired differences"])
        body += ["## Paired differences\n", matrix]
        folded += details
    folded += [fold(title, text.strip()) for title, text in parts.items() if title.startswith(FOLDED)]
    text = "\n".join([*body, "## Details\n", *folded])
    changed = Counter(FIGURE.findall(report))
    changed.subtract(FIGURE.findall(text))
    if wrong := [number for number, count in changed.items() if count]:
        raise ValueError(f"the figures {', '.join(wrong[:5])} would not stand in the page as they stand in the report.")
    return _front_matter(method, found["title"]) + _with_snippet(text, method, found["recipe"]) + "\n"


def _results(section: str) -> tuple[str, list[str]]:
    """The means as the table of the page; intervals and seeds folded away."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    columns, rows = _cells(lines[0])[1:], [_cells(line) for line in lines[2:]]
    table = [f"| method | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    details: list[list[str]] = []
    for name, *values in rows:
        cells = [CELL.fullmatch(value) for value in values]
        table.append(f"| {name} | {' | '.join(cell['mean'] if cell else '' for cell in cells)} |")
        for column, cell in zip(columns, cells, strict=True):
            if cell:
                share = column.removesuffix(" labels")
                details.append([name, share, cell["low"], cell["high"], *cell["seeds"].split()])
    intro = section.partition("|")[0].strip()
    ahead = [line for line in section.splitlines() if line.startswith("- ")]
    shown = "Macro AUROC on the test split, mean over seeds. A guess scores one half, a perfect model one. "
    shown += "[What the words mean](README.md).\n\n"
    return shown + "\n".join(table) + "\n\n" + "\n".join(ahead) + "\n", [
        fold("Intervals and seeds", f"{intro}\n\n{_detail_table('method', details)}")
    ]


def _differences(section: str) -> tuple[str, list[str]]:
    """Means as a matrix, those whose interval leaves zero out in bold; intervals and seeds folded away."""
    rows = [_cells(line) for line in section.splitlines() if line.startswith("|")][2:]
    shares = list(dict.fromkeys(row[1] for row in rows))
    means: dict[str, dict[str, str]] = {}
    details: list[list[str]] = []
    for name, share, value, seeds in rows:
        cell = CELL.fullmatch(value)
        if cell is None:
            raise ValueError(f"the difference {value!r} has no mean with an interval.")
        clear = float(cell["low"]) > 0 or float(cell["high"]) < 0
        means.setdefault(name, {})[share] = f"**{cell['mean']}**" if clear else cell["mean"]
        details.append([name, share, cell["low"], cell["high"], *seeds.split()])
    table = [f"| difference | {' | '.join(f'{share} labels' for share in shares)} |", "|---" * (len(shares) + 1) + "|"]
    table += [f"| {name} | {' | '.join(values.get(share, '') for share in shares)} |" for name, values in means.items()]
    intro = section.partition("|")[0].strip()
    text = "Bold: the interval does not hold zero.\n\n" + "\n".join(table) + "\n"
    return text, [fold("Intervals and seeds of the differences", f"{intro}\n\n{_detail_table('difference', details)}")]


def _detail_table(first: str, rows: list[list[str]]) -> str:
    """Interval and the value of each seed, one figure a cell."""
    seeds = max((len(row) for row in rows), default=4) - 4
    head = [first, "labels", "low", "high", *(f"seed no. {number + 1}" for number in range(seeds))]
    filled = [row + [""] * (len(head) - len(row)) for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *filled])


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def fold(title: str, text: str) -> str:
    """A part of a page that opens when asked for."""
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>\n"


def _front_matter(method: str, title: str) -> str:
    data = ModelCardData(
        license="apache-2.0", library_name="transformers", tags=["ecg", "electrocardiogram", "ecg_transformers", method]
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


def _with_snippet(text: str, method: str, recipe: str) -> str:
    """The page with the lines that build the model of the card; the trained weights take their place."""
    snippet = f"""## Use

```python
import ecg_transformers as ecg

method = ecg.get_method("{method}")
recipe = method.recipe("{recipe}")
record = ecg.load_ecg_dataset("synthetic", split="test", num_records=40)[0]
extractor = method.extractor_class.for_method("{method}", **recipe.preprocessing)
model = method.model_classes["base"](method.config_class(**recipe.config)).eval()  # untrained
# after the training below: model = method.model_classes["base"].from_pretrained(FOLDER)
print(model(**extractor(record, return_tensors="pt")).pooler_output.shape)
```

"""
    return text.replace("\n## Results\n", f"\n{snippet}## Results\n", 1)


def card_of_report(report: str, link: str, method: str, section: str) -> str:
    """The card of a method whose measurements fill a report of their own: its head, its main table, and the link.

    Args:
        link: of the report, from the card.
        section: heading of the part whose first table of runs is shown.
    """
    head = report.partition("\n## ")[0].strip()
    title = re.search(r"^# (?P<title>.+), recipe `(?P<recipe>\w+)`$", head, re.MULTILINE)
    before, _, part = report.partition(f"{section}\n")
    rows = re.search(r"^\| run \|(?:.*\|\n)+", part, re.MULTILINE)
    if title is None or rows is None:
        raise ValueError(f"the report has no title, or no table of runs below {section!r}.")
    columns, _, *runs = map(_cells, rows[0].splitlines())
    wanted = ("labels", "macro F1", "macro AUROC")
    table = [f"| method | {' | '.join(wanted)} |", "|---" * (len(wanted) + 1) + "|"]
    values: dict[str, str] = {}
    for run in runs:
        values = dict(zip(columns, run, strict=True))
        cells = [TRAINED[values["pre-training"]], *(values[name].partition(" ±")[0] for name in wanted)]
        table.append(f"| {' | '.join(cells)} |")
    task = before.rpartition("\n## ")[2].partition("\n")[0]
    about = f"{task}. Leads: {values['leads']}. Means over {values['seeds']} seeds, measured on a CPU. "
    about += "For macro AUROC a guess scores one half, a perfect model one. [What the words mean](README.md)."
    body = f"{head}\n\n## Results\n\n{about}\n\n" + "\n".join(table)
    body += f"\n\nIntervals, seeds, ablations, other tasks, pictures and limits: [the report]({link}).\n"
    return _front_matter(method, title["title"]) + _with_snippet(body, method, title["recipe"])


def same_rows(folder: Path) -> dict[Path, str]:
    """Cards of which a row of random initialisation is that of another card to the digit, with a sentence why."""
    rows: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.md")):
        for line in path.read_text(encoding="utf-8").partition("## Paired differences")[0].splitlines():
            if line.startswith("| Frozen, random initialisation"):
                rows.setdefault(line, []).append(path)
    said = {}
    for line, paths in rows.items():
        for path in paths if len(paths) > 1 else ():
            others = ", ".join(f"[{other.stem}]({other.name})" for other in paths if other != path)
            said[path] = (
                f'The row "{_cells(line)[0]}" is that of {others} to the digit: before its training it is the same network '
                "from the same seeds."
            )
    return said


def method_of_report(report: str) -> str:
    """The `--method` of the command that a report holds."""
    found = re.search(r"--method (\w+)", report)
    if found is None:
        raise ValueError("the report does not hold the command that made it.")
    return found[1]


def folder_given(usage: str | None) -> Path:
    """The one argument of a command that works on a folder of cards; `usage` is printed where it is missing."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(usage)
        raise SystemExit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    folder = Path(sys.argv[1])
    if not folder.is_dir():
        raise UsageError(f"There is no folder {folder}.")
    return folder


def main() -> None:
    folder = folder_given(__doc__)
    for path in sorted(folder.glob("*.md")):
        report = path.read_text(encoding="utf-8")
        if report.startswith("# ") and TITLE.search(report):
            write_text(path, page(report, method_of_report(report)))
            print(f"{path}: every figure of the report stands in the page")
    for path in sorted((folder / "reports").glob("*.md")):
        report = path.read_text(encoding="utf-8")
        if re.search(r"^# .+, recipe `\w+`$", report, re.MULTILINE):
            method, link = method_of_report(report), f"reports/{path.name}"
            write_text(folder / path.name, card_of_report(report, link, method, "### At the recipe's own lengths"))
            print(f"{folder / path.name}: the card of {link}")
    for path, sentence in same_rows(folder).items():
        text = path.read_text(encoding="utf-8")
        if sentence not in text:
            write_text(path, text.replace("\n## Paired differences", f"\n{sentence}\n\n## Paired differences", 1))


if __name__ == "__main__":
    sys.exit(run_command(main))
