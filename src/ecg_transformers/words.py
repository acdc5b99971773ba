"""Words that a person types: the nearest known one in the error, a fixed set of choices, `key=value` pairs."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def nearest(name: object, known: Iterable[object], cutoff: float = 0.5) -> str | None:
    """The known word that is most like `name` (1: equal); None when none is so like.

    Example:
        >>> nearest("st_men", ["st_mem", "ecg_jepa"])
        'st_mem'
    """
    close = difflib.get_close_matches(str(name), [str(word) for word in known], n=1, cutoff=cutoff)
    return close[0] if close else None


def did_you_mean(name: object, known: Iterable[object]) -> str:
    """The end of a sentence about an unknown word: what was meant, and all that is known.

    Example:
        >>> "There is no method 'st_men'" + did_you_mean("st_men", ["st_mem", "ecg_jepa"])
        "There is no method 'st_men'; did you mean 'st_mem'? Known: st_mem, ecg_jepa."
    """
    words = [str(word) for word in known]
    close = nearest(name, words)
    suggestion = f"; did you mean {close!r}? Known:" if close else "; known:"
    return f"{suggestion} {', '.join(words) or 'none'}."


def check_choice(
    what: str, value: object, choices: Sequence[object], error: type[ValueError] | type[RuntimeError] = ValueError
) -> None:
    """Raise when `value` is none of the choices.

    Example:
        >>> check_choice("task", "rythm", ("delineation", "rhythm"))
        Traceback (most recent call last):
        ValueError: task must be one of delineation, rhythm; got 'rythm' (did you mean 'rhythm'?).
    """
    if value not in choices:
        close = nearest(value, choices)
        suggestion = f" (did you mean {close!r}?)" if close else ""
        raise error(f"{what} must be one of {', '.join(map(str, choices))}; got {value!r}{suggestion}.")


_ARGUMENT = re.compile(
    r"(?<!options )(?<!overrides )(?<!option )\b([a-z][a-z_]*)="
    r"""(\[[^]]*\]|'[^']*'|"[^"]*"|…|True|False|None|\d[\d.]*\b)"""
)
_EXAMPLES = {"sampling_rate": "HZ", "lead_names": "I,II,…"}  # as the metavars of `--help`


def in_options(sentence: str, options: Mapping[str, str]) -> str:
    """A sentence of the library with the options of a command in place of its arguments.

    Args:
        options: by argument the option, with `{}` for its value. Arguments that are not in it are said to be Python's.

    Example:
        >>> in_options("its rate is unknown; pass sampling_rate=….", {"sampling_rate": "--sampling_rate {}"})
        'its rate is unknown; pass --sampling_rate HZ.'
    """
    left: list[str] = []

    def said(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        if name not in options:
            left.extend([name] if name not in left and not value[0].isdigit() else [])
            return match[0]
        option = options[name]
        value = value.strip("'\"")
        if value.strip("[]") == "…":
            value = value.replace("…", _EXAMPLES.get(name, "…"))
        if option.endswith(" {}"):  # a list stands in brackets only where the option is key=value
            value = value.strip("[]").strip("'\"")
        return option.format(value.lower() if value in ("True", "False", "None") else value)

    text = _ARGUMENT.sub(said, sentence)
    if not left:
        return text
    what = "is an argument" if len(left) == 1 else "are arguments"
    return f"{text} ({', '.join(left)} {what} of the Python functions; this command has no such option.)"


def key_values(text: str) -> dict[str, Any]:
    """`a=1,b=[I,II],c=none` as a dictionary.

    Values are numbers, true or false, none, lists in brackets, anything else that JSON knows, or else text.

    Example:
        >>> key_values("lr=1e-3,leads=[I,II],norm=none")
        {'lr': 0.001, 'leads': ['I', 'II'], 'norm': None}

    Raises:
        ValueError: a part is not `key=value`, a key comes twice.
    """
    result: dict[str, Any] = {}
    for part in _parts(text):
        key, value = key_value(part)
        if key in result:
            raise ValueError(f"the key {key!r} is given twice.")
        result[key] = value
    return result


def key_value(text: str) -> tuple[str, Any]:
    """One pair of `key_values`; the value may hold commas.

    Raises:
        ValueError: the text is not `key=value`.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"{text!r} is not of the form key=value.")
    return key.strip(), _value(value.strip())


def _parts(text: str) -> list[str]:
    """The parts between the commas that stand in no bracket."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character in "[{(") - (character in "]})")
        if character == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def _value(text: str) -> Any:
    lowered = text.lower()
    if lowered in ("none", "null"):
        return None
    if lowered in ("true", "false"):
        return lowered == "true"
    try:
        return json.loads(text, parse_constant=str)  # NaN and Infinity are texts here
    except ValueError:
        pass
    if text.startswith("[") and text.endswith("]"):
        return [_value(part) for part in _parts(text[1:-1])]
    try:
        number = float(text)  # .5, which JSON does not know
    except ValueError:
        return text
    return number if math.isfinite(number) else text
