"""Is this checkpoint one of this run? A resumed run must be the same run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ecg_transformers.models.config import ECGConfig
from ecg_transformers.training.checkpoints.folder import Checkpoint
from ecg_transformers.training.errors import UsageError, one_sentence

IDENTITY = "identity.json"  # beside a finished result
_NOT_THE_MODEL = ("transformers_version", "_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype")
_GONE = ("recipe.loss",)  # settings of earlier versions that nothing read
# settings that earlier versions did not have, each with the value that means what they did
_ADDED = {"model.label_resolution": "samples", "model.lead_subset_prob": 0.0}
_SCHEDULE_ONLY = ("total_steps", "recipe.epochs", "recipe.max_steps")


def model_facts(class_name: str, config: ECGConfig) -> dict[str, Any]:
    """Class and config of a model, without what changes from version to version."""
    fields = json.loads(config.to_json_string(use_diff=False))
    return {"class": class_name, **{key: value for key, value in fields.items() if key not in _NOT_THE_MODEL}}


def check_identity(
    checkpoint: Checkpoint,
    identity: Mapping[str, Any],
    *,
    allow_new_schedule: bool = False,
    allow_changed_data: bool = False,
) -> None:
    """Raise `UsageError` when a checkpoint was made by a run with another method, config, data, recipe or seed.

    Paths, number of workers, number of processes, logging and intervals may change.
    """
    compare_identities(
        checkpoint.path,
        checkpoint.json().get("identity", {}),
        identity,
        allow_new_schedule=allow_new_schedule,
        allow_changed_data=allow_changed_data,
    )


def note_changed_data(checkpoint: Checkpoint | None, facts: dict[str, Any], before: Mapping[str, Any]) -> None:
    """Write into the facts of a split at which steps a run went on with other records than `before`."""
    if checkpoint is None:
        return
    changes = list(before.get("changes", []))
    if before.get("fingerprint") != facts["fingerprint"]:
        changes.append({"from_step": checkpoint.step, "instead_of": before.get("fingerprint")})
    if changes:
        facts["changes"] = changes


def check_result(folder: Path, identity: Mapping[str, Any], *, allow_new_schedule: bool = False) -> None:
    """Raise `UsageError` when the finished result in a folder is that of another run, or does not say of which."""
    try:
        before = json.loads((folder / IDENTITY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{folder} does not say which run it is the result of ({one_sentence(error)}); remove it, or choose "
            "another --output_dir."
        ) from error
    compare_identities(folder, before, identity, allow_new_schedule=allow_new_schedule)


def compare_identities(
    path: Path,
    before: Mapping[str, Any],
    identity: Mapping[str, Any],
    *,
    allow_new_schedule: bool = False,
    allow_changed_data: bool = False,
) -> None:
    """Raise `UsageError` when what lies at `path` has another identity than this run."""
    differences = [
        (key, old, new)
        for key, old, new in _differences(before, identity)
        if key not in _GONE
        and not (old is None and key in _ADDED and new == _ADDED[key])
        and not (allow_new_schedule and key.startswith(_SCHEDULE_ONLY))
        and not (allow_changed_data and key.startswith(("data.", "total_steps")))
    ]
    if not differences:
        return
    key, old, new = differences[0]
    more = f" (and {len(differences) - 1} further differences)" if len(differences) > 1 else ""
    hint = " Pass --new_schedule true if the change of length is meant." if key.startswith(_SCHEDULE_ONLY) else ""
    if key.startswith("data."):
        hint = (
            " The records have changed, or an earlier version took their fingerprint (it covered less): pass "
            "--allow_changed_data true if that is meant."
        )
    raise UsageError(
        f"{path} belongs to another run: its {key} is {_short(old)}, this run's is {_short(new)}{more}; "
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
