"""Converted checkpoints: made once from a file of the authors, kept as safetensors, loaded from there afterwards."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from ecg_transformers._version import __version__
from ecg_transformers.data.cache import cache_root
from ecg_transformers.files import as_json, json_sha256, temporary_folder, write_json
from ecg_transformers.models.checkpoints import CHECKPOINTS, Checkpoint
from ecg_transformers.models.registry import get_method
from ecg_transformers.models.shared.state_dicts import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor

logger = logging.getLogger(__name__)

_NOTE = "conversion.json"


def converted_root() -> Path:
    """Where converted checkpoints are kept, one folder for each file and its settings."""
    return cache_root() / "checkpoints"


def converted(row: Checkpoint, file: Path, overrides: Mapping[str, Any]) -> Path:
    """The folder that `file` becomes with `overrides`; converted now when it is not there yet.

    Another file, other overrides or another version of this package make another folder. A conversion that fails leaves
    nothing behind.

    Raises:
        ValueError: see `convert_checkpoint`.
    """
    folder = converted_root() / row.name / conversion_key(file, overrides)
    if is_whole(folder):
        return folder
    from ecg_transformers.hub.official.conversion import convert_checkpoint

    try:
        model = convert_checkpoint(row.method, file, **overrides)
        check_sizes(row, model.config)
        check_outputs(row, model)
    except CheckpointError as error:
        raise CheckpointError(f"{file} is not what {row.name} should be: {error}") from error
    if names := row.label_names:
        model.config.id2label = dict(enumerate(names))
        model.config.label2id = {name: index for index, name in enumerate(names)}
    model.config.converted_from = f"{row.source.repository or row.name}: {file.name}"
    model.config.weights_licence = row.licence
    return keep(model, published_extractor(row), folder, _made_with(overrides))


def kept_conversion(row: Checkpoint, overrides: Mapping[str, Any]) -> Path | None:
    """The latest conversion of a checkpoint with these overrides, whatever became of its file; None where there is none."""
    wanted = as_json(_made_with(overrides))
    found: list[tuple[float, Path]] = []
    for note in (converted_root() / row.name).glob(f"*/{_NOTE}"):
        with contextlib.suppress(OSError, ValueError):
            if json.loads(note.read_text(encoding="utf-8")) == wanted and is_whole(note.parent):
                found.append((note.stat().st_mtime, note.parent))
    return max(found)[1] if found else None


def _made_with(overrides: Mapping[str, Any]) -> dict[str, Any]:
    return {"overrides": dict(overrides), "version": __version__}


def keep(
    model: PreTrainedModel, extractor: ECGFeatureExtractor, folder: Path, note: Mapping[str, Any] | None = None
) -> Path:
    """Save model and extractor to a folder that appears when it is complete; another process may be the first.

    Args:
        note: how they were made.

    Raises:
        CheckpointError: there is no room, or nothing can be written.
    """
    try:
        with temporary_folder(folder.parent) as making:
            model.save_pretrained(making)
            extractor.save_pretrained(making)
            write_json(making / _NOTE, note or {})
            with contextlib.suppress(OSError):  # a folder that holds something is never replaced
                making.rename(folder)
            if not is_whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
                making.rename(folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the converted checkpoint cannot be kept in {folder.parent} ({getattr(error, 'strerror', None) or error}): "
            "make room there, or set ECG_CACHE_DIR to a folder that can be written."
        ) from error
    return folder


def is_whole(folder: Path) -> bool:
    """Whether a folder holds all of a conversion; one that lost a part, as by a power cut, is made again."""
    try:
        for name in ("config.json", "preprocessor_config.json"):
            json.loads((folder / name).read_text(encoding="utf-8"))
        with safe_open(folder / "model.safetensors", framework="pt"):  # which looks at the size of the file
            return True
    except (OSError, ValueError, SafetensorError):
        return False


def check_sizes(row: Checkpoint, config: "PreTrainedConfig") -> None:
    """Refuse another row's network, one of another kind, and one of the released width and another depth.

    Half a file can look like a smaller network. Another width that no row has is a network of the user's, such as a small
    one for a trial; it is loaded, and said.

    Raises:
        CheckpointError: with the size that differs.
    """
    differing = {name: value for name, value in row.sizes.items() if getattr(config, name, None) != value}
    if not differing:
        return
    shown = ", ".join(f"{name} {getattr(config, name, None)} (released: {value})" for name, value in differing.items())
    rows = (other for other in CHECKPOINTS.values() if other is not row and other.method == row.method)
    twin = next((other.name for other in rows if other.is_network_of(config)), None)
    is_another_kind = any(isinstance(row.sizes[name], str | bool) or name == "num_leads" for name in differing)
    if not (twin or is_another_kind or row.is_as_wide(config)):
        logger.warning("The file that is loaded as %s has other sizes than the released one: %s.", row.name, shown)
        return
    raise CheckpointError(f"it describes another network{f', that of {twin}' if twin else ''}: {shown}.")


def check_outputs(row: Checkpoint, model: PreTrainedModel) -> None:
    """Refuse an encoder where the released file is a classifier, the reverse, and another number of labels.

    Raises:
        CheckpointError: with both numbers of labels.
    """
    head = get_method(row.method).model_classes.get("classification", ())
    found, released = model.config.num_labels if isinstance(model, head) else 0, len(row.label_names)
    if row.sizes and found != released:
        raise CheckpointError(
            f"it is a model with {found} labels (released: {released}); another file is loaded by its path."
        )


def published_extractor(row: Checkpoint) -> "ECGFeatureExtractor":
    """The authors' own preprocessing of a checkpoint."""
    return get_method(row.method).extractor_class.for_method(row.method, **row.preprocessing)


def conversion_key(file: Path, overrides: Mapping[str, Any]) -> str:
    """Changes with the file (its place, size and time), the overrides and the version of this package."""
    real = file.resolve()
    status = real.stat()
    parts = [str(real), status.st_size, status.st_mtime_ns, dict(overrides), __version__]
    return json_sha256(parts)[:16]
