"""What `ecg.check` found: problems one by one, and the sentences that people read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["error", "note"]
SHOWN_NOTES = 10


@dataclass(frozen=True)
class Problem:
    """One finding.

    Attributes:
        severity: "error" (the record cannot be used) or "note".
        kind: a few words, the same for all findings of the kind.
        file, record_id, lead: where, as far as it is about one.
        sentence: what is wrong and what to do.
    """

    severity: Severity
    kind: str
    sentence: str
    file: str | None = None
    record_id: str | None = None
    lead: str | None = None


@dataclass
class CheckReport:
    """All findings; `print(report)` is for people."""

    path: str
    records: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every record can be used."""
        return not any(problem.severity == "error" for problem in self.problems)

    def add(self, severity: Severity, kind: str, sentence: str, **where: str | None) -> None:
        self.problems.append(Problem(severity, kind, sentence, **where))

    def to_rows(self) -> list[dict[str, Any]]:
        """The findings as plain rows."""
        return [asdict(problem) for problem in self.problems]

    def __str__(self) -> str:
        counts = Counter(problem.severity for problem in self.problems)
        figures = {"record": self.records, "error": counts["error"], "note": counts["note"]}
        counted = ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in figures.items())
        lines = [f"{self.path}: {counted}."]
        for severity in ("error", "note"):
            for kind, found in _by_kind(self.problems, severity).items():
                lines.append(f"\n{severity}: {kind} ({len(found)})")
                shown = found if severity == "error" else found[:SHOWN_NOTES]
                lines += [
                    f"  {problem.file or problem.record_id or self.path}: {problem.sentence}" for problem in shown
                ]
                if len(found) > len(shown):
                    lines.append(f"  … and {len(found) - len(shown)} more (`.problems`, --json)")
        return "\n".join(lines)


def _by_kind(problems: Sequence[Problem], severity: str) -> dict[str, list[Problem]]:
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        if problem.severity == severity:
            kinds.setdefault(problem.kind, []).append(problem)
    return kinds
