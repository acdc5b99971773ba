"""Several processes on the CPU (torchrun, gloo): the same numbers as one."""

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
from support.small_runs import overrides, run_files

from ecg_transformers.models.registry import get_method
from ecg_transformers.training.report.log import read_log

RESNET = get_method("ecg_resnet").tiny_config
REPOSITORY = Path(__file__).resolve().parents[3]
SMALL = [
    "--dataset_options=num_records=60",
    f"--config_overrides={overrides(dict(get_method('st_mem').tiny_config))}",
    "--recipe=tiny",
    "--tensorboard=false",
    "--cpu=true",
]


def command(script: str, processes: int, *arguments: str) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    start = launcher if processes > 1 else [sys.executable]
    return [*start, str(REPOSITORY / "examples" / script), *SMALL, *arguments]


def run_script(script: str, processes: int, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        command(script, processes, *arguments), env=environment, capture_output=True, text=True, timeout=280
    )


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """80 steps of the same global batch on one process and on two."""
    folder = tmp_path_factory.mktemp("processes")
    common = ["--method=st_mem", "--max_steps=80", "--save_steps=40"]
    one = run_script("pretrain.py", 1, *common, f"--output_dir={folder / 'one'}", "--per_device_batch_size=8")
    two = run_script("pretrain.py", 2, *common, f"--output_dir={folder / 'two'}", "--per_device_batch_size=4")
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    assert "training on 1 process " in one.stderr
    assert "training on 2 processes " in two.stderr
    return folder / "one", folder / "two"


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(one_and_two: tuple[Path, Path]) -> None:
    one, two = (read_log(folder / "train_log.jsonl") for folder in one_and_two)
    assert len(one) == len(two) == 80
    for left, right in zip(one, two, strict=True):
        assert left["loss"] == pytest.approx(right["loss"], abs=1e-6)
        assert left["lr"] == right["lr"]
        assert left["grad_norm"] == pytest.approx(right["grad_norm"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mtae", "cmsc"])
def test_methods_without_batch_norm_have_the_losses_of_one_process_too(tmp_path: Path, method: str) -> None:
    """Masked tokens are averaged, and segments compared, over all processes."""
    common = [f"--method={method}", "--max_steps=6", "--save_steps=6"]
    common += [f"--config_overrides={overrides(dict(get_method(method).tiny_config))}"]
    for processes in (1, 2):
        sizes = [f"--output_dir={tmp_path / str(processes)}", f"--per_device_batch_size={8 // processes}"]
        result = run_script("pretrain.py", processes, *common, *sizes)
        assert result.returncode == 0, result.stderr
        assert "warning: the loss" not in result.stderr
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
    arguments = ["--method=st_mem", "--max_steps=80", "--save_steps=7", "--per_device_batch_size=4"]
    arguments += [f"--output_dir={tmp_path}", "--resume_from_checkpoint=latest"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command("pretrain.py", 2, *arguments), env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    log, deadline = tmp_path / "train_log.jsonl", time.monotonic() + 120
    while (not log.exists() or log.read_bytes().count(b"\n") < 30) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 30 <= len(log.read_bytes().splitlines()) < 80
    resumed = run_script("pretrain.py", 2, *arguments)
    assert resumed.returncode == 0, resumed.stderr
    assert run_files(tmp_path) == run_files(one_and_two[1])


@pytest.mark.slow
def test_two_processes_fine_tune_like_one_and_count_every_record_once(
    tmp_path: Path, one_and_two: tuple[Path, Path]
) -> None:
    """9 test records on two processes: an uneven last batch."""
    import numpy as np
    import pandas

    common = [f"--model_name_or_path={one_and_two[0]}", "--max_steps=6", "--num_crops=2", "--n_boot=20"]
    common += ["--config_overrides=head_norm=none"]  # batch statistics of half a batch are others
    for processes in (1, 2):
        arguments = [*common, f"--output_dir={tmp_path / str(processes)}", f"--per_device_batch_size={8 // processes}"]
        result = run_script("finetune_classification.py", processes, *arguments)
        assert result.returncode == 0, result.stderr
    one, two = (pandas.read_parquet(tmp_path / str(processes) / "predictions.parquet") for processes in (1, 2))
    assert list(one.record_id) == list(two.record_id)
    assert one.record_id.is_unique
    columns = [name for name in one.columns if name.startswith("y_score_")]
    np.testing.assert_allclose(one[columns], two[columns], atol=1e-5)


SHARDED = """
import sys, torch, torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.device_mesh import init_device_mesh
from ecg_transformers.training.plan.optimization import build_optimizer, parameter_groups
from ecg_transformers.training.checkpoints.tensors import load_optimizer_tensors, model_tensors, optimizer_tensors

dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (2,))
x = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))

def fresh(shard):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    if shard:
        for layer in model:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    return model, build_optimizer(parameter_groups(model, weight_decay=0.1), lr=1e-2)

def steps(model, optimizer, count):
    for _ in range(count):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

plain, plain_optimizer = fresh(False)
steps(plain, plain_optimizer, 3)
sharded, optimizer = fresh(True)
steps(sharded, optimizer, 2)
weights, moments = model_tensors(sharded), optimizer_tensors(optimizer, sharded)
again, again_optimizer = fresh(True)
from torch.distributed.tensor import distribute_tensor
with torch.no_grad():
    for name, parameter in again.named_parameters():
        parameter.copy_(distribute_tensor(weights[name], parameter.device_mesh, parameter.placements))
load_optimizer_tensors(again_optimizer, again, moments)
steps(again, again_optimizer, 1)
for name, value in model_tensors(again).items():
    torch.testing.assert_close(value, plain.state_dict()[name], rtol=1e-6, atol=1e-7)
dist.destroy_process_group()
print("equal")
"""


@pytest.mark.slow
def test_the_state_of_a_sharded_model_is_saved_and_loaded_whole(tmp_path: Path) -> None:
    """FSDP2 on two CPU processes (accelerate itself shards on accelerators only)."""
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("equal") == 2
