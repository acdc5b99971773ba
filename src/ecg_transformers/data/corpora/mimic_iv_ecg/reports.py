"""Labels and measurements of the cart's report.

Labels are rules (table `mimic_report_rules`): regular expressions on the lines of the report in small letters.
"""

from __future__ import annotations

import re
from functools import lru_cache

from ecg_transformers.data.corpora.shared.packaged import packaged_table

REPORT_LINES = [f"report_{number}" for number in range(18)]
_SENTINELS = {"29999", "32767", "-32768", "65535"}


def measured(text: str) -> float | None:
    """A measurement of the cart; None for what it could not measure (29999, 32767, -32768, 65535)."""
    if text.removesuffix(".0") in _SENTINELS:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def joined_report(line: dict[str, str]) -> str:
    """The lines of a report that are not blank, in small letters without trailing dots, dashes and stars."""
    return "\n".join(filter(None, [_cleaned(line.get(name, "")) for name in REPORT_LINES]))


@lru_cache(maxsize=100_000)
def _cleaned(text: str) -> str:
    return " ".join(text.lower().split()).strip(" .-*")


def label_bits(report: str) -> int:
    """The labels of a report as bits, in the order of the rules: included, and not excluded, anywhere in it."""
    included = excluded = 0
    for line in report.split("\n"):
        more, less = _bits_of_line(line)
        included, excluded = included | more, excluded | less
    return included & ~excluded


@lru_cache(maxsize=100_000)
def _bits_of_line(line: str) -> tuple[int, int]:
    """Rules that include and that exclude; no rule reaches over a line, and few lines are not seen again and again."""
    included = excluded = 0
    for position, (include, exclude) in enumerate(_rules()):
        included |= bool(include.search(line)) << position
        excluded |= bool(exclude is not None and exclude.search(line)) << position
    return included, excluded


@lru_cache(maxsize=100_000)
def labels_of_bits(names: tuple[str, ...], bits: int) -> tuple[str, ...]:
    return tuple(sorted(name for position, name in enumerate(names) if bits >> position & 1))


@lru_cache(maxsize=1)
def _rules() -> list[tuple[re.Pattern[str], re.Pattern[str] | None]]:
    return [
        (re.compile(row["include"]), re.compile(row["exclude"]) if row["exclude"] else None)
        for row in packaged_table("mimic_report_rules")
    ]
