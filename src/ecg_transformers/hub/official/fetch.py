"""The file of a published checkpoint: brought by the user, or fetched from the Hub once."""

from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ecg_transformers.data.cache import cache_root
from ecg_transformers.models.checkpoints import CHECKPOINTS, Checkpoint, Source
from ecg_transformers.models.shared.state_dicts import CheckpointError

SAFE_WEIGHTS, PICKLED_WEIGHTS = "model.safetensors", "pytorch_model.bin"
SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")


def official_root() -> Path:
    """Where files of published checkpoints lie that users brought, one folder a name."""
    return cache_root() / "official"


def checkpoint_file(row: Checkpoint, token: str | bool | None = None) -> Path:
    """The file of a checkpoint: the one in its folder below `official_root()`, else its repository's.

    Args:
        token: for gated repositories; None takes the one that `huggingface_hub` knows (`HF_TOKEN`, `hf auth login`).

    Raises:
        CheckpointError: one sentence that says which file to put where, or whose conditions to accept.
    """
    brought = brought_file(row)
    if brought is not None:
        return brought
    if row.source.repository is None or row.source.file is None:
        raise CheckpointError(f"{row.name} cannot be fetched: {where_to_put(row)}")
    return _from_hub(row, token)


def brought_file(row: Checkpoint) -> Path | None:
    """The file that the user put into the checkpoint's folder: the one of its published name, or the only one.

    Raises:
        CheckpointError: several files, none of which has the published name, or one that has the name of another row's:
            of some checkpoints the tensors do not tell which they are.
    """
    folder = official_root() / row.name
    named = folder / row.source.file if row.source.file is not None else None
    if named is not None and named.suffix in SUFFIXES and named.is_file():
        return named
    found = brought_files(row)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise CheckpointError(f"{folder} holds several checkpoint files ({names}): leave the one that is {row.name}.")
    if not found:
        return None
    owners = [other.name for other in CHECKPOINTS.values() if other.source.file == found[0].name]
    if len(owners) == 1 and owners != [row.name]:
        raise CheckpointError(
            f"{found[0]} has the name of the file of {owners[0]}: load it by that name, or rename it if it is {row.name}."
        )
    return found[0]


def brought_files(row: Checkpoint) -> list[Path]:
    """All files of a checkpoint's folder that may be one."""
    folder = official_root() / row.name
    return sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES and path.is_file())


def where_to_put(row: Checkpoint) -> str:
    """What to download by hand, and where it is looked for."""
    source = row.source
    what = f"the file {source.file}" if source.file else "its checkpoint file"
    place = official_root() / row.name
    others = sorted(path.name for path in place.glob("*") if path.is_file() and path.suffix not in SUFFIXES)
    hint = (
        f" There lies {others[0]}, which ends in none of {' '.join(SUFFIXES)}: unpack or rename it." if others else ""
    )
    return f"download {what} from {source.page} and put it into {place}.{hint}"


def _download(source: Source, token: str | bool | None) -> Path:
    assert source.repository is not None
    assert source.file is not None
    where: dict[str, Any] = {"repo_id": source.repository, "revision": source.revision, "token": token}
    try:
        return Path(hf_hub_download(filename=source.file, **where))
    except EntryNotFoundError:  # of some repositories it is not known whether they hold safetensors or a pickle
        if source.file != SAFE_WEIGHTS:
            raise
        return Path(hf_hub_download(filename=PICKLED_WEIGHTS, **where))


def _from_hub(row: Checkpoint, token: str | bool | None) -> Path:
    source = row.source
    try:
        return _download(source, token)
    except GatedRepoError as error:
        raise CheckpointError(
            f"{row.name} is gated: accept the conditions on {source.page}, then give your token (set HF_TOKEN, run "
            "`hf auth login`, or pass token=…)."
        ) from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{row.name} is not on this machine and the Hub is out of reach: {where_to_put(row)}"
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        raise CheckpointError(
            f"The Hub has no {source.file} in {source.repository} (or not for you, if it is gated): {where_to_put(row)}"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(
            f"{row.name} could not be fetched ({str(error).splitlines()[0]}): {where_to_put(row)}"
        ) from error
