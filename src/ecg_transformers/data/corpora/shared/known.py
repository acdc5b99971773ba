"""Records that public sources name as bad: left out, or kept with a flag, and counted either way.

The table `known_records` says the kind of each. It lists what public sources name, not everything there is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ecg_transformers.data.corpora.base import Item
from ecg_transformers.data.corpora.shared.packaged import packaged_table
from ecg_transformers.data.corpora.shared.search import some_of

POLICIES = ("skip", "skip_all", "keep")
"""`skip` leaves out records whose signal is bad, copies of others and withdrawn ones, `skip_all` also half hours of
which one lead is bad (INCART: the beats and the other leads are sound), `keep` none."""

_LEFT_OUT = {"skip": ("signal", "duplicate", "withdrawn"), "skip_all": ("signal", "duplicate", "withdrawn", "lead")}


@dataclass(frozen=True)
class KnownRecord:
    """What is known of a record. `kind` is "signal", "duplicate", "withdrawn", "lead" or, of what stays, "header"
    (which the loaders put right), "amplitude", "length", "metadata", "unverified", …
    """

    kind: str
    other_copy: str = ""


def known_records(*corpora: str) -> dict[str, list[KnownRecord]]:
    """Known records of some corpora (names of the table), by record id."""
    known: dict[str, list[KnownRecord]] = defaultdict(list)
    for row in packaged_table("known_records", 2):
        if row["corpus"] in corpora:
            known[row["record"]].append(KnownRecord(row["kind"], row["other_copy"]))
    return known


def withdrawn_ptb_xl() -> dict[str, list[KnownRecord]]:
    """The 38 records of PTB-XL 1.0.1 that 1.0.3 withdrew, by their names in the Challenges (`HR00137`)."""
    return {row["challenge_record"]: [KnownRecord("withdrawn")] for row in packaged_table("ptb_xl_withdrawn_ids")}


def apply_known(
    items: Sequence[Item], known: dict[str, list[KnownRecord]], policy: str
) -> tuple[list[Item], dict[str, int], list[str]]:
    """Items that stay (with a flag `known_<kind>`), numbers left out by reason, and sentences with the ids."""
    kept: list[Item] = []
    left: dict[str, list[str]] = defaultdict(list)
    flagged: dict[str, list[str]] = defaultdict(list)
    for item in items:
        entries = known.get(item.record_id)
        if not entries:
            kept.append(item)
            continue
        reason = next((entry.kind for entry in entries if entry.kind in _LEFT_OUT.get(policy, ())), None)
        if reason is not None:
            left[reason].append(item.record_id)
            continue
        for entry in entries:
            flagged[entry.kind].append(item.record_id)
        flags = [*item.metadata.get("flags", []), *(f"known_{entry.kind}" for entry in entries)]
        kept.append(replace(item, metadata={**item.metadata, "flags": sorted(set(flags))}))
    notes = [f"known records left out ({kind}): {some_of(names, 50)}" for kind, names in sorted(left.items())]
    notes += [
        f"known records kept with a flag ({kind}): {some_of(names, 50)}" for kind, names in sorted(flagged.items())
    ]
    excluded = Counter({f"known bad record ({kind})": len(names) for kind, names in left.items()})
    return kept, dict(excluded), notes


def copies_of(known: dict[str, list[KnownRecord]]) -> list[tuple[str, str]]:
    """Records that are known copies, with the other copy: they must stay in one part."""
    return [(name, entry.other_copy) for name, entries in known.items() for entry in entries if entry.other_copy]


def sentence_of_known(known: dict[str, list[KnownRecord]]) -> str:
    """For a fact sheet: how many records are left out by default; empty where none are."""
    kinds = Counter(next((e.kind for e in entries if e.kind in _LEFT_OUT["skip"]), "") for entries in known.values())
    kinds.pop("", None)
    if not kinds:
        return ""
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"Records that public sources name as bad are left out and counted ({listed}); bad_records='keep' keeps them, flagged."
