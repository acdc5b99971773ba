"""Corpora that are met in two forms: as their first publisher gave them, and as a Challenge copied them."""

from __future__ import annotations

from pathlib import Path

from ecg_transformers.data.errors import DuplicateRecordError, RecordNotFoundError
from ecg_transformers.data.options import check_choice

FORMS = ("original", "challenge")


def check_form(corpus: str, value: str | None) -> None:
    """The option `form` of such a corpus; None takes the one that is there."""
    if value is not None:
        check_choice(f"{corpus}: form", value, FORMS)


def chosen_form(wanted: str | None, original: Path | None, challenge: Path | None, folder: Path) -> str | None:
    """The form that is read: the one that is there, or of both the one that is asked for; None where there is neither.

    Args:
        wanted: the option `form`.
        original, challenge: a file of each form that lies in `folder`; None where there is none.

    Raises:
        DuplicateRecordError: both forms are there, and none was chosen: the same recordings would come twice.
        RecordNotFoundError: the form that is asked for is not there.
    """
    found = {form: path for form, path in zip(FORMS, (original, challenge)) if path is not None}
    if wanted is not None:
        if found and wanted not in found:
            other, path = next(iter(found.items()))
            raise RecordNotFoundError(
                f"no file of form={wanted!r} here; {path.name} is of form={other!r}.", path=folder
            )
        return wanted if wanted in found else None
    if len(found) > 1:
        named = " and ".join(f"{path.relative_to(folder).as_posix()} (form={form!r})" for form, path in found.items())
        raise DuplicateRecordError(
            f"the folder holds this corpus in two forms, {named}: give the folder of one as data_dir, or choose with form=….",
            path=folder,
        )
    return next(iter(found), None)
