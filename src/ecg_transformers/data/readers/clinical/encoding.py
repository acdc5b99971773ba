"""Bytes of an XML file as text: the declared encoding where it fits, a better one where it does not."""

from __future__ import annotations

import codecs
import re

_DECLARED = re.compile(rb"""<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._\-]{1,40})["']""")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)


def decoded(content: bytes) -> tuple[str, bool]:
    """The text, without a byte order mark, and whether the bytes contradict what the file declares.

    A byte order mark (or UTF-16 without one) decides; then the declaration, UTF-8, and Windows-1252 are tried. A last
    character that is cut off does not count.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(content)
            return text.removeprefix("\ufeff"), False
    match = _DECLARED.search(content[:400])
    declared = _eight_bit(match.group(1).decode("ascii")) if match else "utf-8"
    for candidate in dict.fromkeys((declared, "utf-8", "cp1252", "latin-1")):
        if candidate is None:
            continue
        try:
            return codecs.getincrementaldecoder(candidate)().decode(content), candidate != declared
        except UnicodeDecodeError:
            continue
    raise AssertionError("Latin-1 decodes every byte")


def _eight_bit(name: str) -> str | None:
    """The codec of a declared encoding, or None where it cannot be that of these bytes (UTF-16, unknown names)."""
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    known = found.name.startswith(("iso8859", "cp125", "cp437", "cp850", "koi8", "mac-")) or found.name in (
        "utf-8",
        "ascii",
    )
    return found.name if known else None
