"""Free texts without the words, numbers and dates that tell who a patient is.

What identifies is brought into one spelling: no case, no accents, nothing but letters and digits (and, where a text has
them, umlauts written as two letters, numbers without leading zeros). A text is cut into words once, and every word, with
those that follow it as long as together they begin something that identifies, is looked up: the time grows with the text
and not with the number of names. Dates are understood instead of compared, since there are hundreds of ways to write one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from functools import lru_cache
from itertools import islice, pairwise
from typing import Any, TypeVar

HIDDEN = "[hidden]"
NO_IDENTITY = {"", "---", "unknown", "none", "anonymous", "anonymized", "x"}
Texts = TypeVar("Texts")

_LONGEST, _MOST_WORDS = 128, 16
_MOST_SIGNS = 2**18
"""Of all that identifies one patient; where there are more, texts are withheld."""
_WORD = re.compile(r"\d+|[^\W\d_](?:(?!(?<=[a-zß-öø-ÿ])[A-ZÀ-ÖØ-Þ])[^\W\d_])*")
_PART = re.compile(r"\d+|[^\W\d_]+")
_NAME = re.compile(r"[^\W\d_]+")
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"})
_TRANSCRIBED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_GAP = 3
"""Signs that may stand between the parts of a number or of a name: `12 - 345`."""
_SAID_OFTEN = (
    "von van vom der die den dem des del della das dos los las les bin ibn ben zum zur ter ten und and the do no low max "
    "see was per may"
)
_PARTICLES = frozenset(_SAID_OFTEN.split())
"""Parts of names, and names, that texts are full of: they are hidden where they are spelt as names only."""
_TITLES = frozenset(("dr", "prof", "med", "mr", "mrs", "ms", "md", "herr", "frau", "st", "jr", "sr", "phd"))
_EVERYBODYS = (
    "hospital hospitals klinik kliniken klinikum clinic clinics clinique clinica krankenhaus hopital ospedale praxis practice "
    "center centre zentrum institut institute university universitat medical medicine medizin medizinische health department "
    "abteilung station ward unit room zimmer raum floor site location building street strasse road avenue street city "
    "emergency notaufnahme ambulanz ambulance outpatient inpatient intensive care intensivstation cardiology kardiologie "
    "cardiologie cardiac heart herz surgery internal innere general office laboratory labor main north south east west "
    "startdate electrocardiogram elektrokardiogramm device system left right anterior posterior inferior lateral septal "
    "ventricular atrial sinus rhythm normal block bundle branch wave segment infarct infarction ischemia hypertrophy"
)
"""Words of hospitals and of ECG reports, which tell nothing where a place is called so."""
_ORDINARY = frozenset(_EVERYBODYS.split())
_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "i jan january januar janner janvier enero gennaio januari janeiro jaenner jänner",
            "ii feb february februar feber fev fevr fevrier febrero febbraio februari fevereiro",
            "iii mar march marz maerz mrz mars marzo maart mrt marco",
            "iv apr april avr avril abr abril aprile",
            "v may mai mayo maggio mag mei maj maio",
            "vi jun june juni juin junio giugno giu junho",
            "vii jul july juli juil juillet julio luglio lug julho",
            "viii aug august aout ago agosto augustus augusti",
            "ix sep sept september septembre septiembre settembre set setembro",
            "x oct october okt oktober octobre octubre ottobre ott outubro out",
            "xi nov november novembre noviembre novembro",
            "xii dec december dez dezember decembre dic diciembre dicembre dezembro",
        ),
        1,
    )
    for name in names.split()
}
_BETWEEN = r"[\s./\-–_:,年月년월]{1,3}['’]?"
_MAYBE = r"[\s./\-–_,]{0,3}(?:(?:of|de|del)\s)?['’]?"
_NTH = r"(?:st|nd|rd|th|er|\.|º)?"
_MONTH = r"([^\W\d_]{1,12})"
_DATES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"(?<!\d)(?=(\d{{1,4}}){_BETWEEN}(\d{{1,2}}){_BETWEEN}(\d{{1,4}})(?!\d))"), "numbers"),
    (re.compile(rf"(?<!\d)(?=(\d{{1,2}}){_NTH}{_MAYBE}{_MONTH}{_MAYBE}(\d{{2}}|\d{{4}})(?!\d))"), "dmy"),
    (re.compile(rf"(?<![^\W\d_])(?={_MONTH}{_MAYBE}(\d{{1,2}}){_NTH}{_BETWEEN}(\d{{2}}|\d{{4}})(?!\d))"), "mdy"),
    (re.compile(rf"(?<!\d)(?=(\d{{4}}){_MAYBE}{_MONTH}{_MAYBE}(\d{{1,2}})(?!\d))"), "ymd"),
    (re.compile(rf"(?<![^\W\d_])(?={_MONTH}{_MAYBE}(\d{{4}})(?!\d))"), "my"),
    (re.compile(r"(?<![\d./\-])(?=(\d{1,2})[./\-](\d{4})(?![\d./\-]))"), "my"),
    (re.compile(r"(?<![\d./\-])(?=(\d{4})[./\-](\d{1,2})(?![\d./\-]))"), "ym"),
    (re.compile(r"(?<!\d)(?=(\d{6}|\d{8}|\d{12}|\d{14})(?!\d))"), "run"),
)
_CLOCK = re.compile(r"T\d{2}:?\d{2}(?::?\d{2}(?:[.,]\d+)?)?(?:Z|[+\-]\d{2}:?\d{2})?")


class Hiding:
    """What identifies one patient, ready to be taken out of texts.

    Args:
        names: of persons; each of their words is hidden, with the endings that languages put to names.
        codes: numbers and other ids; with any signs between their parts, or none.
        places: hospitals, rooms, addresses; hidden as a whole, and by their words that are not in everybody's mouth.
        dates: dates of birth, `YYYY-MM-DD`.
    """

    def __init__(
        self, names: Iterable[str], codes: Iterable[str] = (), places: Iterable[str] = (), dates: Iterable[str] = ()
    ) -> None:
        self.names: set[str] = set()
        self.short: set[str] = set()
        self.codes: set[str] = set()
        self.without_case: set[str] = set()
        self.dates: set[tuple[int, int, int]] = set()
        self._left = _MOST_SIGNS
        names, codes = self._within(names), self._within(codes)
        for born in dates:
            self._add_date(born)
        for text in (*names, *codes):  # a field for a name may hold a birth date too
            self._add_dates_in(text)
        for name in names:
            self._add_name(name)
        for code in codes:
            self._add_code(code)
        for place in self._within(places):
            self._add_place(place)
        known = self.names | self.short | self.codes
        self.beginnings = {word[:end] for word in known for end in range(1, len(word) + 1)}
        self.lengths = sorted({len(word) for word in self.without_case}, reverse=True)
        signs = "".join(sorted({re.escape(word[0]) for word in self.without_case}))
        self.first_signs = re.compile(f"[{signs}]") if signs else None

    def __bool__(self) -> bool:
        return bool(self.beginnings or self.without_case or self.dates)

    def hide_in(self, value: Texts) -> Texts:
        """A text, or lists and dictionaries of texts, with `[hidden]` for all that identifies."""
        if self._left < 0:
            return _each_text(value, lambda _: HIDDEN)
        return _each_text(value, self._hidden) if self else value

    def _within(self, texts: Iterable[str]) -> list[str]:
        kept = [unicodedata.normalize("NFC", text) for text in texts]
        self._left -= sum(map(len, kept))
        return kept if self._left >= 0 else []

    def _add_name(self, name: str) -> None:
        """The words of a name, and neighbours written without a gap, as user names and some scripts do."""
        parts = [part for part in re.split(r"[\s,;^/=_]+", name) if part.lower() not in NO_IDENTITY]
        own = [part for part in parts if _has_no_case(part)]
        self.without_case |= {word for word in own if len(word) > 1}
        self.without_case |= {one + two for one, two in pairwise(own)} | {two + one for one, two in pairwise(own)}
        words = [word for part in parts if not _has_no_case(part) for word in (part, *_NAME.findall(part))]
        spelt = {way for word in dict.fromkeys(words) for way in _spellings(word)} - _TITLES
        self.short |= {word for word in spelt if word in _PARTICLES or (len(word) == 2 and word.isalpha())}
        self.names |= {word for word in spelt - self.short if len(word) > 2}  # an initial is no name
        for one, two in pairwise([way[: _LONGEST // 2] for way in map(_plain, parts) if way and way not in _TITLES]):
            self.names |= {one + two, two + one}
            self.names |= {one[0] + two, two[0] + one} if len(two) > 2 and len(one) > 2 else set()

    def _add_code(self, code: str) -> None:
        """An id in one piece, without leading zeros, and its digits alone where they are many."""
        if code.strip().lower() in NO_IDENTITY:
            return
        parts = _PART.findall(code)
        for spelling in (_plain, _transcribed, _without_zeros):
            self._add_phrase("".join(map(spelling, parts)))
        digits = [part for part in parts if part.isdecimal()]
        for number in ("".join(digits), *digits):
            if len(number.lstrip("0")) >= 5:
                self.codes |= {number[:_LONGEST], _without_zeros(number)[:_LONGEST]}
        self.names |= {
            way for part in parts if len(part) > 3 and part.isalpha() for way in _spellings(part)
        } - _ORDINARY

    def _add_place(self, place: str) -> None:
        for part in (place, *re.split(r"[,;^\n]+", place)):
            for spelling in (_plain, _transcribed):
                phrase = "".join(map(spelling, _PART.findall(part)))
                if phrase not in _ORDINARY and len(phrase) > (3 if phrase.isalpha() else 2):
                    self._add_phrase(phrase)
        words = {way for word in _NAME.findall(place) if len(word) > 3 for way in _spellings(word)}
        self.names |= words - _ORDINARY - _PARTICLES - _TITLES
        self.without_case |= {part for part in re.split(r"[\s,;^]+", place) if _has_no_case(part) and len(part) > 2}

    def _add_phrase(self, phrase: str) -> None:
        if 2 < len(phrase) <= _LONGEST:
            self.codes.add(phrase)

    def _add_date(self, text: str) -> None:
        try:
            born = date.fromisoformat(text[:10])
        except ValueError:
            return
        self.dates.add((born.year, born.month, born.day))

    def _add_dates_in(self, text: str) -> None:
        for year, first, second in islice(re.findall(r"(?<!\d)(1[89]\d\d|20\d\d)-?(\d\d)-?(\d\d)(?!\d)", text), 4):
            self._add_date(f"{year}-{first}-{second}")
        for match in islice(re.finditer(r"(?<!\d)(\d{1,2})[./\-](\d{1,2}|[A-Za-z]{3})[./\-](\d{4})(?!\d)", text), 4):
            first, second, year = match.groups()
            month = int(second) if second.isdecimal() else _MONTHS.get(second.lower(), 0)
            for pair in ((month, int(first)), (int(first), month)):
                self._add_date(f"{year}-{pair[0]:02}-{pair[1]:02}")

    def _hidden(self, text: str) -> str:
        text = unicodedata.normalize("NFC", text)
        spans = sorted([*self._words_in(text), *self._caseless_in(text), *self._dates_in(text)])
        kept, at = [], 0
        for start, stop in spans:
            if start >= at:
                kept += [text[at:start], HIDDEN]
            at = max(at, stop)
        return "".join([*kept, text[at:]])

    def _words_in(self, text: str) -> Iterator[tuple[int, int]]:
        """Where names, ids and places stand, by all spellings of the text."""
        words = list(_WORD.finditer(text)) if self.beginnings else []
        done: list[list[str]] = []
        for spelling in (_plain, _transcribed, _without_zeros):
            keys = [spelling(match.group()) for match in words]
            if keys in done:
                continue
            done.append(keys)
            for place, key in enumerate(keys):
                if key in self.beginnings:
                    last = self._last_word(words, keys, place)
                else:
                    last = place if self._identifies(key, key, key) else None
                if last is not None:
                    yield words[place].start(), words[last].end()

    def _last_word(self, words: list[re.Match[str]], keys: list[str], place: int) -> int | None:
        """The last word of the longest thing that identifies and begins at a place, None where none does."""
        found, joined = None, ""
        for at in range(place, min(place + _MOST_WORDS, len(words))):
            if at > place and words[at].start() - words[at - 1].end() > _GAP:
                break
            joined += keys[at]
            if self._identifies(joined, words[place].group(), keys[at]):
                found = at
            if joined not in self.beginnings:
                break
        return found

    def _identifies(self, joined: str, first_word: str, last_word: str) -> bool:
        if joined in self.names or joined in self.codes:
            return True
        if joined in self.short:  # a preposition or a symbol, unless it is spelt as a name
            return not first_word.islower()
        if not joined.isalpha():
            return False
        if len(last_word) > 1 and joined[:-1] in self.names:  # with an ending, as `Brombachs`
            return joined[-1] == "s" or len(joined) > 5
        return len(last_word) > 2 and len(joined) > 6 and joined[:-2] in self.names

    def _caseless_in(self, text: str) -> Iterator[tuple[int, int]]:
        """Where names stand in scripts that need no gaps between words."""
        for match in self.first_signs.finditer(text) if self.first_signs else ():
            for length in self.lengths:
                if text[match.start() : match.start() + length] in self.without_case:
                    yield match.start(), match.start() + length
                    break

    def _dates_in(self, text: str) -> Iterator[tuple[int, int]]:
        for pattern, order in _DATES if self.dates else ():
            for match in pattern.finditer(text):
                if any(_is_date(match.groups(), order, born) for born in self.dates):
                    stop = match.end(match.re.groups)
                    clock = _CLOCK.match(text, stop)
                    yield match.start(1), clock.end() if clock else stop


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_each_text(key, change): _each_text(part, change) for key, part in value.items()}
    return [_each_text(part, change) for part in value] if isinstance(value, list) else value


def _has_no_case(word: str) -> bool:
    """Whether a word is of a script like Chinese, Arabic or Hindi."""
    return any(map(str.isalpha, word)) and word.lower() == word.upper()


@lru_cache(maxsize=8192)
def _plain(word: str) -> str:
    """Letters and digits of a word without case and accents."""
    marked = unicodedata.normalize("NFKD", word.casefold().translate(_LETTERS))
    return "".join(sign for sign in marked if sign.isalnum())


@lru_cache(maxsize=8192)
def _transcribed(word: str) -> str:
    """The same with umlauts as two letters: `Müller` as `mueller`."""
    return _plain(word if word.isascii() else word.casefold().translate(_TRANSCRIBED))


def _without_zeros(word: str) -> str:
    return word.lstrip("0") or "0" if word.isdecimal() else _plain(word)


def _spellings(word: str) -> set[str]:
    """A name as texts may spell it: with accents left out, with umlauts as two letters, with two letters as one."""
    ways = {_plain(word), _transcribed(word)}
    return {way[:_LONGEST] for way in ways | {re.sub("([aou])e", r"\1", way) for way in ways if len(way) > 4}}


def _is_date(parts: tuple[str, ...], order: str, born: tuple[int, int, int]) -> bool:
    """Whether the parts of a date, in the order of their letters, are those of a birth."""
    year, month, day = born
    if order == "run":
        digits = parts[0]
        ways = [f"{year:04}{month:02}{day:02}", f"{day:02}{month:02}{year:04}", f"{month:02}{day:02}{year:04}"]
        short = [f"{year % 100:02}{month:02}{day:02}", f"{day:02}{month:02}{year % 100:02}"]
        return digits[:8] in ways if len(digits) > 6 else digits in [*short, f"{month:02}{day:02}{year % 100:02}"]
    if order == "numbers":
        first, second, third = map(int, parts)
        if _is_year(parts[2], year):
            return sorted((first, second)) == sorted((day, month))
        return _is_year(parts[0], year) and sorted((second, third)) == sorted((day, month))
    said = dict(zip(order, parts))
    named = _MONTHS.get(_plain(said["m"]), 0) if not said["m"].isdecimal() else int(said["m"])
    return named == month and _is_year(said["y"], year) and ("d" not in said or int(said["d"]) == day)


def _is_year(text: str, year: int) -> bool:
    return int(text) == year or (len(text) == 2 and int(text) == year % 100)
