"""Fact sheets of the corpora: a table of all, and one sheet with what to download and the folder that is expected."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
from typing import Any

from ecg_transformers.data.corpora import CORPORA, corpus_class

COLUMNS = ("name", "records", "leads", "sampling_rates", "labels", "licence", "ready")


def corpus_sheet(name: str) -> dict[str, Any]:
    """What is known of a corpus, with its options, and whether this installation can read it.

    Raises:
        OptionError: no such corpus; the nearest name is in the message.
    """
    cls = corpus_class(name)
    options = {option.name: option.default for option in dataclasses.fields(cls.options_class)}
    facts = dataclasses.asdict(cls.facts)
    known = cls.about_known_records()
    return {
        **facts,
        "notes": (*facts["notes"], *([known] if known else [])),
        "available": True,
        "options": options,
        "options_help": inspect.getdoc(cls.options_class) or "",
        "ready": readiness(cls.facts.needs),
    }


def readiness(needs: tuple[str, ...]) -> str:
    """The word "yes", or what to install first."""
    missing = [package for package in needs if importlib.util.find_spec(package) is None]
    return f"needs {' and '.join(missing)}: pip install 'ecg_transformers[corpora]'" if missing else "yes"


def corpora_table() -> list[dict[str, str]]:
    """A row a corpus with the columns of `COLUMNS`, in the order of their names."""
    return [{column: str(sheet[column]) for column in COLUMNS} for sheet in map(corpus_sheet, sorted(CORPORA))]


def sheet_text(sheet: dict[str, Any]) -> str:
    """A fact sheet for people."""
    shown = (
        ("Records", "records"),
        ("Leads", "leads"),
        ("Rate", "sampling_rates"),
        ("Length", "duration"),
        ("Labels", "labels"),
        ("Parts", "split"),
        ("Licence", "licence"),
        ("Cite", "citation"),
        ("Where", "homepage"),
        ("Download", "download"),
        ("Folder", "layout"),
        ("Ready", "ready"),
    )
    lines = [f"{sheet['name']}: {sheet['title']}", sheet["summary"], ""]
    lines += [f"{title:9} {sheet[key]}" for title, key in shown if sheet[key]]
    lines += ["", "Know:", *(f"  - {note}" for note in sheet["notes"])] if sheet["notes"] else []
    defaults = ", ".join(f"{name}={value!r}" for name, value in sheet["options"].items())
    return "\n".join([*lines, "", sheet["options_help"], *(["", f"Defaults: {defaults}"] if defaults else [])])
