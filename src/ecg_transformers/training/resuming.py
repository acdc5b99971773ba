"""Is this checkpoint one of this run? A resumed run must be the same run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ecg_transformers.training.checkpointing import Checkpoint
from ecg_transformers.training.errors import UsageError

_NOT_THE_MODEL = ("transformers_version", "_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype")
_SCHEDULE_ONLY = ("total_steps", "recipe.epochs", "recipe.max_steps")


def model_facts(model: Any) -> dict[str, Any]:
    """Class and config of a model, without what changes from version to version."""
    config = json.loads(model.config.to_json_string(use_diff=False))
    return {
        "class": type(model).__name__,
        **{key: value for key, value in config.items() if key not in _NOT_THE_MODEL},
    }


def check_identity(checkpoint: Checkpoint, identity: Mapping[str, Any], *, allow_new_schedule: bool = False) -> None:
    """Raise `UsageError` when a checkpoint was made by a run with another method, config, data, recipe or seed.

    Paths, number of workers, number of processes, logging and intervals may change.
    """
    before = checkpoint.json().get("identity", {})
    differences = [
        (key, old, new)
        for key, old, new in _differences(before, identity)
        if not (allow_new_schedule and key.startswith(_SCHEDULE_ONLY))
    ]
    if not differences:
        return
    key, old, new = differences[0]
    more = f" (and {len(differences) - 1} further differences)" if len(differences) > 1 else ""
    hint = " Pass --new_schedule true if the change of length is meant." if key.startswith(_SCHEDULE_ONLY) else ""
    raise UsageError(
        f"{checkpoint.path} belongs to another run: its {key} is {_short(old)}, this run's is {_short(new)}{more}; "
        f"resume with the same settings or choose another --output_dir.{hint}"
    )


def _differences(before: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        order = [*before, *(key for key in now if key not in before)]
        for key in order:
            yield from _differences(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    elif before != now:
        yield path, before, now


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"
