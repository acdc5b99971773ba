"""Several processes on the CPU (gloo): the same numbers as one.

One run is started by torchrun, as a user starts it; the others are forked with the environment that torchrun sets. The
runs of one process are runs of this one, so that what they import is there when others are forked.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from support.small_runs import exit_code, in_children, on_two, overrides, run_files, small_finetuning, small_pretraining
from torch import nn

from ecg_transformers.models.registry import get_method
from ecg_transformers.training.arguments import PretrainingArguments
from ecg_transformers.training.checkpoints.tensors import load_optimizer_tensors, model_tensors, optimizer_tensors
from ecg_transformers.training.finetuning import finetune
from ecg_transformers.training.plan.optimization import build_optimizer, parameter_groups
from ecg_transformers.training.pretraining import pretrain
from ecg_transformers.training.report.log import read_log

RESNET = get_method("ecg_resnet").tiny_config
REPOSITORY = Path(__file__).resolve().parents[3]


def arguments(folder: Path, processes: int, method: str = "st_mem", **changes: Any) -> PretrainingArguments:
    """Steps of eight records, on however many processes."""
    return small_pretraining(folder, method, recipe="tiny", per_device_batch_size=8 // processes, **changes)


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """40 steps of the same global batch on one process, and on two that torchrun starts without `--cpu`."""
    folder = tmp_path_factory.mktemp("processes")
    pretrain(arguments(folder / "one", 1, max_steps=40, save_steps=20))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    options = ["--method=st_mem", "--recipe=tiny", "--dataset_options=num_records=60", "--tensorboard=false"]
    options += [f"--config_overrides={overrides(dict(get_method('st_mem').tiny_config))}"]
    options += ["--per_device_batch_size=4", f"--output_dir={folder / 'two'}", "--max_steps=40", "--save_steps=20"]
    two = subprocess.run(
        [*launcher, str(REPOSITORY / "examples" / "pretrain.py"), *options],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert two.returncode == 0, two.stderr
    assert two.stderr.count("training on 2 processes (cpu") == 1
    assert "1 thread in each process" in two.stderr
    return folder / "one", folder / "two"


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(one_and_two: tuple[Path, Path]) -> None:
    one, two = (read_log(folder / "train_log.jsonl") for folder in one_and_two)
    assert len(one) == len(two) == 40
    for left, right in zip(one, two, strict=True):
        assert left["loss"] == pytest.approx(right["loss"], abs=1e-6)
        assert left["lr"] == right["lr"]
        assert left["grad_norm"] == pytest.approx(right["grad_norm"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mtae", "cmsc"])
def test_methods_without_batch_norm_have_the_losses_of_one_process_too(tmp_path: Path, method: str) -> None:
    """Masked tokens are averaged, and segments compared, over all processes."""
    pretrain(arguments(tmp_path / "1", 1, method, max_steps=6, save_steps=6))
    on_two(lambda: pretrain(arguments(tmp_path / "2", 2, method, max_steps=6, save_steps=6)), tmp_path / "log")
    assert "warning: the loss" not in (tmp_path / "log").read_text()
    one, two = (read_log(tmp_path / str(processes) / "train_log.jsonl") for processes in (1, 2))
    assert len(one) == len(two) == 6
    for left, right in zip(one, two, strict=True):
        assert left["loss"] == pytest.approx(right["loss"], abs=1e-6)
        assert left["grad_norm"] == pytest.approx(right["grad_norm"], rel=1e-4)


# evaluation mode freezes the statistics of batch norm
FROZEN = {
    "ecg_moco_v3": {},
    "cmsc on a residual network": {"backbone_config": {"model_type": "ecg_resnet", **dict(RESNET)}},
    "ecg_cpc": {},
    "ecg_cpc with negatives from everywhere": {"negatives": "everywhere"},
}


def case_of(name: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """The model of a case in evaluation mode, and inputs for four records."""
    entry, changes = get_method(name.split()[0]), FROZEN[name]
    sizes = {} if "backbone_config" in changes else entry.tiny_config
    torch.manual_seed(0)
    model = entry.model_classes["pretraining"](entry.config_class(**{**sizes, **changes})).eval()
    inputs = model.dummy_inputs
    if len(inputs["input_values"]) < 4:
        draws = [model.draw_sample_noise(torch.Generator().manual_seed(seed)) for seed in range(4)]
        inputs = {key: torch.stack([draw[key] for draw in draws]) for key in draws[0]}
        inputs["input_values"] = torch.randn(4, model.config.num_leads, model.config.seq_len)
    return model, inputs


def loss_and_gradients(model: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    loss = model(**inputs).loss
    loss.backward()
    return {"loss": loss.detach()} | {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def on_rank(rank: int, name: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    model, inputs = case_of(name)
    own = {key: value.chunk(2)[rank] for key, value in inputs.items()}
    torch.save(loss_and_gradients(model, own), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("name", FROZEN)
def test_with_frozen_statistics_two_processes_have_loss_and_gradients_of_one(tmp_path: Path, name: str) -> None:
    torch.multiprocessing.start_processes(on_rank, (name, str(tmp_path)), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    whole = loss_and_gradients(*case_of(name))
    assert first.keys() == second.keys() == whole.keys()
    for key, value in whole.items():  # training averages losses and gradients over the processes
        near = {"atol": 1e-6, "rtol": 1e-6} if key == "loss" else {"atol": 1e-5, "rtol": 1e-3}
        torch.testing.assert_close((first[key] + second[key]) / 2, value, **near)


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(one_and_two: tuple[Path, Path]) -> None:
    from safetensors.torch import load_file

    one, two = (load_file(folder / "model.safetensors") for folder in one_and_two)
    differences = {name: float((one[name] - two[name]).abs().max()) for name in one}
    assert max(differences.values()) < 1e-5, {name: value for name, value in differences.items() if value >= 1e-5}


@pytest.mark.slow
def test_a_killed_run_of_two_processes_resumes_exactly(tmp_path: Path, one_and_two: tuple[Path, Path]) -> None:
    args = arguments(tmp_path / "run", 2, max_steps=40, save_steps=7, resume_from_checkpoint="latest")
    processes = in_children(2, lambda: pretrain(args), tmp_path / "log")
    log, deadline = tmp_path / "run" / "train_log.jsonl", time.monotonic() + 120
    while (not log.exists() or log.read_bytes().count(b"\n") < 15) and time.monotonic() < deadline:
        time.sleep(0.01)
    for process in processes:
        os.kill(process, signal.SIGKILL)
    for process in processes:
        exit_code(process)
    assert 15 <= len(log.read_bytes().splitlines()) < 40
    on_two(lambda: pretrain(args), tmp_path / "log")
    assert run_files(tmp_path / "run") == run_files(one_and_two[1])


@pytest.mark.slow
def test_two_processes_fine_tune_like_one_and_count_every_record_once(
    tmp_path: Path, one_and_two: tuple[Path, Path]
) -> None:
    """9 test records on two processes: an uneven last batch."""
    import numpy as np
    import pandas

    common = {
        "max_steps": 6,
        "n_boot": 20,
        "config_overrides": "head_norm=none",
    }  # batch statistics of a half are others
    finetune(small_finetuning(tmp_path / "1", one_and_two[0], per_device_batch_size=8, **common))
    args = small_finetuning(tmp_path / "2", one_and_two[0], per_device_batch_size=4, **common)
    on_two(lambda: finetune(args), tmp_path / "log")
    one, two = (pandas.read_parquet(tmp_path / str(processes) / "predictions.parquet") for processes in (1, 2))
    assert list(one.record_id) == list(two.record_id)
    assert one.record_id.is_unique
    columns = [name for name in one.columns if name.startswith("y_score_")]
    np.testing.assert_allclose(one[columns], two[columns], atol=1e-5)


def sharded(rank: int, folder: str) -> None:
    """Two steps, saved, loaded into a fresh sharded model, one more: three steps of the plain model."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import distribute_tensor

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))

    def fresh(*, shard: bool) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
        for module in [*model, model] if shard else []:
            fully_shard(module, mesh=mesh)
        return model, build_optimizer(parameter_groups(model, weight_decay=0.1), lr=1e-2)

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

    plain, plain_optimizer = fresh(shard=False)
    steps(plain, plain_optimizer, 3)
    model, optimizer = fresh(shard=True)
    steps(model, optimizer, 2)
    weights, moments = model_tensors(model), optimizer_tensors(optimizer, model)
    again, again_optimizer = fresh(shard=True)
    with torch.no_grad():
        for name, parameter in again.named_parameters():
            parameter.copy_(distribute_tensor(weights[name], parameter.device_mesh, parameter.placements))
    load_optimizer_tensors(again_optimizer, again, moments)
    steps(again, again_optimizer, 1)
    for name, value in model_tensors(again).items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-6, atol=1e-7)
    dist.destroy_process_group()


def test_the_state_of_a_sharded_model_is_saved_and_loaded_whole(tmp_path: Path) -> None:
    """FSDP2 on two CPU processes (accelerate itself shards on accelerators only)."""
    torch.multiprocessing.start_processes(sharded, (str(tmp_path),), nprocs=2, start_method="fork")
