"""Reading foreign checkpoint files: tensors and plain values come out, and nothing in a file is ever executed.

Every pickle goes through torch's reader for weights (`weights_only=True`). What published training scripts leave beside
their tensors (NumPy scalars, configurations of OmegaConf, fairseq, Lightning, transformers) is known by name and stands
for an inert object that takes anything and keeps nothing: the named modules are not imported. Any other name in a
file refuses the file.
"""

import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ecg_transformers.models.shared.state_dicts import CheckpointError

MAX_FILE_BYTES = 20 * 2**30
_MAX_NAMES = 200
# how files begin that are no checkpoint
_BEGINNINGS = {
    b"version https://git-lfs": "it is a Git LFS pointer and not the file itself, which `git lfs pull` fetches",
    b"<": "it is a web page: the page was downloaded and not the file",
    b"\x1f\x8b": "it is a compressed archive (gzip): unpack it first",
    b"BZh": "it is a compressed archive (bzip2): unpack it first",
    b"\xfd7zXZ": "it is a compressed archive (xz): unpack it first",
    b"7z\xbc\xaf": "it is a compressed archive (7z): unpack it first",
    b"\x89HDF": "it is an HDF5 file, which Keras writes and torch does not",
}
_TAR_MARK = slice(257, 262)
# what lies in zip files that hold a program beside their weights
_PROGRAMS = {"constants.pkl": "TorchScript", "extern_modules": "torch.package", "archive_format": "torch.export"}


class InertObject:
    """Stands for an object of a configuration: takes any arguments and state, and keeps none."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "InertObject":
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __hash__(self) -> int:
        return id(self)


def _empty_dict(*args: Any) -> dict[Any, Any]:
    return {}


# what published scripts leave in their files; full names, as regular expressions
_INERT = (
    # numbers and arrays of NumPy 1 and 2: metrics, scheduler states
    r"numpy\.(?:core|_core)\.multiarray\.(?:scalar|_reconstruct)",
    r"numpy\.(?:core|_core)\.numeric\._frombuffer",
    r"numpy\.(?:dtype|ndarray|bool_|float16|float32|float64|int8|int16|int32|int64|uint8)",
    r"numpy\.dtypes\.\w+DType",
    # configurations
    r"omegaconf\.(?:\w+\.)*\w+",
    r"(?:fairseq|fairseq_signals|hydra)\.(?:\w+\.)*\w+",
    r"(?:pytorch_lightning|lightning|lightning_fabric|lightning_utilities)\.(?:\w+\.)*\w+",
    r"transformers\.(?:models\.\w+\.)?configuration_\w+\.\w+",
    r"hubert_ecg\.(?:\w+\.)*\w+Config",
    r"argparse\.Namespace",
    r"types\.SimpleNamespace",
    r"typing\.Any",
    r"pathlib\.(?:_local\.)?(?:PurePosixPath|PosixPath|PureWindowsPath|WindowsPath)",
    r"builtins\.(?:dict|list|tuple|int|float|str|bool|bytes|object)",
)
# dictionaries with other access to their entries
_DICTIONARIES = (
    r"(?:pytorch_lightning|lightning|lightning_fabric)\.(?:\w+\.)*AttributeDict",
    r"easydict\.EasyDict",
    r"addict\.(?:addict\.)?Dict",
    r"yacs\.config\.CfgNode",
)


def stand_in(name: str) -> Callable[..., object] | None:
    """What a name in a pickle stands for when it is read: an inert object, a dictionary, or None (refused)."""
    if name == "collections.defaultdict":
        return _empty_dict
    if any(re.fullmatch(pattern, name) for pattern in _DICTIONARIES):
        return OrderedDict
    return InertObject if any(re.fullmatch(pattern, name) for pattern in _INERT) else None


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """The content of a checkpoint file; nothing in it is ever executed.

    Raises:
        CheckpointError: no such file, a file that cannot be read, or one that names code other than the known
            configuration objects.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise CheckpointError(
            f"{path}: {path.stat().st_size} bytes are more than a checkpoint of these methods can have."
        )
    content = _read_safetensors(path) if _is_safetensors(path) else _read_pickle(path)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a dictionary of tensors.")
    return content


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError as error:
        raise CheckpointError(f"{path}: it cannot be read ({error.strerror}).") from error


def _is_safetensors(path: Path) -> bool:
    """By its name, or by its content: some repositories keep such a file under the name of a pickle."""
    return path.suffix == ".safetensors" or _beginning(path)[8:9] == b"{"


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        return load_file(path)
    except SafetensorError as error:
        is_pickle = _beginning(path).startswith((b"PK", b"\x80"))
        what = "it is a pickle: give it the ending .pt" if is_pickle else _what_else(path)
        raise CheckpointError(f"{path}: {what or f'no readable safetensors file ({error})'}.") from error


def _what_else(path: Path) -> str | None:
    """What a file that could not be read is instead of a checkpoint; None where that cannot be told."""
    first = _beginning(path)
    if not first:
        return "it is empty"
    if first[_TAR_MARK] == b"ustar":
        return "it is an archive (tar): unpack it first"
    names = {entry.filename.rpartition("/")[2] for entry in _entries(path)}
    if names:
        if programs := [title for name, title in _PROGRAMS.items() if name in names]:
            return f"it holds a program ({programs[0]}), which is not executed: save its state dict alone"
        return None if "data.pkl" in names else "it is an archive (zip) and no file of torch.save: unpack it first"
    return next((what for mark, what in _BEGINNINGS.items() if first.lstrip().startswith(mark)), None)


def _read_pickle(path: Path) -> Any:
    """The content of a file of `torch.save`, names that are no tensors replaced by their stand-ins."""
    stands: dict[str, Any] = {}
    _refuse_damage(path)
    while True:
        try:
            return _load_weights(path, stands)
        except Exception as error:  # a damaged or hostile file fails in whatever way its bytes lead to
            names = _foreign_names(path, error) - set(stands)
            refused = sorted(name for name in names if stand_in(name) is None)
            if refused or not names or len(stands) > _MAX_NAMES:
                raise CheckpointError(_refusal(path, refused)) from error
            stands |= {name: stand_in(name) for name in names}


def _load_weights(path: Path, stands: Mapping[str, Callable[..., Any]]) -> Any:
    with torch.serialization.safe_globals([(stand, name) for name, stand in stands.items()]):
        # mapped, not read: two thirds of a training checkpoint are the optimiser's
        return torch.load(path, map_location="cpu", weights_only=True, mmap=_can_be_mapped(path))


def _can_be_mapped(path: Path) -> bool:
    """Whether tensors lie in the file as they are; torch would take compressed ones for values."""
    entries = _entries(path)
    return bool(entries) and all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)


def _refuse_damage(path: Path) -> None:
    """Raise a CheckpointError for a zip file whose entries do not fit their checksums, which torch does not look at.

    Where none fits, the file was written without them.
    """
    entries = _entries(path)
    if sum(entry.file_size for entry in entries) > MAX_FILE_BYTES:
        raise CheckpointError(f"{path}: it unpacks to more than a checkpoint of these methods can have.")
    if not entries:
        return
    with zipfile.ZipFile(path) as archive:
        damaged = [entry.filename for entry in entries if not _is_sound(archive, entry)]
    if damaged and len(damaged) < len(entries):
        raise CheckpointError(f"{path}: it is damaged ({damaged[0]} does not fit its checksum); fetch it again.")


def _is_sound(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(entry) as content:
            while content.read(2**20):
                pass
    except Exception:  # as the bytes lead to
        return False
    return True


def _entries(path: Path) -> list[zipfile.ZipInfo]:
    """What lies in a zip file; nothing in one that is damaged, or is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except Exception:  # a damaged list of entries fails in many ways
        return []


def _foreign_names(path: Path, error: Exception) -> set[str]:
    """The names that torch does not know by itself: all of a file, or the one that it stumbled on in an old format."""
    try:
        return set(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # the old format has no such list, and a damaged file none at all
        found = re.findall(r"GLOBAL ([\w.]+)", str(error))
        return {name if "." in name else f"builtins.{name}" for name in found}


def _refusal(path: Path, refused: list[str]) -> str:
    if what := _what_else(path):
        return f"{path}: {what}."
    shown = ", ".join(refused[:5]) + (", …" if len(refused) > 5 else "")
    reason = "it cannot be read: it is cut short, or pickled in another protocol than torch's own"
    if refused:
        reason = f"it holds objects that are not tensors ({shown})"
    return (
        f"{path}: {reason}. Checkpoints are loaded without executing anything in them; save the state dict alone "
        "(torch.save(model.state_dict(), file)) and convert that."
    )
