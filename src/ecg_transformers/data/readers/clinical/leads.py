"""Lead names of hospital formats: numbers of SCP-ECG and MDC, texts of DICOM; one name for one column."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ecg_transformers.data.record import standard_lead_name

# ISO 11073-91064 table of lead numbers; DICOM (CID 3001) uses the same behind "2:" and "5.6.3-9-".
LEAD_OF_NUMBER: dict[int, str] = {1: "I", 2: "II", 9: "V7", 10: "V2R", 16: "X", 17: "Y", 18: "Z"}
LEAD_OF_NUMBER |= {number: f"V{number - 2}" for number in range(3, 9)}
LEAD_OF_NUMBER |= {number: f"V{number - 8}R" for number in range(11, 16)}
LEAD_OF_NUMBER |= {61: "III", 62: "aVR", 63: "aVL", 64: "aVF", 65: "-aVR", 66: "V8", 67: "V9"}

_ECG_LEADS = {name.upper(): name for name in LEAD_OF_NUMBER.values()}
_ECG_LEADS |= {f"V{number}R": f"V{number}R" for number in range(1, 10)}
_LONGEST_NAME = 200
_CODE = re.compile(r"^(?:2:|5\.6\.3-9-)(\d{1,3})$")
_REFERENCE = re.compile(r"^MDC_ECG_LEAD_(\w+)$", re.IGNORECASE)


def lead_of_code(code: str) -> str | None:
    """The lead of a coded value: `2:1`, `5.6.3-9-62` or `MDC_ECG_LEAD_AVF`; None for any other code."""
    code = code.strip()
    numbered = _CODE.match(code)
    if numbered:
        return LEAD_OF_NUMBER.get(int(numbered.group(1)))
    named = _REFERENCE.match(code)
    return lead_of_text(named.group(1)) if named else None


def lead_of_text(text: str) -> str:
    """A lead from words: `Lead I (Einthoven)` and `lead aVR, augmented` give the lead; other texts stay as they are."""
    text = text[:_LONGEST_NAME]
    bare = re.sub(r"\([^)]*\)|\[[^\]]*\]", " ", text).partition(",")[0]
    bare = " ".join(re.sub(r"(?i)\blead\b", " ", bare).split()) or text.strip()
    if bare.startswith(("-", "−")):  # an inverted lead is another lead
        return bare.replace("−", "-")
    return _ECG_LEADS.get(bare.upper()) or standard_lead_name(bare)


def is_ecg_lead(name: str) -> bool:
    """Whether a name is that of a lead: standard, right-sided, posterior or Frank."""
    return name.upper() in _ECG_LEADS


def distinct_names(names: Sequence[str], flags: list[str]) -> list[str]:
    """The same names, later ones of a kind numbered (`ECG`, `ECG 2`); the flag says so."""
    taken: set[str] = set()
    counts: dict[str, int] = {}  # where to go on: of four thousand equal names each would be tried for each
    result = []
    for name in names:
        own, count = name, counts.get(name.lower(), 1)
        while own.lower() in taken:
            count += 1
            own = f"{name} {count}"
        counts[name.lower()] = count
        taken.add(own.lower())
        result.append(own)
    if result != list(names):
        flags.append("lead_names_numbered")
    return result
