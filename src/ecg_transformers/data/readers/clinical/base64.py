"""Base64 as carts write it: in lines, and sometimes cut off."""

from __future__ import annotations

import binascii
from pathlib import Path

from ecg_transformers.data.errors import HeaderError


def base64_bytes(text: str, path: Path, lead: str | None = None) -> bytes:
    """The bytes of a text; one that is cut within four letters gives the bytes that are whole.

    Raises:
        HeaderError: a letter that Base64 does not have.
    """
    bare = "".join(text.split())
    letters = bare.rstrip("=")
    # One letter more than whole groups of four holds no byte; it is decoded with two others to be held against the alphabet
    spare = "AA" if len(letters) % 4 == 1 else ""
    try:
        if len(bare) - len(letters) > 2:
            raise ValueError("more padding than a group has letters")
        content = binascii.a2b_base64(letters + spare + "=" * (-len(letters + spare) % 4), strict_mode=True)
    except ValueError as error:
        raise HeaderError("the samples are no Base64.", path=path, lead=lead) from error
    return content[: len(letters) * 3 // 4]
