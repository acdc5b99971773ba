import numpy as np
import pytest

from ecg_transformers.training.errors import UsageError
from ecg_transformers.training.plan.batches import BatchPlan, StepSampler, near_order
from ecg_transformers.training.plan.randomness import numpy_generator, permutation, stream_key, torch_generator


def records_of_step(plan: BatchPlan, step: int) -> list[int]:
    """What all processes see in one step, counted batches only."""
    return [
        index
        for rank in range(plan.num_processes)
        for batch in plan.micro_batches(step, rank)
        if batch.counted
        for index in batch.indices
    ]


def test_an_epoch_holds_every_record_once() -> None:
    plan = BatchPlan(num_records=24, per_device_batch_size=4, seed=3)
    seen = [index for step in range(plan.steps_per_epoch) for index in plan.global_batch(step)]
    assert sorted(seen) == list(range(24))


def test_epochs_have_different_orders_and_seeds_too() -> None:
    orders = {tuple(permutation(50, seed, "order", epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_the_order_is_a_pure_function_that_never_changes() -> None:
    """A figure, so that a new library version cannot change runs that are to be resumed."""
    assert permutation(8, 0, "order", 0).tolist() == [4, 5, 6, 3, 7, 1, 2, 0]
    assert stream_key(0, "order", 0) == stream_key(0, "order", 0) != stream_key(0, "order", 1)


@pytest.mark.parametrize(
    ("per_device", "accumulation", "processes"), [(4, 1, 2), (2, 2, 2), (4, 2, 1), (1, 8, 1), (2, 1, 4)]
)
def test_the_global_batch_is_the_same_however_it_is_divided(per_device: int, accumulation: int, processes: int) -> None:
    whole = BatchPlan(num_records=50, per_device_batch_size=8, seed=1)
    divided = BatchPlan(50, per_device, accumulation, processes, seed=1)
    for step in range(13):
        assert sorted(records_of_step(divided, step)) == sorted(records_of_step(whole, step))


def test_two_processes_see_disjoint_halves() -> None:
    plan = BatchPlan(num_records=32, per_device_batch_size=4, num_processes=2)
    halves = [
        {index for step in range(4) for batch in plan.micro_batches(step, rank) for index in batch.indices}
        for rank in (0, 1)
    ]
    assert not halves[0] & halves[1]
    assert halves[0] | halves[1] == set(range(32))


def test_the_incomplete_batch_is_dropped_or_counted_once() -> None:
    dropped = BatchPlan(num_records=21, per_device_batch_size=4, num_processes=2)
    kept = BatchPlan(num_records=21, per_device_batch_size=4, num_processes=2, drop_last=False)
    assert (dropped.steps_per_epoch, kept.steps_per_epoch) == (2, 3)
    assert sorted(index for step in range(3) for index in records_of_step(kept, step)) == list(range(21))


def test_the_records_of_a_run_are_counted() -> None:
    for drop_last in (True, False):
        plan = BatchPlan(19, 4, drop_last=drop_last)
        taken = [sum(len(plan.global_batch(step)) for step in range(steps)) for steps in range(12)]
        assert [plan.records_in(steps) for steps in range(12)] == taken


def test_a_process_without_a_record_runs_a_filler_of_no_weight() -> None:
    plan = BatchPlan(num_records=9, per_device_batch_size=2, num_processes=4, drop_last=False)
    last = [plan.micro_batches(1, rank)[0] for rank in range(4)]
    assert [batch.counted for batch in last] == [True, False, False, False]
    assert all(len(batch.indices) == 1 for batch in last)


def test_a_sampler_started_in_mid_epoch_continues_the_same_sequence() -> None:
    plan = BatchPlan(num_records=10, per_device_batch_size=3, accumulation=1)
    whole = list(StepSampler(plan, 0, 0, 9))
    assert list(StepSampler(plan, 0, 4, 9)) == whole[4:]
    assert len(StepSampler(plan, 0, 4, 9)) == 5


def test_an_impossible_batch_is_refused_with_the_numbers() -> None:
    with pytest.raises(UsageError, match=r"takes 32 records.*holds only 20"):
        BatchPlan(num_records=20, per_device_batch_size=32)
    with pytest.raises(UsageError, match="no record"):
        BatchPlan(num_records=0, per_device_batch_size=1)


def test_generators_depend_on_every_part_of_their_name() -> None:
    names = [(0, "crop", 0, 1), (0, "crop", 1, 0), (1, "crop", 0, 0), (0, "noise", 0, 1)]
    assert len({numpy_generator(*name).random() for name in names}) == 4
    assert len({float(torch_generator(*name).initial_seed()) for name in names}) == 4
    assert np.array_equal(numpy_generator(0, "a").random(3), numpy_generator(0, "a").random(3))


GROUPS = np.repeat(np.arange(30), 8)[:237]


def test_an_order_that_stays_near_holds_every_record_once_and_differs_by_epoch() -> None:
    orders = [near_order(GROUPS, 12, seed=0, epoch=epoch) for epoch in range(3)]
    assert all(sorted(order) == list(range(237)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_a_batch_comes_from_many_groups_and_a_process_reads_each_of_its_groups_once() -> None:
    plan = BatchPlan(237, per_device_batch_size=6, num_processes=2, groups=GROUPS)
    assert len(set(GROUPS[plan.global_batch(0)])) >= 10
    for rank in (0, 1):
        kept: list[int] = []
        read = 0
        for step in range(plan.steps_per_epoch):
            for index in plan.micro_batches(step, rank)[0].indices:
                group = int(GROUPS[index])
                read += group not in kept
                kept = [*(other for other in kept if other != group), group][-7:]
        assert read <= 30 / 2 + 6  # half of the groups, and those that two lanes share


def test_the_global_batch_of_shards_is_the_same_however_it_is_divided() -> None:
    whole = BatchPlan(237, per_device_batch_size=8, seed=1, groups=GROUPS)
    divided = BatchPlan(237, per_device_batch_size=2, accumulation=2, num_processes=2, seed=1, groups=GROUPS)
    for step in range(2 * whole.steps_per_epoch):
        assert sorted(records_of_step(divided, step)) == sorted(records_of_step(whole, step))


def test_the_length_of_a_run_is_told_in_words():
    assert BatchPlan(100, 8, 2).length(12) == "12 steps of 16 records, 2 epochs of 100 records"
    assert BatchPlan(100, 100).length(1) == "1 step of 100 records, 1 epoch of 100 records"
