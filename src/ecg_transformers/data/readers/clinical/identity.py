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
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from ecg_transformers.data.cache import cache_folders

KEY_NAME = "identity.key"
KEY_VARIABLE = "ECG_IDENTITY_KEY"
_LETTERS = str.maketrans(
    "0123456789abcdef", "bcdfghjklmnpqrst"
)  # no digits: a stand-in never looks like an id or a date
_EMPTY = {"", "---", "unknown", "none", "anonymous", "anonymized", "x"}
HIDDEN = "[hidden]"
_MOST_SOUGHT = 100_000
"""Characters of all words that are looked for in a file's texts; where there are more, the texts are withheld."""
_TOKEN = re.compile(r"\w+|\W")
_DOTLESS = str.maketrans("İı", "ii")
_TITLE = re.compile(r"^(?:(?:dr|prof|med|mr|mrs|ms|md)\b\.?\s*)+", re.IGNORECASE)
Texts = TypeVar("Texts")


@dataclass
class Patient:
    """What a file says of its patient.

    Attributes:
        id: the file's own id, "" where it has none.
        names: last name, given names; kept with `keep_identity=True` only, as are the birth date and `others`.
        birth_date: `YYYY-MM-DD`.
        age: years.
        sex: "M", "F" or "".
        others: further texts that identify (other ids, physicians, rooms).
    """

    id: str = ""
    names: list[str] = field(default_factory=list)
    birth_date: str = ""
    age: float | None = None
    sex: str = ""
    others: dict[str, str] = field(default_factory=dict)

    def patient_id(self, keep: bool) -> str | None:
        """The id as asked for: the file's own, or its stand-in; None where there is none."""
        own = clean(self.id)
        if own.lower() in _EMPTY:
            return None
        return own if keep else stand_in(own)

    def metadata(self, keep: bool, acquired: str = "") -> dict[str, Any]:
        """Age, sex, and the identity where it is asked for; the age follows from the birth date where it is missing."""
        age = self.age if self.age is not None else years_between(self.birth_date, acquired)
        facts: dict[str, Any] = {}
        if age is not None and 0 <= age <= 150:
            facts["age"] = round(age, 2) if age % 1 else int(age)
        if self.sex:
            facts["sex"] = self.sex
        if keep:
            identity = {"name": " ".join(clean(name) for name in self.names if clean(name))}
            identity |= {"birth_date": self.birth_date, **{key: clean(value) for key, value in self.others.items()}}
            facts["identity"] = {key: value for key, value in identity.items() if value}
        return facts

    def hide_in(self, value: Texts) -> Texts:
        """Texts (and lists and dictionaries of them) with the patient's names, id and birth date taken out."""
        names = [part for name in self.names for part in re.split(r"[\s,^/=]+", clean(name))]
        names += [one + two for one, two in pairwise(names) if _has_no_case(one + two)]  # written without a gap
        others = [clean(self.id), *birth_spellings(self.birth_date)]
        for other in map(clean, self.others.values()):  # of a DICOM name its parts, of a physician the name alone
            others += [other, *other.split("^"), _TITLE.sub("", other)]
        words = {word for word in names + others if len(word) > 2} | {word for word in names if _is_short_name(word)}
        words = {word for word in words if word.lower() not in _EMPTY}
        if not words:
            return value
        return _hidden(value, _Words(words)) if sum(map(len, words)) <= _MOST_SOUGHT else _withheld(value)


def _is_short_name(word: str) -> bool:
    """Whether a word of two signs is a name and no number; an initial is none."""
    return len(word) == 2 and word.isalpha()


def _has_no_case(word: str) -> bool:
    """Whether a word is of a script like Chinese, Japanese or Korean."""
    return word.isalpha() and word.lower() == word.upper()


class _Words:
    """Finds words where they stand alone, short ones only spelt as names are; signs without case need no gaps.

    All words are looked for at once (Aho and Corasick 1975), so a text costs its length, however many words there are.
    """

    def __init__(self, words: set[str]) -> None:
        gapless = {word for word in words if _has_no_case(word)}
        short = {word for word in words - gapless if len(word) == 2}
        self.exact = {spelt for word in short for spelt in (word, word.upper(), word.capitalize())}
        self.alone = _Automaton([_folded(token) for token in _TOKEN.findall(word)] for word in words - gapless - short)
        self.gapless = _Automaton(gapless)

    def hide(self, text: str) -> str:
        spans = self.gapless.spans(text, range(len(text) + 1)) if self.gapless else []
        matches = list(_TOKEN.finditer(text))
        edges = [*(match.start() for match in matches), len(text)]
        tokens = [match[0] for match in matches]
        spans += [(edges[i], edges[i + 1]) for i, token in enumerate(tokens) if token in self.exact]
        if self.alone:
            spans += self.alone.spans([_folded(token) for token in tokens], edges)
        parts, at = [], 0
        for start, stop in _joined(spans):
            parts += [text[at:start], HIDDEN]
            at = stop
        return "".join([*parts, text[at:]])


class _Automaton:
    """Sequences of symbols, all found in one pass over a longer one."""

    def __init__(self, words: Iterable[Sequence[str]]) -> None:
        self.next: list[dict[str, int]] = [{}]
        self.longest = [0]
        """For each state the length of the longest word that ends there."""
        for word in words:
            state = 0
            for symbol in word:
                if symbol not in self.next[state]:
                    self.next[state][symbol] = len(self.next)
                    self.next.append({})
                    self.longest.append(0)
                state = self.next[state][symbol]
            self.longest[state] = len(word)
        self.shorter = [0] * len(self.next)
        """For each state that of its longest end which is a beginning of some word."""
        queue = deque(self.next[0].values())
        while queue:
            state = queue.popleft()
            for symbol, deeper in self.next[state].items():
                self.shorter[deeper] = self._step(self.shorter[state], symbol)
                self.longest[deeper] = self.longest[deeper] or self.longest[self.shorter[deeper]]
                queue.append(deeper)

    def __bool__(self) -> bool:
        return len(self.next) > 1

    def _step(self, state: int, symbol: str) -> int:
        while state and symbol not in self.next[state]:
            state = self.shorter[state]
        return self.next[state].get(symbol, 0)

    def spans(self, symbols: Sequence[str], edges: Sequence[int]) -> list[tuple[int, int]]:
        """From where to where words stand; `edges` says where each symbol begins, and where the last one ends."""
        found, state = [], 0
        for place, symbol in enumerate(symbols, 1):
            state = self._step(state, symbol)
            if self.longest[state]:
                found.append((edges[place - self.longest[state]], edges[place]))
        return found


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that overlap as one."""
    result: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if result and start < result[-1][1]:
            result[-1] = (result[-1][0], max(stop, result[-1][1]))
        else:
            result.append((start, stop))
    return result


def _folded(text: str) -> str:
    """Without regard to case, the Turkish letters included."""
    return text.translate(_DOTLESS).casefold()


def _hidden(value: Any, words: _Words) -> Any:
    if isinstance(value, str):
        return words.hide(value)
    if isinstance(value, dict):
        return {_hidden(key, words): _hidden(part, words) for key, part in value.items()}
    return [_hidden(part, words) for part in value] if isinstance(value, list) else value


def _withheld(value: Any, within: bool = False) -> Any:
    """Nothing of what was written but the names that we give to it, which are the keys of the outer dictionary."""
    if isinstance(value, dict):
        return {HIDDEN: HIDDEN} if within else {key: _withheld(part, True) for key, part in value.items()}
    return [HIDDEN] if isinstance(value, list) else HIDDEN if isinstance(value, str) else value


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


def birth_spellings(birth_date: str) -> list[str]:
    """The usual ways to write a date, to find it in free text."""
    try:
        born = date.fromisoformat(birth_date)
    except ValueError:
        return []
    forms = ("%Y-%m-%d", "%Y%m%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y", "%d-%b-%Y", "%Y/%m/%d")
    return [born.strftime(form) for form in forms]
