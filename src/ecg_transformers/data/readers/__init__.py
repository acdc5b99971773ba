"""Readers, one file a format; `read_record` chooses among them."""

from .reading import FORMATS, describe_record, format_of, read_digital, read_record
from .safety import Limits

__all__ = ["FORMATS", "Limits", "describe_record", "format_of", "read_digital", "read_record"]
