"""What loading refuses: a checkpoint that does not fit its config, and weights that are pickles."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from transformers import PreTrainedModel


def refuse_misfits(model: PreTrainedModel, missing: set[str], unexpected: set[str], mismatched: set[str]) -> None:
    """Raise a ValueError unless the encoder was loaded whole: it would run, and be wrong.

    A missing head is what fine-tuning expects, and so are heads in the file that the class does not have; half of a head
    is neither.
    """
    name, prefix = type(model).__name__, f"{model.base_model_prefix}."
    has_prefix = model.base_model is not model
    encoder = {key for key in model.state_dict() if key.startswith(prefix) or not has_prefix}
    holes = sorted(encoder & (missing | mismatched))
    own = {key.removeprefix(prefix).split(".")[0] for key in encoder}
    foreign = sorted(key for key in unexpected if key.removeprefix(prefix).split(".")[0] in own)
    if holes and len(holes) == len(encoder):
        raise ValueError(
            f"The checkpoint holds none of the {len(encoder)} encoder tensors of {name}, which would keep random weights. "
            f"It has {_some(sorted(unexpected) or ['no others'])}; {name} needs {_some(holes)}. It belongs to another "
            "model, or its names carry a prefix: `ecg-transformers convert METHOD FILE OUT_DIR` reads official files."
        )
    if holes:
        kind = "lacks" if not set(holes) & mismatched else "lacks, or has in other shapes,"
        raise ValueError(
            f"The checkpoint {kind} {len(holes)} of the {len(encoder)} encoder tensors of {name}: {_some(holes)}. It is "
            "damaged or belongs to another model."
        )
    heads = model.state_dict().keys() - encoder
    for head in sorted({key.split(".")[0] for key in heads & missing}):
        part = {key for key in heads if key.split(".")[0] == head}
        if lost := sorted(part & missing) if not part <= missing else []:
            raise ValueError(
                f"The checkpoint lacks {len(lost)} of the {len(part)} tensors of the {head} of {name}: {_some(lost)}. It is "
                "damaged or belongs to another model."
            )
    if foreign:
        raise ValueError(
            f"The checkpoint holds {len(foreign)} encoder tensors for which this config of {name} has no place: "
            f"{_some(foreign)}. The config (or a setting given with it) describes another model."
        )


def refuse_pickles(source: str | PathLike[str] | None) -> None:
    """Raise a ValueError for a folder whose only weights are pickles: loading them could execute what they hold."""
    folder = Path(str(source)) if source is not None else None
    if folder is None or not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if pickles:
        raise ValueError(
            f"{folder} holds its weights as {pickles[0]}, a pickle, which is not loaded. An official checkpoint becomes a "
            "model by `ecg-transformers convert METHOD FILE OUT_DIR`, which executes nothing in it."
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
