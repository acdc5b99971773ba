"""Momentum copies: the update rule, the published schedules, copying and freezing."""

import pytest
import torch
from torch import nn

from ecg_transformers.layers.momentum import (
    copy_state,
    cosine_momentum,
    ema_update,
    freeze,
    linear_momentum,
    scheduled_momentum,
)


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return tuple(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2))


def test_update_is_the_weighted_mean_of_all_parameters():
    slow, fast = networks()
    expected = [0.9 * s.detach() + 0.1 * f.detach() for s, f in zip(slow.parameters(), fast.parameters())]
    ema_update(slow.parameters(), fast.parameters(), 0.9)
    for value, parameter in zip(expected, slow.parameters()):
        torch.testing.assert_close(parameter.detach(), value)


def test_momentum_zero_copies_and_momentum_one_changes_nothing():
    slow, fast = networks()
    before = [p.clone() for p in slow.parameters()]
    ema_update(slow, fast, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, slow.parameters()))
    ema_update(slow, fast, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(fast.parameters(), slow.parameters()))


def test_update_leaves_running_statistics_and_the_source_alone():
    slow, fast = networks()
    fast(torch.randn(8, 3))
    source = [p.clone() for p in fast.parameters()]
    ema_update(slow, fast, 0.5)
    assert torch.equal(slow[1].running_mean, torch.zeros(4))
    assert all(torch.equal(a, b) for a, b in zip(source, fast.parameters()))


def test_update_works_across_precisions():
    slow, fast = torch.zeros(3), torch.ones(3, dtype=torch.bfloat16)
    ema_update([slow], [fast], 0.75)
    torch.testing.assert_close(slow, torch.full((3,), 0.25))


@pytest.mark.parametrize("momentum", [-0.1, 1.1])
def test_momentum_outside_its_range_is_refused(momentum):
    with pytest.raises(ValueError, match="between 0 and 1"):
        ema_update([torch.zeros(1)], [torch.zeros(1)], momentum)


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="same configuration"):
        ema_update([torch.zeros(2)], [torch.zeros(3)], 0.5)


def test_copy_takes_parameters_and_buffers():
    slow, fast = networks()
    fast(torch.randn(8, 3))
    copy_state(slow, fast)
    assert all(torch.equal(a, b) for a, b in zip(fast.state_dict().values(), slow.state_dict().values()))


def test_freeze_takes_modules_and_parameters():
    slow, fast = networks()
    freeze(slow, fast[0].weight)
    assert not any(p.requires_grad for p in slow.parameters())
    assert not fast[0].weight.requires_grad
    assert fast[0].bias.requires_grad


def test_linear_schedule_runs_from_start_to_end():
    assert linear_momentum(0, 10, 0.996, 1.0) == 0.996
    assert linear_momentum(5, 10, 0.996, 1.0) == pytest.approx(0.998)
    assert linear_momentum(10, 10, 0.996, 1.0) == 1.0


def test_cosine_schedule_equals_the_reference_values(parity):
    reference = parity("st_mem", "moco_v3_loss")
    config = parity.config("st_mem", "moco_v3_loss")
    for epoch, value in zip(reference["momentum.epoch"].tolist(), reference["momentum.value"].tolist()):
        momentum = cosine_momentum(epoch / config["momentum_epochs"], config["momentum_base"])
        assert momentum == pytest.approx(value, abs=1e-9)


def test_schedules_are_found_by_name():
    assert scheduled_momentum("cosine", 0.3, 0.99) == cosine_momentum(0.3, 0.99)
    assert scheduled_momentum("linear", 0.25, 0.996) == linear_momentum(1, 4, 0.996, 1.0)
    assert scheduled_momentum("constant", 0.7, 0.99) == 0.99
    with pytest.raises(ValueError, match="no momentum schedule"):
        scheduled_momentum("step", 0.0, 0.99)
