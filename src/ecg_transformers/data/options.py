"""Options of a corpus from keyword arguments: known names, and values that fit."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from numbers import Real
from os import PathLike
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from ecg_transformers import words
from ecg_transformers.data.errors import OptionError
from ecg_transformers.words import did_you_mean, nearest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_ADVICE = re.compile(r"(?:; pass |; | \()(\w+)=[^;()]*(?:\)|(?=\.$|;))")

Options = TypeVar("Options", bound="DataclassInstance")


def check_choice(what: str, value: object, choices: Sequence[object]) -> None:
    """An option with a fixed set of values: `OptionError` for any other."""
    words.check_choice(what, value, choices, OptionError)


def refuse_misspelt(given: Iterable[str], arguments: Sequence[str], options: Sequence[str]) -> None:
    """`OptionError` for a word that is no option of the corpus and is most like an argument of the function itself."""
    for name in given:
        close = None if name in options else nearest(name, [*options, *arguments])
        if close in arguments:
            raise OptionError(f"there is no argument {name!r}; did you mean {close!r}?")


def make_options(options_class: type[Options], given: dict[str, Any], corpus: str) -> Options:
    """An options dataclass from keyword arguments; an unknown name is an error with the nearest match."""
    known = [option.name for option in dataclasses.fields(options_class)]
    for name in given:
        if name not in known:
            raise OptionError(f"the corpus {corpus!r} has no option {name!r}{did_you_mean(name, known)}")
    kinds = get_type_hints(options_class)
    for name, value in given.items():
        if not _fits(value, kinds[name]):
            raise OptionError(f"{corpus}: {name} takes {_described(kinds[name])}, not {value!r}.")
    try:
        return options_class(**given)
    except TypeError as error:  # what a list holds
        raise OptionError(f"{corpus}: an option has a value of the wrong type ({error}).") from error


_WORDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a text", type(None): "none"}


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value may stand for an annotated option; only plain numbers, texts and none are judged."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if any(one not in _WORDS for one in kinds):
        return True  # lists: the options class looks at them itself
    number = isinstance(value, Real) and not isinstance(value, bool)
    suits = {float: number, int: number, bool: isinstance(value, bool), str: isinstance(value, str | PathLike)}
    return any(suits.get(one, value is None) for one in kinds)


def _described(kind: Any) -> str:
    return " or ".join(_WORDS[one] for one in (get_args(kind) if isinstance(kind, UnionType) else (kind,)))


def fitting_advice(sentence: str, options: DataclassInstance) -> str:
    """A sentence of a reader without the advice to pass what a corpus has no option for."""
    known = {option.name for option in dataclasses.fields(options)}
    return _ADVICE.sub(lambda match: match[0] if match[1] in known else "", sentence)
