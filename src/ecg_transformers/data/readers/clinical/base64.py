"""Base64 as carts write it: in lines, and sometimes cut off."""

from __future__ import annotations

import binascii
import re
from pathlib import Path

from ecg_transformers.data.errors import HeaderError

_ALPHABET = re.compile(r"[A-Za-z0-9+/]*={0,2}\Z")


def base64_bytes(text: str, path: Path, lead: str | None = None) -> bytes:
    """The bytes of a text; one that is cut within four letters gives the bytes that are whole.

    Raises:
        HeaderError: a letter that Base64 does not have.
    """
    bare = "".join(text.split())
    if not _ALPHABET.match(bare):
        raise HeaderError("the samples are no Base64.", path=path, lead=lead)
    bare = bare.rstrip("=")
    if len(bare) % 4 == 1:
        bare = bare[:-1]
    return binascii.a2b_base64(bare + "=" * (-len(bare) % 4))
