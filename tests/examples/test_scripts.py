"""The scripts as a user starts them: help, a short run, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ecg_transformers.models.registry import get_method

REPOSITORY = Path(__file__).resolve().parents[2]


def run_script(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / name), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.parametrize("name", ["pretrain.py", "finetune_classification.py"])
def test_the_help_names_every_option_with_its_default(name: str) -> None:
    result = run_script(name, "--help")
    assert result.returncode == 0
    for option in ("--output_dir", "--dataset", "--config_overrides", "--resume_from_checkpoint", "--mixed_precision"):
        assert option in result.stdout
    assert "(default: synthetic)" in result.stdout


@pytest.mark.slow
def test_pretraining_and_fine_tuning_run_one_after_the_other(tmp_path: Path) -> None:
    tiny = ",".join(f"{key}={json.dumps(value)}" for key, value in get_method("st_mem").tiny_config.items())
    model, classifier = tmp_path / "my model, ü", tmp_path / "classifier"
    common = ["--dataset", "synthetic", "--dataset_options", "num_records=60", "--per_device_batch_size", "4", "--cpu"]
    first = run_script(
        "pretrain.py",
        *common,
        *["--method", "st_mem", "--config_overrides", tiny, "--max_steps", "4", "--output_dir", str(model)],
        HOME="/nonexistent",
    )
    assert first.returncode == 0, first.stderr
    assert "Traceback" not in first.stderr
    expected = {"config.json", "model.safetensors", "preprocessor_config.json", "README.md", "train_log.jsonl"}
    assert expected | {"checkpoints", "loss_curve.png", "tensorboard"} <= {path.name for path in model.iterdir()}
    second = run_script(
        "finetune_classification.py",
        *common,
        *["--model_name_or_path", str(model), "--mode", "finetune", "--max_steps", "4", "--n_boot", "20"],
        *["--output_dir", str(classifier), "--seeds", "0,1"],
    )
    assert second.returncode == 0, second.stderr
    made = {path.name for path in classifier.iterdir()}
    assert expected | {"metrics.json", "predictions.parquet", "selection.json"} <= made
    assert "macro AUROC" in second.stdout


def test_a_wrong_argument_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    result = run_script("pretrain.py", "--method", "st_men", "--output_dir", str(tmp_path / "out"))
    assert result.returncode == 2
    assert "did you mean 'st_mem'" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_every_accelerate_configuration_can_be_read() -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    files = sorted((REPOSITORY / "examples" / "accelerate_configs").glob("*.yaml"))
    assert len(files) == 4
    for file in files:
        config = load_config_from_file(str(file))
        assert config.mixed_precision == "bf16"
    assert load_config_from_file(str(files[0])).fsdp_config["fsdp_version"] == 2
