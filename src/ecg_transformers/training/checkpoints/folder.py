"""Checkpoints that are whole or not there.

A checkpoint is a folder `checkpoints/step-N` of safetensors and JSON files (nothing is pickled). It is written under a
temporary name, every file is flushed to the disk, `manifest.json` with size and SHA-256 of each file comes last, and
only then the folder gets its name. A folder whose manifest does not fit its files is no checkpoint.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from ecg_transformers._version import __version__
from ecg_transformers.files import file_sha256, give_usual_permissions, json_sha256, sync_file, sync_folder
from ecg_transformers.training.errors import TrainingError, UsageError, write_errors

logger = logging.getLogger(__name__)

SCHEMA = 1
MANIFEST = "manifest.json"
STATE = "trainer_state.json"
OLD_POINTER = "latest"  # a file that earlier versions wrote beside the checkpoints and nobody read
_NAME = re.compile(r"step-(\d+)")


class DamagedCheckpoint(TrainingError):
    """A folder that looks like a checkpoint is not one; the message says what is wrong."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose manifest was verified."""

    path: Path
    step: int

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of one of its safetensors files, on the CPU."""
        return load_file(self.path / name)

    def json(self) -> dict[str, Any]:
        """What it says of the run: `trainer_state.json`."""
        content: dict[str, Any] = json.loads((self.path / STATE).read_text(encoding="utf-8"))
        return content

    def holds(self, name: str) -> bool:
        """Whether it has a file of that name."""
        return (self.path / name).is_file()


def write_checkpoint(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    objects: Mapping[str, Any],
    *,
    keep: int | None = None,
) -> Path:
    """Write `folder/step-<step>` atomically, verify it, and then remove what exceeds the newest `keep` checkpoints.

    Args:
        folder: the `checkpoints` folder of a run; created when absent.
        step: optimiser steps that were done.
        tensors: file name -> tensors by name.
        objects: file name -> what is written as JSON.
        keep: number of checkpoints to keep; None keeps all.

    Raises:
        CheckpointWriteError: nothing was changed; temporary files are removed, older checkpoints are intact.
    """
    target = folder / f"step-{step}"
    temporary = folder / f"step-{step}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
    with write_errors(f"the checkpoint of step {step}", target):
        folder.mkdir(parents=True, exist_ok=True)
        if _already_written(target, objects.get(STATE)):
            return target
        try:
            temporary.mkdir()
            _write_files(temporary, step, tensors, objects)
            if target.exists():
                set_aside(target)
            os.rename(temporary, target)
            sync_folder(folder)
            set_newer_aside(folder, step)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    if keep is not None:
        prune(folder, keep)
    return target


def set_newer_aside(folder: Path, step: int) -> None:
    """Rename the checkpoints of later steps: a run writes them in order, so they are of a run that was rolled back."""
    for path in list_checkpoints(folder):
        if int(path.name.split("-")[1]) > step:
            set_aside(path)


def set_aside(path: Path) -> None:
    """Rename a checkpoint so that it is no longer taken for one."""
    aside = path.with_name(f"stale-{path.name}-{secrets.token_hex(4)}")
    os.rename(path, aside)
    logger.warning("%s is of a run that was resumed before it; it is renamed to %s.", path, aside.name)


def _already_written(target: Path, state: Mapping[str, Any] | None) -> bool:
    """Whether the checkpoint is there: valid, and of this run. One of another run stays until the new one is whole."""
    if not target.exists():
        return False
    try:
        checkpoint = verify(target)
    except DamagedCheckpoint as damage:
        aside = target.with_name(f"{target.name}.damaged-{secrets.token_hex(4)}")
        logger.warning("%s It is renamed to %s and written again.", damage, aside.name)
        os.rename(target, aside)
        return False
    if state is None or not checkpoint.holds(STATE):
        return True
    return bool(checkpoint.json().get("identity") == state.get("identity"))


def _write_files(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], objects: Mapping[str, Any]
) -> None:
    for name, values in tensors.items():
        save_file(_separate(values), folder / name, metadata={"format": "pt"})
        give_usual_permissions(folder / name)
        sync_file(folder / name)
    for name, value in objects.items():
        _write_json(folder / name, value)
    files = {
        name: {"size": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)}
        for name in (*tensors, *objects)
    }
    manifest = {"schema": SCHEMA, "step": step, "version": __version__, "files": files}
    _write_json(folder / MANIFEST, {**manifest, "sha256": json_sha256(manifest)})
    sync_folder(folder)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    sync_file(path)


def _separate(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors that share no memory (safetensors refuses shared memory)."""
    result: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in values.items():
        tensor = value.detach().to("cpu").contiguous()
        if tensor.numel() and tensor.untyped_storage().data_ptr() in seen:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        result[name] = tensor
    return result


def verify(path: Path, *, hashes: bool = True, needed: Sequence[str] = ()) -> Checkpoint:
    """Check a checkpoint folder against its manifest.

    Args:
        path: a folder `step-N`.
        hashes: also read every file and compare its SHA-256 (sizes are always compared).
        needed: files without which it is of no use.

    Raises:
        DamagedCheckpoint: with a sentence that names the folder and what is wrong with it.
    """
    manifest = _read_manifest(path)
    files: dict[str, Any] = manifest["files"]
    for name in needed:
        if name not in files:
            raise DamagedCheckpoint(f"{path} is damaged: its manifest does not name {name}.")
    present = {entry.name for entry in os.scandir(path)} - {MANIFEST}
    for name in sorted(present | set(files)):
        if name not in files:
            raise DamagedCheckpoint(f"{path} is damaged: {name} is not in its manifest.")
        file = path / name
        if Path(name).name != name or name in ("..", "."):
            raise DamagedCheckpoint(
                f"{path} is damaged: its manifest names {name!r}, which is not a file of the folder."
            )
        if name not in present or file.is_symlink() or not file.is_file():
            raise DamagedCheckpoint(f"{path} is damaged: {name} is missing or not a plain file.")
        size = file.stat().st_size
        if size != files[name].get("size"):
            raise DamagedCheckpoint(f"{path} is damaged: {name} has {size} bytes instead of {files[name].get('size')}.")
        if hashes and file_sha256(file) != files[name].get("sha256"):
            raise DamagedCheckpoint(f"{path} is damaged: the content of {name} does not fit its SHA-256.")
    return Checkpoint(path=path, step=manifest["step"])


def _read_manifest(path: Path) -> dict[str, Any]:
    match = _NAME.fullmatch(path.name)
    if match is None or path.is_symlink() or not path.is_dir():
        raise DamagedCheckpoint(f"{path} is not a checkpoint folder step-N.")
    try:
        with open(path / MANIFEST, encoding="utf-8") as file:
            manifest = json.loads(file.read(2**20))
    except FileNotFoundError:
        raise DamagedCheckpoint(f"{path} is damaged: it has no {MANIFEST}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedCheckpoint(f"{path} is damaged: its {MANIFEST} cannot be read ({error}).") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise DamagedCheckpoint(f"{path} is damaged: its {MANIFEST} lists no files.")
    if isinstance(manifest.get("schema"), int) and manifest["schema"] > SCHEMA:
        raise DamagedCheckpoint(
            f"{path} was written by a newer version (schema {manifest['schema']}, this one reads {SCHEMA})."
        )
    stated = manifest.pop("sha256", None)
    if stated != json_sha256(manifest) or not all(isinstance(entry, dict) for entry in manifest["files"].values()):
        raise DamagedCheckpoint(f"{path} is damaged: its {MANIFEST} does not fit its own SHA-256.")
    if manifest.get("step") != int(match[1]):
        raise DamagedCheckpoint(f"{path} is damaged: its {MANIFEST} is that of step {manifest.get('step')}.")
    return manifest


def list_checkpoints(folder: Path) -> list[Path]:
    """All folders `step-N`, valid or not, newest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]), reverse=True)


def debris(folder: Path) -> list[Path]:
    """What interrupted saves left in a `checkpoints` folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name != OLD_POINTER and not _NAME.fullmatch(path.name))


def find_checkpoint(choice: str, folder: Path, *, hashes: bool = True, needed: Sequence[str] = ()) -> Checkpoint | None:
    """The checkpoint that `--resume_from_checkpoint` means.

    Args:
        choice: "latest" for the newest valid checkpoint of `folder` (damaged ones are named in a warning and passed
            over; None when the folder has no checkpoint yet), or the path of one checkpoint, which must be valid.
        folder: the `checkpoints` folder of the run.
        hashes: verify the content as well.
        needed: files without which a checkpoint is damaged.

    Raises:
        UsageError: the named checkpoint is damaged or absent, or every checkpoint of the folder is damaged.
    """
    if choice != "latest":
        try:
            return verify(Path(choice), hashes=hashes, needed=needed)
        except DamagedCheckpoint as damage:
            raise UsageError(f"{damage} Choose another one or resume from 'latest'.") from damage
    candidates = list_checkpoints(folder)
    for path in candidates:
        try:
            return verify(path, hashes=hashes, needed=needed)
        except DamagedCheckpoint as damage:
            logger.warning("%s The one before it is tried.", damage)
    if candidates:
        raise UsageError(
            f"None of the {len(candidates)} checkpoints in {folder} is valid; start again in another --output_dir."
        )
    return None


def prune(folder: Path, keep: int) -> None:
    """Remove the oldest valid checkpoints beyond the newest `keep`; one stays, damaged ones are left alone."""
    valid = []
    for path in list_checkpoints(folder):
        try:
            valid.append(verify(path, hashes=False).path)
        except DamagedCheckpoint:
            continue
    for path in valid[max(keep, 1) :]:
        # Renamed first, so that a kill in the middle of the removal cannot leave half a checkpoint under a valid name.
        doomed = path.with_name(f"{path.name}.removed-{secrets.token_hex(4)}")
        try:
            os.rename(path, doomed)
            shutil.rmtree(doomed)
        except OSError as error:
            logger.warning("The old checkpoint %s could not be removed: %s", path, error)
