"""What counts as the same run."""

from pathlib import Path

import pytest

from ecg_transformers.training.checkpoints.identity import compare_identities
from ecg_transformers.training.errors import UsageError

BEFORE = {"model": {"hidden_size": 8}, "recipe": {"lr": 0.1, "loss": "auto"}}
NOW = {"model": {"hidden_size": 8, "label_resolution": "samples", "lead_subset_prob": 0.0}, "recipe": {"lr": 0.1}}


def test_a_run_of_an_earlier_version_is_resumed_where_all_it_knew_is_the_same() -> None:
    """Settings that it did not have mean what it did."""
    compare_identities(Path("step-2"), BEFORE, NOW)


@pytest.mark.parametrize(
    ("group", "changes"), [("model", {"lead_subset_prob": 0.5}), ("model", {"hidden_size": 9}), ("recipe", {"lr": 0.2})]
)
def test_any_other_setting_is_another_run(group: str, changes: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=rf"step-2 belongs to another run: its {group}\.{next(iter(changes))} is"):
        compare_identities(Path("step-2"), BEFORE, {**NOW, group: {**NOW[group], **changes}})
