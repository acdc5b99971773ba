"""Who the patient is: hidden behind a stand-in that is the same in all files of the same user.

The stand-in is a keyed hash of the file's own id. Ids of hospitals are short numbers, so a hash without a key could be
undone by trying them all; the key is made once at random and stays with the user's data (`identity.key` in
`ECG_CACHE_DIR`, else in the user's cache folder). A group that wants the same stand-ins on several machines copies that
file, or sets `ECG_IDENTITY_KEY`.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from ecg_transformers.data.cache import cache_folders
from ecg_transformers.data.readers.clinical.hiding import NO_IDENTITY, Hiding, Texts

MAX_TEXTS_OF_IDENTITY = 2000
KEY_NAME = "identity.key"
KEY_VARIABLE = "ECG_IDENTITY_KEY"
_LETTERS = str.maketrans(
    "0123456789abcdef", "bcdfghjklmnpqrst"
)  # no digits: a stand-in never looks like an id or a date

AGE_UNITS = {"years": 1.0, "months": 1 / 12, "weeks": 7 / 365.25, "days": 1 / 365.25, "hours": 1 / 8766}
"""Years in each unit that carts count an age in."""
_NO_ID = NO_IDENTITY | {"anon", "anonymised", "n/a", "na", "null", "no id", "removed"}
_SAYS_NOTHING = re.compile(r"[\sXx0?*.\-_]*")
"""Ids such as `000000` and `XXXX`: all who have one would be the same patient."""


@dataclass
class Patient:
    """What a file says of its patient.

    Attributes:
        id: the file's own id, "" where it has none.
        names: last name, given names; kept with `keep_identity=True` only, as are the birth date, `others` and `places`.
        birth_date: `YYYY-MM-DD`.
        age: years.
        sex: "M", "F" or "".
        others: further ids, and names of physicians and others.
        places: hospitals, departments, rooms, addresses.
    """

    id: str = ""
    names: list[str] = field(default_factory=list)
    birth_date: str = ""
    age: float | None = None
    sex: str = ""
    others: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def patient_id(self, keep: bool) -> str | None:
        """The id as asked for: the file's own, or its stand-in; None where there is none."""
        own = self._own_id
        return None if not own else own if keep else stand_in(own)

    @property
    def _own_id(self) -> str:
        """The id, "" for one that only says that there is none."""
        own = clean(self.id)
        return "" if own.lower() in _NO_ID or _SAYS_NOTHING.fullmatch(own) else own

    def metadata(self, keep: bool, acquired: str = "") -> dict[str, Any]:
        """Age, sex, and the identity where it is asked for; the age follows from the birth date where it is missing."""
        age = self.age if self.age is not None else years_between(self.birth_date, acquired)
        facts: dict[str, Any] = {}
        if age is not None and 0 <= age <= 150:
            facts["age"] = round(age, 2) if age % 1 else int(age)
        if self.sex:
            facts["sex"] = self.sex
        if keep:
            identity = {key: clean(value) for key, value in {**self.others, **self.places}.items()}
            names = " ".join(clean(name) for name in self.names if clean(name))
            identity = {"name": names, "birth_date": self.birth_date, **identity}
            facts["identity"] = {key: value for key, value in identity.items() if value}
        return facts

    def hide_in(self, value: Texts, *, may_be_cut: bool = False) -> Texts:
        """Texts (and lists and dictionaries of them) with all that identifies the patient taken out.

        `may_be_cut` is for sentences that quote no more than the beginnings of what a file has.
        """
        others = [clean(text) for text in self.others.values()]
        hiding = Hiding(
            names=[clean(" ".join(self.names))],
            others=[text for text in others if not _has_digits(text)],
            codes=[self._own_id, *filter(_has_digits, others)],
            places=[clean(text) for text in self.places.values()],
            dates=[self.birth_date],
            may_be_cut=may_be_cut,
        )
        return hiding.hide_in(value)


def add_text(found: dict[str, str], name: str, text: str) -> None:
    """Note a text that identifies under the name that a file has for it; a second one of that name is `NAME 2`."""
    if text and text not in found.values() and len(found) < MAX_TEXTS_OF_IDENTITY:
        number = 1
        while (key := name if number == 1 else f"{name} {number}") in found:
            number += 1
        found[key] = text


def _has_digits(text: str) -> bool:
    return any(map(str.isdigit, text))


def stand_in(own_id: str) -> str:
    """Sixteen letters that are the same for one id in all files of a user, and tell nothing without the key."""
    digest = hmac.new(identity_key(), own_id.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
    return digest[:16].translate(_LETTERS)


def identity_key() -> bytes:
    """The key of this user, made when it is first needed.

    Where no folder can be written the key lives in the environment of the process (and of those it starts): stand-ins
    are then the same within one run only.
    """
    given = os.environ.get(KEY_VARIABLE)
    if given:
        return hashlib.sha256(given.encode()).digest()
    for folder in cache_folders():
        if folder in _KEYS:
            return _KEYS[folder]
        with contextlib.suppress(OSError):
            _KEYS[folder] = _key_in(folder)
            return _KEYS[folder]
    os.environ[KEY_VARIABLE] = secrets.token_hex(32)
    return hashlib.sha256(os.environ[KEY_VARIABLE].encode()).digest()


_KEYS: dict[Path, bytes] = {}
"""Keys that this process has read, by folder."""


def _key_in(folder: Path) -> bytes:
    """The key file of a folder; of several processes that make one at once all take the first."""
    path = folder / KEY_NAME
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{KEY_NAME}-{os.getpid()}-{secrets.token_hex(4)}"
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(secrets.token_hex(32).encode())
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)  # unlike a rename, never over the file of another process
        finally:
            draft.unlink(missing_ok=True)
    content = path.read_bytes()
    if len(content) < 32:
        raise OSError(f"{path} holds no key.")
    return hashlib.sha256(content).digest()


def clean(text: str) -> str:
    """A text without NUL, control characters and blanks around it."""
    return " ".join(text.translate({ord(sign): " " for sign in set(text) if not sign.isprintable()}).split())


def sex_of(text: str) -> str:
    """M or F; an empty text for anything that is not clearly one of them."""
    word = text.strip().lower()
    if word in ("m", "male", "man", "männlich", "masculin", "hombre", "1"):
        return "M"
    return "F" if word in ("f", "female", "woman", "w", "weiblich", "féminin", "mujer", "2") else ""


def iso_date(year: int, month: int, day: int) -> str:
    """`YYYY-MM-DD`, or "" for what is no date."""
    try:
        return date(year, month, day).isoformat()
    except (ValueError, OverflowError):
        return ""


def iso_time(day: str, hour: int = 0, minute: int = 0, second: int = 0) -> str:
    """`YYYY-MM-DDTHH:MM:SS`; the date alone where the time is none."""
    sound = 0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 61
    return f"{day}T{hour:02}:{minute:02}:{min(second, 59):02}" if day and sound else day


def time_of_digits(text: str) -> str:
    """A time written `YYYYMMDD[HH[MM[SS]]]…`, as HL7 and DICOM have it, in our form; "" for anything else.

    It is the time of the place; how far that is from Greenwich (`+0100`, `-0330`) may stand behind it.
    """
    match = re.match(r"\s*(\d{4})(\d{2})(\d{2})((?:\d{2}){1,3})?", text)
    if match is None:
        return ""
    day = iso_date(int(match[1]), int(match[2]), int(match[3]))
    clock = match[4]
    return iso_time(day, int(clock[:2]), int(clock[2:4] or 0), int(clock[4:6] or 0)) if clock else day


def day_of_digits(text: str) -> str:
    """A date written `YYYYMMDD…` in our form; "" for anything else."""
    return time_of_digits(text)[:10]


def time_of_texts(day: str, clock: str) -> str:
    """A date `YYYY-MM-DD` (or with other signs between) and a time `HH:MM:SS` in our form."""
    digits = re.match(r"\s*(\d{4})\D(\d{1,2})\D(\d{1,2})\s*$", day)
    own = iso_date(*map(int, digits.groups())) if digits else ""
    parts = re.match(r"\s*(\d{1,2})\D(\d{1,2})(?:\D(\d{1,2}))?", clock)
    return iso_time(own, *(int(part or 0) for part in parts.groups())) if own and parts else own


def years_between(birth_date: str, acquired: str) -> float | None:
    """Whole years from a birth date to a time, both as this module writes them; None where one is missing."""
    try:
        born, then = date.fromisoformat(birth_date[:10]), date.fromisoformat(acquired[:10])
    except ValueError:
        return None
    years = then.year - born.year - ((then.month, then.day) < (born.month, born.day))
    return float(years) if 0 <= years <= 150 else None
