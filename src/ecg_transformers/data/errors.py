"""The errors of everything that reads ECG data: sentences that name the file, the record and the lead."""

from __future__ import annotations


class ECGDataError(ValueError):
    """Something is wrong with a record, a table, a corpus or the way it was asked for.

    Every reader and builder of this package raises this class or a subclass of it, and nothing else, for bad input.

    Args:
        reason: a sentence that says what was wrong and what would be right.
        path: the file concerned.
        record: the record concerned.
        lead: the lead concerned.
    """

    def __init__(self, reason: str, *, path: object = None, record: str | None = None, lead: str | None = None) -> None:
        self.reason = reason
        self.path = None if path is None else str(path)
        self.record = record
        self.lead = lead
        where = [
            f"{what} {value!r}"
            for what, value in (("file", self.path), ("record", record), ("lead", lead))
            if value is not None
        ]
        super().__init__(f"{', '.join(where)}: {reason}" if where else reason)

    def __reduce__(self) -> tuple:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[ECGDataError], args: tuple, state: dict) -> ECGDataError:
    """Errors travel between processes whole (the default would call `__init__` with the finished message)."""
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


def brief(error: BaseException) -> str:
    """What another library complained about, short enough for a sentence: it may quote the file."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split())[:160].rstrip(".") or type(error).__name__


class RecordNotFoundError(ECGDataError):
    """A record, a folder or a file that was named is not there."""


class UnsafePathError(ECGDataError):
    """A path leaves the folder it belongs to, or is not a regular file."""


class LimitError(ECGDataError):
    """A file or a header asks for more samples, leads or bytes than the limits allow."""


class HeaderError(ECGDataError):
    """A header cannot be understood, or contradicts itself or its file."""


class TruncatedError(ECGDataError):
    """A signal file holds fewer samples than its header promises."""


class ChecksumError(ECGDataError):
    """The samples of a lead do not have the checksum that the header states."""


class UnitError(ECGDataError):
    """A physical unit that is not a voltage."""


class DuplicateLeadError(ECGDataError):
    """Two signals of a record carry the same lead name."""


class LeadNotFoundError(ECGDataError):
    """A lead that was asked for is not in the record."""


class MissingHintError(ECGDataError):
    """The file does not say something (sampling rate, lead names) that the caller must then give."""


class UnsupportedFormatError(ECGDataError):
    """A file of a kind, version or layout that no reader covers."""


class PointerError(UnsupportedFormatError):
    """A file whose content was not fetched: Git LFS or git-annex has left a pointer in its place."""


class SignalError(ECGDataError):
    """The samples themselves are unusable: wrong shape, wrong type, no sample at all."""


class EmptyRecordError(SignalError):
    """A record that its publisher lists although it holds no signal: left out and counted, which is no failure."""


class AnnotationError(ECGDataError):
    """An annotation file that cannot be understood."""


class TableError(ECGDataError):
    """A table of records or labels that is empty, lacks columns or holds impossible values."""


class LabelError(ECGDataError):
    """A label that the corpus or the caller does not know."""


class OptionError(ECGDataError):
    """An unknown corpus, option, task or split name, or an impossible value of one."""


class DuplicateRecordError(ECGDataError):
    """Two records of a corpus carry the same id."""


class SkippedRecordsError(ECGDataError):
    """More records had to be skipped than the build allows."""


class MissingDependencyError(ECGDataError):
    """A format needs a package that is not installed."""
