"""Checks of names and options that come from the user, with the nearest match in the error."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from numbers import Real
from os import PathLike
from types import UnionType
from typing import Any, get_args, get_type_hints

from ecg_transformers.data.errors import OptionError


def nearest(name: Any, known: Sequence[Any]) -> str:
    """`; did you mean 'x'? Known: …`, the end of a sentence about an unknown name."""
    names = [str(k) for k in known]
    match = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    suggestion = f"; did you mean {match[0]!r}?" if match else ";"
    return f"{suggestion} Known: {', '.join(names) or 'none'}"


def check_choice(what: str, value: Any, choices: Sequence[Any]) -> None:
    """An option with a fixed set of values."""
    if value not in choices:
        raise OptionError(f"{what} {value!r} does not exist{nearest(value, choices)}.")


def make_options(options_class: type, given: dict[str, Any], corpus: str) -> Any:
    """An options dataclass from keyword arguments; an unknown name is an error with the nearest match."""
    known = [option.name for option in dataclasses.fields(options_class)]
    for name in given:
        if name not in known:
            raise OptionError(f"the corpus {corpus!r} has no option {name!r}{nearest(name, known)}.")
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
