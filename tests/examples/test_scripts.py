"""The scripts as a user starts them: help, a short run, exit codes."""

import csv
import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import forked

from ecg_transformers.models.registry import get_method
from ecg_transformers.signal.leads import STANDARD_LEADS
from ecg_transformers.signal.synthesis import synthesize_ecg

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def run_script(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess]:
    """`run_script(name, *arguments, folder=…, …)` runs a script of `examples/` with further environment variables."""

    def run(name: str, *arguments: str, folder: Path = REPOSITORY, **environment: str) -> subprocess.CompletedProcess:
        said = tmp_path_factory.mktemp("said")
        script, logs = REPOSITORY / "examples" / name, {"said": said / "out", "errors": said / "err"}
        code = forked.run_script(script, *arguments, folder=folder, environment=environment, **logs)
        return subprocess.CompletedProcess([name], code, logs["said"].read_text(), logs["errors"].read_text())

    return run


@pytest.mark.parametrize("columns", ["80", "100", "110", "200"])
@pytest.mark.parametrize("name", ["pretrain.py", "finetune_classification.py"])
def test_the_help_names_every_option_with_its_default_at_any_width(name, columns, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(REPOSITORY / "examples" / name), run_name="__main__")
    assert not ended.value.code
    shown = capsys.readouterr().out
    for option in ("--output_dir", "--dataset", "--config_overrides", "--resume_from_checkpoint", "--mixed_precision"):
        assert option in shown
    assert "(default: synthetic)" in " ".join(shown.split())


@pytest.mark.slow
def test_pretraining_and_fine_tuning_run_one_after_the_other(tmp_path: Path, run_script) -> None:
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


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, own_cache: None) -> dict[str, Path]:
    """A small encoder and a classifier, untrained, as folders."""
    folder = tmp_path_factory.mktemp("models")
    entry = get_method("st_mem")
    for role in ("base", "classification"):
        config = entry.config_class(**entry.tiny_config, num_labels=3)
        entry.model_classes[role](config).save_pretrained(folder / role)
    return {role: folder / role for role in ("base", "classification")}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two records and a file that is none."""
    folder = tmp_path_factory.mktemp("records")
    for seed in (1, 2):
        ecg = synthesize_ecg(seed, seed, sampling_rate=500, duration=10)
        np.savez(folder / f"r{seed}.npz", signal=ecg.signal, sampling_rate=500, lead_names=list(STANDARD_LEADS))
    (folder / "broken.npz").write_bytes(b"no archive")
    return folder


def test_a_folder_of_records_becomes_a_table(
    models: dict[str, Path], records: Path, tmp_path: Path, run_script
) -> None:
    table = tmp_path / "scores.csv"
    result = run_script("predict_folder.py", str(models["classification"]), str(records), str(table))
    assert result.returncode == 0, result.stderr
    assert "2 records" in result.stdout
    assert "broken.npz" in result.stderr
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert [row.pop("file") for row in rows] == ["r1.npz", "r2.npz"]
    for row in rows:
        assert len(row) == 3
        assert sum(map(float, row.values())) == pytest.approx(1, abs=1e-4)


def test_features_of_a_corpus_are_written_with_their_record_ids(
    models: dict[str, Path], tmp_path: Path, run_script
) -> None:
    result = run_script("extract_features.py", str(models["base"]), str(tmp_path / "features.npz"))
    assert result.returncode == 0, result.stderr
    with np.load(tmp_path / "features.npz") as stored:
        assert len(stored["features"]) == len(stored["record_ids"]) == len(set(stored["record_ids"]))
        assert np.isfinite(stored["features"]).all()


@pytest.mark.parametrize(("method", "shape"), [("st_mem", "input_values: (1, 12, 2250)"), ("ecg_sl", "beats: (1, ")])
def test_an_own_record_is_drawn_and_prepared(
    records: Path, tmp_path: Path, run_script, method: str, shape: str
) -> None:
    result = run_script("own_records.py", str(records / "r1.npz"), method, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "10.0 s at 500 Hz" in result.stdout
    assert shape in result.stdout
    assert (tmp_path / "record.png").stat().st_size > 10_000


def test_a_wrong_argument_is_one_sentence_and_exit_code_2(tmp_path: Path, run_script) -> None:
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
