"""One writer per output folder."""

from __future__ import annotations

from pathlib import Path

from ecg_transformers.locks import FolderInUseError, FolderLock
from ecg_transformers.training.errors import OutputInUseError, UsageError

TRAIN_LOG = "train_log.jsonl"  # by which a folder is known to hold a run


class OutputLock(FolderLock):
    """Exclusive use of an output folder, refused in the words of the training commands.

    Raises:
        OutputInUseError: another live process holds the folder.
        UsageError: the folder cannot be created or written.
    """

    def acquire(self) -> None:
        """Create the folder and take the lock, or raise."""
        try:
            super().acquire()
        except FolderInUseError as error:
            raise OutputInUseError(
                f"The output folder {self.folder} is in use by {error}; wait for it or choose another --output_dir."
            ) from error
        except OSError as error:
            raise UsageError(
                f"The output folder {self.folder} cannot be written: {error.strerror or error}; choose another "
                "--output_dir."
            ) from error


def check_output_is_free(folder: Path, resume_from_checkpoint: str | None) -> None:
    """Raise `UsageError` when the folder holds another run and this one does not resume it."""
    if resume_from_checkpoint is None and (folder / TRAIN_LOG).exists():
        raise UsageError(
            f"{folder} already holds a run: continue it with --resume_from_checkpoint latest, or choose another "
            "--output_dir."
        )
