"""Records that public sources name as bad: left out, or kept with a flag, and counted either way.

The table `known_records` says the kind of each and whether the record is *unusable*, that is holds no signal at all.
It lists what public sources name, not everything there is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ecg_transformers.data.corpora.base import Item
from ecg_transformers.data.corpora.shared.packaged import packaged_table
from ecg_transformers.data.corpora.shared.search import some_of

POLICIES = ("skip", "skip_all", "keep")
"""`skip` leaves out records without any signal and withdrawn ones, `skip_all` also those with a damaged part and
copies of other records, `keep` none."""

_PARTLY_BAD = ("signal", "header", "duplicate")


@dataclass(frozen=True)
class KnownRecord:
    """What is known of a record. `kind` is "signal", "header", "duplicate", "withdrawn", "amplitude", …"""

    kind: str
    unusable: bool
    other_copy: str = ""


def known_records(*corpora: str) -> dict[str, list[KnownRecord]]:
    """Known records of some corpora (names of the table), by record id."""
    known: dict[str, list[KnownRecord]] = defaultdict(list)
    for row in packaged_table("known_records"):
        if row["corpus"] in corpora:
            known[row["record"]].append(KnownRecord(row["kind"], row["unusable"] == "1", row["other_copy"]))
    return known


def withdrawn_ptb_xl() -> dict[str, list[KnownRecord]]:
    """The 38 records of PTB-XL 1.0.1 that 1.0.3 withdrew, by their names in the Challenges (`HR00137`)."""
    return {row["challenge_record"]: [KnownRecord("withdrawn", True)] for row in packaged_table("ptb_xl_withdrawn_ids")}


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
        reason = next((entry.kind for entry in entries if _leaves_out(entry, policy)), None)
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


def copies_of(known: dict[str, list[KnownRecord]]) -> dict[str, str]:
    """Records that are known copies, with the other copy: they must stay in one part."""
    return {name: entry.other_copy for name, entries in known.items() for entry in entries if entry.other_copy}


def _leaves_out(entry: KnownRecord, policy: str) -> bool:
    if policy == "keep":
        return False
    return entry.unusable or (policy == "skip_all" and entry.kind in _PARTLY_BAD)
