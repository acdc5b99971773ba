import json
import math

import pytest
import torch
from torch import nn

from ecg_transformers.training.errors import UsageError
from ecg_transformers.training.plan.optimization import (
    SCHEDULES,
    Schedule,
    build_optimizer,
    half_cosine_lr,
    one_cycle_lr,
    parameter_groups,
    set_learning_rate,
    unshifted_cosine_lr,
)


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 2))


@pytest.mark.parametrize("name", ["long", "nowarm", "pretrain_yaml"])
def test_the_half_cosine_gives_the_published_rates(parity, name: str) -> None:
    tensors, settings = parity("st_mem", "lr_schedule"), parity.config("st_mem", "lr_schedule")[name]
    ours = [half_cosine_lr(float(epoch), **settings) for epoch in tensors[f"{name}.epoch"]]
    torch.testing.assert_close(
        torch.tensor(ours, dtype=torch.float64), tensors[f"{name}.lr"][:, 0], rtol=1e-12, atol=1e-18
    )


def test_adamw_makes_the_published_steps(parity) -> None:
    tensors, settings = parity("st_mem", "adamw_steps"), parity.config("st_mem", "adamw_steps")
    model = small_model()
    model.load_state_dict({name: tensors[f"before.{name}"] for name in model.state_dict()})
    groups = parameter_groups(model, weight_decay=settings["weight_decay"], decay_one_dimensional=True)
    assert len(groups) == settings["groups"]
    optimizer = build_optimizer(groups, lr=settings["lr"], betas=tuple(settings["betas"]), eps=settings["eps"])
    for step in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(tensors["x"]), tensors["y"])
        loss.backward()
        torch.testing.assert_close(loss.detach(), tensors[f"loss.step{step}"], rtol=1e-5, atol=1e-6)
        optimizer.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, tensors[f"after3.{name}"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["tiny", "official_block", "official_random"])
def test_the_unshifted_cosine_gives_the_published_rates(parity, name: str) -> None:
    from safetensors import safe_open

    tensors = parity("ecg_jepa", "schedules")
    with safe_open(parity.path("ecg_jepa", "schedules"), framework="pt") as file:
        settings = json.loads(file.metadata()["params"])[name]
    per_epoch = settings["iters_per_epoch"]
    ours = [
        unshifted_cosine_lr(
            float(step),
            lr=settings["lr"],
            warmup_steps=settings["warmup_epochs"] * per_epoch,
            total_steps=settings["epochs"] * per_epoch,
        )
        for step in tensors[f"{name}.step"]
    ]
    torch.testing.assert_close(torch.tensor(ours, dtype=torch.float64), tensors[f"{name}.lr"], rtol=1e-12, atol=0)


def test_the_one_cycle_policy_is_that_of_torch() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=40)
    for step in range(40):
        expected = optimizer.param_groups[0]["lr"]
        assert math.isclose(one_cycle_lr(step, lr=0.5, total_steps=40), expected, rel_tol=1e-9)
        if step < 39:
            optimizer.step()
            scheduler.step()


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_stays_between_nothing_and_its_peak(name: str) -> None:
    schedule = Schedule(name, lr=1e-3, total_steps=100, warmup_steps=10)
    rates = [schedule(step) for step in range(100)]
    assert all(0 <= rate <= 1e-3 * (1 + 1e-12) for rate in rates)
    assert max(rates) > 0.9e-3


def test_the_schedule_starts_with_the_warmup_and_ends_at_the_minimum() -> None:
    schedule = Schedule("half_cosine", lr=1.0, total_steps=100, warmup_steps=10, min_lr=0.1)
    assert schedule(0) == 0.0
    assert schedule(10) == 1.0
    assert schedule(99) == pytest.approx(0.1, abs=1e-3)
    assert Schedule("linear_warmup_cosine", lr=1.0, total_steps=100, warmup_steps=10)(0) == pytest.approx(0.1)


def test_an_unknown_schedule_or_an_endless_warmup_is_refused() -> None:
    with pytest.raises(UsageError, match="half_cosine"):
        Schedule("banana", lr=1.0, total_steps=10)
    with pytest.raises(UsageError, match="warm-up"):
        Schedule("half_cosine", lr=1.0, total_steps=10, warmup_steps=10)


def test_vectors_do_not_decay_unless_the_recipe_says_so() -> None:
    groups = parameter_groups(small_model(), weight_decay=0.1)
    decaying = {name for group in groups if group.weight_decay for name in group.names}
    assert decaying == {"0.weight", "2.weight"}
    (all_decay,) = parameter_groups(small_model(), weight_decay=0.1, decay_one_dimensional=True)
    assert len(all_decay.names) == 6


def test_frozen_parameters_are_in_no_group() -> None:
    model = small_model()
    model[0].requires_grad_(False)
    names = {name for group in parameter_groups(model, weight_decay=0.1) for name in group.names}
    assert names == {"1.weight", "1.bias", "2.weight", "2.bias"}


def test_empty_and_wrong_groups_are_errors() -> None:
    model = small_model()
    with pytest.raises(UsageError, match="'encoder' matches no trainable parameter"):
        parameter_groups(model, weight_decay=0.1, no_decay=("encoder",))
    with pytest.raises(UsageError, match="no parameter to decay"):
        parameter_groups(model, weight_decay=0.1, no_decay=("weight",))
    with pytest.raises(UsageError, match="everything is frozen"):
        parameter_groups(model.requires_grad_(False), weight_decay=0.1)


def test_every_trainable_parameter_is_in_exactly_one_group() -> None:
    model = small_model()
    groups = parameter_groups(model, weight_decay=0.1, no_decay=("^2",), lr_factors={r"^0\.": 0.1, "weight": 0.5})
    names = [name for group in groups for name in group.names]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert all(group.parameters for group in groups)


def test_rate_factors_follow_the_name_patterns() -> None:
    groups = parameter_groups(small_model(), weight_decay=0.0, lr_factors={r"^0\.": 0.1})
    optimizer = build_optimizer(groups, lr=1.0)
    set_learning_rate(optimizer, 0.5)
    assert sorted(group["lr"] for group in optimizer.param_groups) == [0.05, 0.5]


def test_adamw_is_fused_on_a_cpu() -> None:
    optimizer = build_optimizer(parameter_groups(small_model(), weight_decay=0.0), lr=1.0)
    assert all(group["fused"] for group in optimizer.param_groups)


def test_the_peak_of_the_unshifted_cosine_is_lost_at_the_end_of_the_warmup() -> None:
    settings = {"lr": 5.5e-5, "warmup_steps": 5, "total_steps": 100}
    assert unshifted_cosine_lr(5, **settings) == pytest.approx(1e-6 + 0.99384 * (5.5e-5 - 1e-6), rel=1e-5)


def test_the_linear_schedule_rises_and_falls_on_straight_lines() -> None:
    run = Schedule("linear", lr=1.0, total_steps=100, warmup_steps=8)
    assert [run(step) for step in (0, 4, 8, 54)] == [0.0, 0.5, 1.0, 0.5]
    assert run(99) == pytest.approx(1 / 92)
