"""Readers, one file a format; `read_record` chooses among them."""

from ecg_transformers.data.readers.limits import Limits
from ecg_transformers.data.readers.reading import (
    FORMATS,
    describe_record,
    format_of,
    patient_in_file,
    read_digital,
    read_parts,
    read_record,
)

__all__ = [
    "FORMATS",
    "Limits",
    "describe_record",
    "format_of",
    "patient_in_file",
    "read_digital",
    "read_parts",
    "read_record",
]
