"""Forward passes of losses that compare records: which sizes are refused, which warned of, what is gathered."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.small_runs import exit_code, in_children, overrides, small_finetuning, small_pretraining

from ecg_transformers.models.registry import get_method
from ecg_transformers.training.checkpoints.folder import list_checkpoints, verify
from ecg_transformers.training.errors import NonFiniteError, UsageError
from ecg_transformers.training.finetuning import finetune
from ecg_transformers.training.plan.batches import BatchPlan
from ecg_transformers.training.plan.passes import (
    batch_norms,
    check_head,
    check_passes,
    warn_of_divided_batches,
    with_sync_batch_norm,
)
from ecg_transformers.training.pretraining import pretrain
from ecg_transformers.training.report.log import read_log

RESNET = {"model_type": "ecg_resnet", **get_method("ecg_resnet").tiny_config}


def tiny_model(method: str, **changes: Any) -> Any:
    entry = get_method(method)
    sizes = {"projection_size": 8} if "backbone_config" in changes else entry.tiny_config
    return entry.model_classes["pretraining"](entry.config_class(**{**sizes, **changes}))


# whether the loss changes with (accumulated passes, processes): batch norm does with both, a comparison of records, which
# are gathered over processes, with the first only
DIVIDED = {
    "st_mem": ({}, False, False),
    "ecg_moco_v3": ({}, True, True),
    "cmsc": ({}, True, False),
    "cmsc on a network with batch norm": ({"backbone_config": RESNET}, True, True),
    "ecg_cpc": ({}, True, True),
    "ecg_cpc without batch norm": ({"conv_norm": False}, False, False),
    "ecg_cpc with negatives from everywhere": ({"conv_norm": False, "negatives": "everywhere"}, True, False),
}


@pytest.mark.parametrize("case", DIVIDED)
def test_divided_batches_are_warned_of_where_they_change_the_loss(capsys, case: str) -> None:
    changes, with_passes, with_processes = DIVIDED[case]
    model = tiny_model(case.split()[0], **changes)
    warn_of_divided_batches("It", model, BatchPlan(40, 4, 1, 1))
    assert capsys.readouterr().err == ""
    for plan, expected in ((BatchPlan(40, 4, 2, 1), with_passes), (BatchPlan(40, 4, 1, 2), with_processes)):
        warn_of_divided_batches("It", model, plan)
        assert capsys.readouterr().err.startswith("warning: the loss of") is expected


class OnTwoGPUs:
    """As much of an accelerator as the conversion of batch norm asks for."""

    num_processes = 2
    device = torch.device("cuda")


@pytest.mark.parametrize(("method", "changes"), [("cmsc", {"backbone_config": RESNET}), ("ecg_moco_v3", {})])
def test_batch_norm_of_any_model_is_synchronised_on_several_gpus(capsys, method: str, changes: dict) -> None:
    model = tiny_model(method, **changes)
    count, parameters = len(batch_norms(model)), dict(model.named_parameters())
    assert count
    converted = with_sync_batch_norm(model, OnTwoGPUs())
    norms = batch_norms(converted)
    assert len(norms) == count
    assert all(isinstance(norm, torch.nn.SyncBatchNorm) for norm in norms)
    # the optimiser was built before
    assert all(parameters[name] is parameter for name, parameter in converted.named_parameters())
    warn_of_divided_batches("It", converted, BatchPlan(40, 4, 1, 2))
    assert capsys.readouterr().err == ""


def test_a_run_synchronises_batch_norm_without_being_told_of_it(tmp_path: Path, monkeypatch) -> None:
    """The method's registry entry knows nothing of the backbone's batch norm."""
    from ecg_transformers.training import run

    seen = []

    def note(model, accelerator):
        seen.append(len(batch_norms(model)))
        return model

    monkeypatch.setattr(run, "with_sync_batch_norm", note)
    config = {"backbone_config": RESNET, "projection_size": 8, "seq_len": 128, "sampling_rate": 100}
    changes = {"config_overrides": overrides(config), "preprocessing_overrides": "patch_size=16", "max_steps": 1}
    pretrain(small_pretraining(tmp_path / "yes", "cmsc", **changes))
    pretrain(small_pretraining(tmp_path / "no", "cmsc", sync_batch_norm=False, **changes))
    assert len(seen) == 1
    assert seen[0] > 0


@pytest.mark.parametrize(
    ("records", "per_device", "accumulation", "num_processes", "drop_last", "fits"),
    [
        (20, 4, 1, 1, True, True),
        (20, 1, 1, 1, True, False),  # a record alone
        (20, 1, 2, 1, True, False),
        (21, 4, 1, 1, True, True),
        (21, 4, 1, 1, False, False),  # the last batch holds one record
        (22, 4, 1, 1, False, True),
        (23, 4, 2, 1, False, True),  # 4 and 3 in the last step, one after the other
        (20, 4, 1, 2, False, True),  # 2 and 2
        (21, 4, 1, 2, False, False),  # 3 and 2
        (21, 4, 1, 2, True, True),
    ],
)
def test_passes_with_nothing_to_compare_are_refused(records, per_device, accumulation, num_processes, drop_last, fits):
    plan = BatchPlan(records, per_device, accumulation, num_processes, drop_last=drop_last)
    check_passes(tiny_model("st_mem"), plan)
    for model in (tiny_model("cmsc"), tiny_model("ecg_moco_v3"), tiny_model("ecg_cpc", negatives="everywhere")):
        if fits:
            check_passes(model, plan)
            continue
        with pytest.raises(UsageError, match=r"at least two.*larger --per_device_batch_size or --drop_last true"):
            check_passes(model, plan)


@pytest.mark.parametrize("changes", [{"per_device_batch_size": 1}, {"max_records": 9, "drop_last": False}])
@pytest.mark.parametrize("method", ["cmsc", "ecg_moco_v3"])
def test_a_record_alone_is_refused_before_anything_is_trained(tmp_path: Path, method: str, changes: dict) -> None:
    with pytest.raises(UsageError, match="compares the records of a forward pass"):
        pretrain(small_pretraining(tmp_path / "run", method, **changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("records", "per_device", "num_processes", "drop_last", "fits"),
    [
        (21, 4, 1, True, True),
        (21, 4, 1, False, False),  # the last batch holds one record
        (22, 4, 1, False, True),
        (1, 1, 1, True, False),
        (20, 1, 1, True, False),
        (21, 2, 2, False, False),  # the second process has none of the last batch
    ],
)
def test_a_head_with_batch_norm_is_never_given_one_record(records, per_device, num_processes, drop_last, fits):
    plan = BatchPlan(records, per_device, 1, num_processes, drop_last=drop_last)
    entry = get_method("ecg_resnet")  # its encoder has batch norm too, which takes one record
    for norm in ("none", "batch_norm"):
        model = entry.model_classes["classification"](entry.config_class(**entry.tiny_config, head_norm=norm))
        if fits or norm == "none":
            check_head(model, plan)
            continue
        with pytest.raises(UsageError, match=r"batch norm.*--config_overrides head_norm=none"):
            check_head(model, plan)


def test_a_last_batch_of_one_record_stops_a_classifier_before_its_first_step(tmp_path: Path) -> None:
    args = small_finetuning(
        tmp_path / "run",
        "st_mem",
        mode="scratch",
        config_overrides=overrides(dict(get_method("st_mem").tiny_config)),
        max_records=9,
        drop_last=False,
    )
    with pytest.raises(UsageError, match=r"batch norm.*9 training records"):
        finetune(args)
    assert not list((tmp_path / "run").glob("checkpoints/*"))


@pytest.mark.parametrize("method", ["cmsc", "ecg_wav2vec2"])
def test_a_pass_over_one_patient_is_named_and_the_steps_before_it_are_kept(tmp_path: Path, monkeypatch, method) -> None:
    from ecg_transformers.training import pretraining

    original = pretraining.load_split

    def third_batch_of_one_patient(*arguments, **options):
        split = original(*arguments, **options)
        for index in BatchPlan(len(split), 4).global_batch(2):
            split.patient_ids[index] = "7"
        return split

    monkeypatch.setattr(pretraining, "load_split", third_batch_of_one_patient)
    with pytest.raises(UsageError, match=r"loss of step 3 has nothing to contrast.*one patient.*records: ") as caught:
        pretrain(small_pretraining(tmp_path, method, max_steps=5))
    assert caught.value.is_shared
    assert len(str(caught.value).split("records: ")[1].split(", ")) == 4
    assert [row["step"] for row in read_log(tmp_path / "train_log.jsonl")] == [1, 2]
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == ["step-2"]


def test_a_process_with_one_patient_stops_all_where_each_contrasts_its_own(tmp_path: Path, monkeypatch) -> None:
    from ecg_transformers.training import pretraining

    original = pretraining.load_split

    def second_half_of_one_patient(*arguments, **options):
        split = original(*arguments, **options)
        for index in BatchPlan(len(split), 2, 1, 2).pass_over_processes(1, 0)[1]:
            split.patient_ids[index] = "7"
        return split

    monkeypatch.setattr(pretraining, "load_split", second_half_of_one_patient)
    args = small_pretraining(tmp_path / "run", "ecg_wav2vec2", per_device_batch_size=2, max_steps=3)
    children = in_children(2, lambda: pretrain(args), tmp_path / "log")
    assert [exit_code(pid) for pid in children] == [2, 2]
    log = (tmp_path / "log").read_text()
    assert (
        "The loss of step 2 has nothing to contrast: all records of a forward pass on one of the processes belong"
        in log
    )
    assert log.count("nothing to contrast") == 1
    assert "Traceback" not in log
    assert [row["step"] for row in read_log(tmp_path / "run" / "train_log.jsonl")] == [1]


def test_of_records_that_can_only_be_compared_the_bad_one_is_blamed_alone(tmp_path: Path, monkeypatch) -> None:
    """A record alone has no contrast, which says nothing against it."""
    from ecg_transformers.training import loop

    original, bad = loop.next_batch, []

    def poisoned(run, batches, micro_batch):
        batch = original(run, batches, micro_batch)
        batch["input_values"][1] = float("inf")
        bad.append(run.data.samples.record_ids[micro_batch.indices[1]])
        return batch

    monkeypatch.setattr(loop, "next_batch", poisoned)
    with pytest.raises(NonFiniteError, match=r"Records that give it by themselves: [^,]*$"):
        pretrain(small_pretraining(tmp_path, "cmsc", max_steps=5))
    (saved,) = list_checkpoints(tmp_path / "crash")
    assert verify(saved).json()["crash"]["blamed_records"] == bad
