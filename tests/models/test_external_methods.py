"""Methods of other packages: an entry point makes them methods like any other; a broken one harms nobody."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = {
    "toy_ecg/__init__.py": "",
    "toy_ecg/method.py": """
from ecg_transformers.models.registry import ECGMethod, Recipe, StageRecipe

METHOD = ECGMethod(
    name="toy_net",
    package=__package__,
    prefix="Toy",
    title="Toy",
    paper="Nobody, 2026",
    idea="a network for a test",
    summary="A small residual network of another package.",
    licence="MIT",
    preprocessing={"sampling_rate": 100, "seq_len": 250},
    recipes={"published": Recipe("made up", stages={"finetune": StageRecipe(batch_size=8, lr=1e-3, max_steps=2)})},
    stages=(),
)
""",
    "toy_ecg/configuration_toy_net.py": """
from ecg_transformers.models.ecg_resnet.configuration_ecg_resnet import ECGResNetConfig
from huggingface_hub.dataclasses import strict


@strict
class ToyConfig(ECGResNetConfig):
    model_type = "toy_net"
""",
    "toy_ecg/modeling_toy_net.py": """
from ecg_transformers.models.ecg_resnet import modeling_ecg_resnet as parent
from toy_ecg.configuration_toy_net import ToyConfig


class ToyModel(parent.ECGResNetModel):
    config_class = ToyConfig


class ToyForSequenceClassification(parent.ECGResNetForSequenceClassification):
    config_class = ToyConfig
""",
}
USE = """
import sys
import ecg_transformers as ecg
assert ecg.list_methods()[-1] == "toy_net", ecg.list_methods()
assert "transformers" not in sys.modules and "torch" not in sys.modules
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, pipeline
config = ecg.ToyConfig(stem_dims=[8, 8, 8], stage_dims=[8, 8], depths=[1, 1], expansion=1, num_labels=3)
model = AutoModelForSequenceClassification.from_config(config).eval()
assert type(model).__module__ == "toy_ecg.modeling_toy_net"
model.save_pretrained("saved")
again = AutoModelForSequenceClassification.from_pretrained("saved").eval()
for first, second in zip(model.parameters(), again.parameters(), strict=True):
    torch.testing.assert_close(first, second, rtol=0, atol=0)
row = ecg.load_ecg_dataset("synthetic", split="test", num_records=10, cache_dir="cache")[0]
assert len(pipeline("ecg-classification", model="saved")(row)) == 3
assert AutoModel.from_pretrained("saved")(**model.dummy_inputs).pooler_output.isfinite().all()
assert "Toy" not in open("saved/hub_shim.py").read()
from ecg_transformers.cli import main
main(["methods"])
"""


def install(folder: Path, entry_point: str, files: dict[str, str]) -> None:
    """As pip would leave it: the modules, and a `.dist-info` with the entry point."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    info = folder / "toy_ecg-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-ecg\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[ecg_transformers.methods]\n{entry_point}\n", encoding="utf-8")


def run(code: str, installed: Path, folder: Path) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True, timeout=280
    )


def test_a_method_of_another_package_is_a_method_like_any_other(tmp_path: Path) -> None:
    install(tmp_path / "site", "toy_net = toy_ecg.method:METHOD", PACKAGE)
    (tmp_path / "work").mkdir()
    result = run(USE, tmp_path / "site", tmp_path / "work")
    assert result.returncode == 0, result.stderr[-3000:]
    assert '"toy_net"' in result.stdout
    assert "left out" not in result.stderr


@pytest.mark.parametrize(
    ("entry_point", "said"),
    [
        ("toy_net = toy_ecg.nowhere:METHOD", "No module named 'toy_ecg.nowhere'"),
        ("toy_net = toy_ecg.method:ECGMethod", "not an ECGMethod"),
        ("another = toy_ecg.method:METHOD", "name='another'"),
        ("st_mem = toy_ecg.method:METHOD", "the name is taken"),
    ],
)
def test_a_broken_entry_point_is_left_out_with_a_warning(tmp_path: Path, entry_point: str, said: str) -> None:
    install(tmp_path, entry_point, PACKAGE)
    code = "import ecg_transformers as ecg\nfrom ecg_transformers.models.registry import METHOD_NAMES\n"
    code += "assert ecg.list_methods() == list(METHOD_NAMES)\nprint(ecg.get_method('st_mem').title)"
    result = run(code, tmp_path, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.strip() == "ST-MEM"
    assert said in result.stderr


def test_classes_that_cannot_be_loaded_do_not_stop_transformers(tmp_path: Path) -> None:
    install(
        tmp_path,
        "toy_net = toy_ecg.method:METHOD",
        {**PACKAGE, "toy_ecg/modeling_toy_net.py": "raise RuntimeError('not today')"},
    )
    code = "import ecg_transformers as ecg\nfrom transformers import AutoConfig\n"
    code += "print(AutoConfig.for_model('st_mem').model_type)"
    result = run(code, tmp_path, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.strip() == "st_mem"
    assert "not today" in result.stderr
