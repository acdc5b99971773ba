"""Checks of names and options that come from the user, with the nearest match in the error."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from typing import Any

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
    try:
        return options_class(**given)
    except TypeError as error:  # a text where a number is compared
        raise OptionError(f"{corpus}: an option has a value of the wrong type ({error}).") from error
