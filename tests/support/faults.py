"""Deaths and full disks at a chosen moment of a save, without the product's help: every flush, rename and write counts."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import safetensors.torch

from ecg_transformers.training.checkpoints import folder

Event = tuple[str, str]
"""("write", "flush" or "rename", name of the file or of what it becomes)."""


@contextmanager
def watched(action: Callable[[Event], None]) -> Iterator[None]:
    """Call `action` before each write of tensors, each flush and each rename that a save makes."""
    fsync, rename, replace, save = os.fsync, os.rename, os.replace, safetensors.torch.save_file

    def name_of(descriptor: int) -> str:
        try:
            return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        except OSError:  # not Linux
            return ""

    def flushed(descriptor: int) -> None:
        action(("flush", name_of(descriptor)))
        fsync(descriptor)

    def renamed(source, target, **options) -> None:
        action(("rename", Path(target).name))
        rename(source, target, **options)

    def replaced(source, target, **options) -> None:
        action(("rename", Path(target).name))
        replace(source, target, **options)

    def saved(tensors, path, **options) -> None:
        action(("write", Path(path).name))
        save(tensors, path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", flushed)
        patch.setattr(os, "rename", renamed)
        patch.setattr(os, "replace", replaced)
        patch.setattr(folder, "save_file", saved)
        yield


def events_of(action: Callable[[], object]) -> list[Event]:
    """What an action does to the disk, in order."""
    seen: list[Event] = []
    with watched(seen.append):
        action()
    return seen


def fails_at(number: int, failure: Callable[[], None]) -> Callable[[Event], None]:
    """For `watched`: call `failure` at the event of that number, counted from 0."""
    passed = 0

    def count(event: Event) -> None:
        nonlocal passed
        if passed == number:
            failure()
        passed += 1

    return count
