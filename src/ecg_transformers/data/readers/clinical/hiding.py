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

from ecg_transformers.data.readers.clinical.dates_in_texts import CLOCK, DATES, MONTHS
from ecg_transformers.data.readers.clinical.ordinary import COMMON, ENDINGS, FINDINGS, HOSPITALS

HIDDEN = "[hidden]"
NO_IDENTITY = {"", "---", "unknown", "none", "anonymous", "anonymized", "x"}
Texts = TypeVar("Texts")

_LONGEST, _MOST_WORDS = 128, 16
_FEWEST_DIGITS = 5
_LONGEST_WITHOUT_CASE = 8
_MOST_SIGNS = 2**18
"""Of all that identifies one patient; where there are more, texts are withheld."""
_WORD = re.compile(r"\d+|[^\W\d_](?:(?!(?<=[a-zß-öø-ÿ])[A-ZÀ-ÖØ-Þ])[^\W\d_])*")
_PART = re.compile(r"\d+|[^\W\d_]+")
_NAME = re.compile(r"[^\W\d_]+")
_DIVIDED = re.compile(r"\d\s?[./,]\s?\d")
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"})
_TRANSCRIBED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_GAP = 3
"""Signs that may stand between the parts of a number or of a name: `12 - 345`."""
_TITLES = frozenset(("dr", "prof", "med", "mr", "mrs", "ms", "md", "herr", "frau", "st", "jr", "sr", "phd"))
_ADDRESSES = frozenset(("dr", "prof", "mr", "mrs", "herr", "frau"))
_NUMBERED = {"id", "pid", "mrn", "patient", "pat", "patientin", "nr", "no", "num", "number", "nummer", "case", "fall"}
_NUMBERED |= {"room", "zimmer", "raum", "bed", "bett"}
"""Words behind which a short number is an id."""


class Hiding:
    """What identifies one patient, ready to be taken out of texts.

    Args:
        names: of the patient; each of their words is hidden, with the endings that languages put to names. Words that
            hold sentences together (`COMMON`) are hidden beside another word of the same name only, or alone in a text.
        others: names of other persons; words of hospitals (`ECG TECH`) are no names either.
        codes: numbers and other ids; with any signs between their parts, or none. Short numbers are hidden behind a word
            such as `id` only, and where they are written with their leading zeros.
        places: hospitals, rooms, addresses; hidden as a whole, and by their words that are not in everybody's mouth.
        dates: dates of birth, `YYYY-MM-DD`.
        may_be_cut: hide beginnings of what identifies too, where a quotation ends with them.
    """

    def __init__(
        self,
        names: Iterable[str],
        others: Iterable[str] = (),
        codes: Iterable[str] = (),
        places: Iterable[str] = (),
        dates: Iterable[str] = (),
        may_be_cut: bool = False,
    ) -> None:
        self.names: set[str] = set()
        self.short: set[str] = set()
        self.codes: set[str] = set()
        self.divided: set[str] = set()
        self.numbers: set[str] = set()
        self.company: dict[str, set[str]] = {}
        self.without_case: set[str] = set()
        self.dates: set[tuple[str, ...]] = set()
        self.years: set[str] = set()
        self.may_be_cut = may_be_cut
        self._left = _MOST_SIGNS
        names, others, codes = self._within(names), self._within(others), self._within(codes)
        for born in dates:
            self._add_date(born)
        for text in (*names, *others, *codes):  # a field for a name may hold a birth date too
            self._add_dates_in(text)
        for name in names:
            self._add_name(name, _COMMON)
        for name in others:
            self._add_name(name, _COMMON | _HOSPITALS)
        for code in codes:
            self._add_code(code)
        for place in self._within(places):
            self._add_place(place)
        self.known = self.names | self.codes
        self.beginnings = {word[:end] for word in self.known | self.short for end in range(1, len(word) + 1)}
        self.lengths = sorted({len(word) for word in self.without_case}, reverse=True)
        self.first_signs = {word[:2] for word in self.without_case}

    def __bool__(self) -> bool:
        return bool(self.beginnings or self.company or self.numbers or self.without_case or self.dates)

    def hide_in(self, value: Texts) -> Texts:
        """A text, or lists and dictionaries of texts, with `[hidden]` for all that identifies."""
        if self._left < 0:
            return _each_text(value, lambda _: HIDDEN)
        return _each_text(value, self._hidden) if self else value

    def _within(self, texts: Iterable[str]) -> list[str]:
        kept = [unicodedata.normalize("NFC", text) for text in texts]
        self._left -= sum(map(len, kept))
        return kept if self._left >= 0 else []

    def _add_name(self, name: str, ordinary: frozenset[str]) -> None:
        """The words of a name, and neighbours written without a gap, as user names and some scripts do."""
        parts = [part for part in re.split(r"[\s,;^/=_]+", name) if part.lower() not in NO_IDENTITY]
        own = [part for part in parts if _has_no_case(part)]
        for word in (*own, *(pair for one, two in pairwise(own) for pair in (one + two, two + one))):
            self._add_without_case(word)
        words = []
        for part in parts:
            if not _has_no_case(part):
                pieces = _NAME.findall(part)
                words += [part if len(pieces) <= _MOST_WORDS else "".join(pieces[:_MOST_WORDS]), *pieces]
        spelt = {way for word in dict.fromkeys(words) for way in _spellings(word)} - _TITLES
        if alone := spelt & ordinary:
            beside = {way for word in words[:_MOST_WORDS] for way in _spellings(word)}
            for word in alone:
                self.company.setdefault(word, set()).update(beside - {word})
        spelt -= ordinary
        self.short |= {word for word in spelt if len(word) == 2 and word.isalpha()}
        self.names |= {word for word in spelt if len(word) > 2}  # an initial is no name
        for one, two in pairwise([way[: _LONGEST // 2] for way in map(_plain, parts) if way and way not in _TITLES]):
            joined = {one + two, two + one}
            joined |= {one[0] + two, two[0] + one} if len(two) > 2 and len(one) > 2 else set()
            joined = {word for word in joined if len(word) > 3 and word not in _ORDINARY}
            (self.short if {one, two} <= ordinary else self.names).update(joined)

    def _add_code(self, code: str) -> None:
        """An id in one piece, without leading zeros, and its digits alone where they are many."""
        if code.strip().lower() in NO_IDENTITY:
            return
        parts = _PART.findall(code)
        for spelling in (_plain, _transcribed, _without_zeros):
            self._add_phrase("".join(map(spelling, parts)))
            if _DIVIDED.search(code):
                self.divided.add("".join(map(spelling, parts)))
        digits = [part for part in parts if part.isdecimal()]
        for number in ("".join(digits), *digits):
            if len(number.lstrip("0")) >= _FEWEST_DIGITS:
                self.codes |= {number[:_LONGEST], _without_zeros(number)[:_LONGEST]}
        self.names |= {
            way for part in parts if len(part) > 3 and part.isalpha() for way in _spellings(part)
        } - _ORDINARY

    def _add_place(self, place: str) -> None:
        for part in (place, *re.split(r"[,;^\n]+", place)):
            for spelling in (_plain, _transcribed):
                phrase = "".join(map(spelling, _PART.findall(part)))
                if len(phrase) > (3 if phrase.isalpha() else 2):
                    self._add_phrase(phrase)
        words = {way for word in _NAME.findall(place) if len(word) > 3 for way in _spellings(word)}
        self.names |= words - _ORDINARY - _TITLES
        for part in re.split(r"[\s,;^]+", place):
            if _has_no_case(part) and len(part) > 2:
                self._add_without_case(part)

    def _add_phrase(self, phrase: str) -> None:
        """Words and numbers in one; a short number alone is nothing by itself, but with its leading zeros."""
        if phrase.isdecimal() and len(phrase.lstrip("0")) < _FEWEST_DIGITS:
            self.numbers.add(_without_zeros(phrase))
            if not phrase.startswith("0"):
                return
        if 2 < len(phrase) <= _LONGEST and phrase not in _ORDINARY:
            self.codes.add(phrase)

    def _add_without_case(self, word: str) -> None:
        """A long name in pieces that overlap, so that no more than a few lengths are looked up at each sign of a text."""
        last = max(0, len(word) - _LONGEST_WITHOUT_CASE)
        if len(word) > 1:
            starts = (*range(0, last, _LONGEST_WITHOUT_CASE // 2), last)
            self.without_case |= {word[start : start + _LONGEST_WITHOUT_CASE] for start in starts}

    def _add_date(self, text: str) -> None:
        try:
            born = date.fromisoformat(text[:10])
        except ValueError:
            return
        month, day = born.month, born.day
        for year in (f"{born.year:04}", f"{born.year % 100:02}"):
            self.years.add(year)
            self.dates |= {("y m d", year, str(month), str(day)), ("y m", year, str(month))}
            for digits in (f"{year}{month:02}{day:02}", f"{day:02}{month:02}{year}", f"{month:02}{day:02}{year}"):
                self.dates.add(("run", digits))

    def _add_dates_in(self, text: str) -> None:
        for year, first, second in islice(re.findall(r"(?<!\d)(1[89]\d\d|20\d\d)-?(\d\d)-?(\d\d)(?!\d)", text), 4):
            self._add_date(f"{year}-{first}-{second}")
        for match in islice(re.finditer(r"(?<!\d)(\d{1,2})[./\-](\d{1,2}|[A-Za-z]{3})[./\-](\d{4})(?!\d)", text), 4):
            first, second, year = match.groups()
            month = int(second) if second.isdecimal() else MONTHS.get(second.lower(), 0)
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
        words = list(_WORD.finditer(text)) if self.beginnings or self.company or self.numbers else []
        done: list[list[str]] = []
        for spelling in (_plain, _transcribed, _without_zeros):
            keys = [spelling(match.group()) for match in words]
            if keys in done:
                continue
            done.append(keys)
            behind = 0
            for place, key in enumerate(keys):
                if place < behind:
                    continue
                last = None
                if key in self.beginnings:
                    last = self._last_word(words, keys, place)
                elif self._has_ending(key, key):
                    last = place
                if last is None and (
                    (key in self.company and self._is_in_company(words, keys, place))
                    or (key in self.numbers and _is_numbered(words, keys, place))
                ):
                    last = place
                if last is not None:
                    yield words[place].start(), words[last].end()
                    behind = last + 1

    def _last_word(self, words: list[re.Match[str]], keys: list[str], place: int) -> int | None:
        """The last word of the longest thing that identifies and begins at a place, None where none does."""
        found, joined = None, ""
        for at in range(place, min(place + _MOST_WORDS, len(words))):
            if at > place and words[at].start() - words[at - 1].end() > _GAP:
                break
            joined += keys[at]
            begins = joined in self.beginnings
            if begins and joined in self.known:
                found = at if at == place or self._is_one(joined, words[place], words[at]) else found
            elif begins and joined in self.short:  # two letters, unless they are spelt as a name
                found = found if words[place].group().islower() else at
            elif self._has_ending(joined, keys[at]) or (begins and self.may_be_cut and _ends(words[at], joined)):
                found = at
            if not begins:
                break
        return found

    def _is_one(self, joined: str, first: re.Match[str], last: re.Match[str]) -> bool:
        """Whether words are one thing; `372/419` is two numbers and `1.20` another one, unless an id is written so."""
        if not joined.isdecimal() or joined in self.divided:
            return True
        return _DIVIDED.search(first.string, first.start(), last.end()) is None

    def _has_ending(self, joined: str, last_word: str) -> bool:
        """Whether this is a name with an ending, as `Brombachs`; `Normal` is no `Norma`."""
        for size, shortest in ((1, 6), (2, 7)):
            if joined[:-size] in self.names and len(last_word) > size and joined[-size:] in ENDINGS:
                long_enough = len(joined) >= shortest or joined[-size:] == "s"
                return long_enough and last_word not in _ORDINARY and joined not in _ORDINARY
        return False

    def _is_in_company(self, words: list[re.Match[str]], keys: list[str], place: int) -> bool:
        """Whether an ordinary word is a name here: beside another word of that name, behind a title, alone."""
        is_spelt_so = not words[place].group().islower()
        if len(words) == 1:
            return is_spelt_so
        for other in (place - 1, place + 1):
            if not 0 <= other < len(words):
                continue
            first, second = sorted((place, other))
            if words[second].start() - words[first].end() > _GAP:
                continue
            if is_spelt_so and other < place and keys[other] in _ADDRESSES:
                return True
            if keys[other] in self.company[keys[place]] and (
                keys[other] in self.names or (is_spelt_so and not words[other].group().islower())
            ):
                return True
        return False

    def _caseless_in(self, text: str) -> Iterator[tuple[int, int]]:
        """Where names stand in scripts that need no gaps between words."""
        for start in range(len(text) - 1 if self.first_signs else 0):
            if text[start : start + 2] in self.first_signs:
                for length in self.lengths:
                    if text[start : start + length] in self.without_case:
                        yield start, start + length
                        break

    def _dates_in(self, text: str) -> Iterator[tuple[int, int]]:
        if not any(year in text for year in self.years):
            return
        for pattern, order in DATES:
            for match in pattern.finditer(text):
                if self._is_date(match.groups(), order):
                    stop = match.end(match.re.groups)
                    clock = CLOCK.match(text, stop)
                    yield match.start(1), clock.end() if clock else stop

    def _is_date(self, parts: tuple[str, ...], order: str) -> bool:
        """Whether the parts of a date, in the order of their letters, are those of a birth."""
        if order == "run":
            return ("run", parts[0] if len(parts[0]) == 6 else parts[0][:8]) in self.dates
        year = parts[order.index("y")]
        if year not in self.years:
            return False
        first, *more = (_number(part) for sign, part in zip(order, parts) if sign != "y")
        if not more:
            return ("y m", year, first) in self.dates
        second = more[0]
        return (("y m d", year, first, second) in self.dates and order != "dmy") or (
            ("y m d", year, second, first) in self.dates and order not in ("mdy", "ymd")
        )


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


def _number(part: str) -> str:
    """A day or a month as a number without zeros, "0" for a word that is no month."""
    return str(int(part)) if part.isdecimal() else str(MONTHS.get(_plain(part), 0))


def _is_numbered(words: list[re.Match[str]], keys: list[str], place: int) -> bool:
    """Whether a number stands behind a word that makes it an id, as in `Patient 372`, or behind `#`."""
    start = words[place].start()
    if words[place].string[max(0, start - 1) : start] == "#":
        return True
    return place > 0 and keys[place - 1] in _NUMBERED and start - words[place - 1].end() <= _GAP


def _ends(word: re.Match[str], joined: str) -> bool:
    """Whether what was joined up to a word may be the beginning of more, which a quotation has cut."""
    return (
        len(joined) > 3
        and word.string[word.end() : word.end() + 1] in ("", "'", '"', ",", ")")
        and joined not in _ORDINARY
    )


def _normal(words: str) -> frozenset[str]:
    return frozenset(way for word in words.split() for way in (_plain(word), _transcribed(word)))


_COMMON = _normal(COMMON)
_HOSPITALS = _normal(HOSPITALS)
_ORDINARY = _COMMON | _HOSPITALS | _normal(FINDINGS)
