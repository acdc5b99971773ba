"""XML that hospitals send, parsed without entities, without files beside it and within bounds."""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

import numpy as np

from ecg_transformers.data.errors import HeaderError, LimitError, MissingDependencyError, TruncatedError
from ecg_transformers.data.readers.arrays import Hints
from ecg_transformers.data.readers.clinical.encoding import decoded
from ecg_transformers.data.readers.clinical.kinds import AECG, Kind
from ecg_transformers.data.readers.clinical.record import MAX_TEXT
from ecg_transformers.data.readers.limits import Limits, read_bytes

MAX_XML_BYTES = 2**25
MAX_DEPTH = 200
MAX_NODES = 100_000
_AROUND = "\ufeff \t\r\n\0\x1a"
"""What some writers put before the declaration, or behind the end to fill a block."""
_ENDED = (3, 5, 20)  # expat: no element found, unclosed token, unclosed CDATA section


def read_xml(path: Path, kind: Kind, hints: Hints, limits: Limits) -> tuple[Element, list[str]]:
    """The root element of a file, names without their namespaces, and flags.

    A DOCTYPE is passed over (GE MUSE names a DTD that is never there); one that declares entities is refused.

    Raises:
        ECGDataError: not well-formed, entities, deeper than 200 elements, larger than 32 MiB, or no defusedxml.
    """
    try:
        from defusedxml.common import DefusedXmlException
        from defusedxml.ElementTree import DefusedXMLParser
    except ImportError as error:
        raise MissingDependencyError(
            f"this is {'an' if kind is AECG else 'a'} {kind.title}: install ecg_transformers[clinical] to read it.",
            path=path,
        ) from error
    content = read_bytes(path, min(limits.max_file_bytes, MAX_XML_BYTES), hints.root, follow_links=hints.follow_links)
    text, contradicts = decoded(content)
    if text.count("<") > 3 * MAX_NODES or text.count("=") > MAX_NODES:  # before they are parsed
        raise LimitError(f"the XML has more than {MAX_NODES} elements and attributes.", path=path)
    parser = DefusedXMLParser(target=_Tree(path), forbid_dtd=False, forbid_entities=True, forbid_external=True)

    def refuse_attributes(*_: Any) -> None:  # a long default for every element is a bomb without an entity
        raise HeaderError("the XML declares attributes of its own (DTD); such a file is not read.", path=path)

    parser.parser.AttlistDeclHandler = refuse_attributes
    try:
        parser.feed(text.strip(_AROUND))
        root = parser.close()
    except DefusedXmlException as error:
        raise HeaderError(
            "the XML declares or uses entities of its own (DTD); such a file is not read.", path=path
        ) from error
    except ParseError as error:
        said = re.sub(r" &[^;]*;", "", str(error))  # the name of an entity is a text of the file
        if error.code in _ENDED:
            raise TruncatedError(f"the XML ends in the middle ({said}).", path=path) from error
        raise HeaderError(f"this is no well-formed XML ({said}).", path=path) from error
    except (ValueError, RecursionError, UnicodeError, AssertionError) as error:
        if isinstance(error, (HeaderError, LimitError)):
            raise
        raise HeaderError(f"this is no well-formed XML ({type(error).__name__}).", path=path) from error
    return root, ["encoding_contradicts_declaration"] if contradicts else []


class _Tree(TreeBuilder):
    """Builds elements without namespaces, and stops at depths and numbers that no ECG has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.depth, self.nodes = path, 0, 0

    def start(self, tag: Any, attributes: Any, /) -> Element:
        self.depth += 1
        self.nodes += 1 + len(attributes)
        if self.depth > MAX_DEPTH:
            raise LimitError(f"the XML has more than {MAX_DEPTH} elements within each other.", path=self.path)
        if self.nodes > MAX_NODES:
            raise LimitError(f"the XML has more than {MAX_NODES} elements and attributes.", path=self.path)
        if attributes:
            attributes = {local(name): value for name, value in attributes.items()}
        return super().start(local(tag), attributes)

    def end(self, tag: Any, /) -> Element:
        self.depth -= 1
        return super().end(local(tag))


def local(name: str) -> str:
    """A name without its namespace."""
    return name.rpartition("}")[2] if name.startswith("{") else name


def text_of(element: Element | None, way: str = "") -> str:
    """The text of the first element at a path, without blanks around it; "" where there is none."""
    found = element if element is None or not way else element.find(way)
    return "" if found is None or found.text is None else found.text.strip()


def texts_within(element: Element, most: int) -> list[str]:
    """The first `most` texts in an element and in all that it holds, cut behind what a statement may have.

    Of elements within each other that are all asked for, each would otherwise give what the innermost one holds.
    """
    texts = (text.strip()[: MAX_TEXT + 1] for text in element.itertext())
    return list(islice(filter(None, texts), most))


def number_of(text: str | None, what: str, path: Path, lead: str | None = None) -> float:
    """A finite number from the file.

    Raises:
        HeaderError: no number, infinite or not a number; `what` names the field.
    """
    text = (text or "").strip()
    try:
        value = float(text) if len(text) <= 64 and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        stated = repr(text[:20]) if text else "missing"
        raise HeaderError(f"{what} is {stated}, not a finite number.", path=path, lead=lead)
    return value


def numbers_in(text: str) -> np.ndarray:
    """Numbers between blanks: int64 where they are whole, which is twice as fast, else float64.

    Raises:
        ValueError: something that is no number.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # older numpy stops at what is no number with a warning
        with contextlib.suppress(ValueError, DeprecationWarning):
            whole = np.fromstring(text, dtype=np.int64, sep=" ")
            if max(whole.max(initial=0), -int(whole.min(initial=0))) < 2**53:  # larger ones may have been cut
                return whole
        try:
            return np.fromstring(text, dtype=np.float64, sep=" ")
        except DeprecationWarning as error:
            raise ValueError(str(error)) from error
