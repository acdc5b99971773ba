"""Push to a Hub and load again, in fresh processes, against a server on this machine."""

import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

from ecg_transformers.models.registry import get_method, list_methods

_spec = util.spec_from_file_location("loopback_hub", Path(__file__).with_name("loopback_hub.py"))
loopback_hub = util.module_from_spec(_spec)
sys.modules["loopback_hub"] = loopback_hub
_spec.loader.exec_module(loopback_hub)

PUSH = """
import json, sys, torch
import ecg_transformers as ecg
from safetensors.torch import save_file
out = {}
for name in ecg.list_methods():
    method = ecg.get_method(name)
    for role, model_class in method.model_classes.items():
        torch.manual_seed(0)
        model = model_class(method.config_class(**method.tiny_config)).eval()
        model.push_to_hub(f"lab/{name}-{role}", revision="v1" if role == "base" else None)
        if role == "base":
            model.push_to_hub(f"lab/{name}-{role}")
        with torch.no_grad():
            result = model(**model.dummy_inputs)
        out[f"{name}-{role}"] = {
            "class": type(model).__name__,
            "sums": [float(v.double().sum()) for v in result.values() if isinstance(v, torch.Tensor)],
        }
json.dump(out, open(sys.argv[1], "w"))
"""

LOAD = """
import json, sys
import transformers
remote, path = sys.argv[1] == "remote", sys.argv[2]
options = {"trust_remote_code": True} if remote else {}
if not remote:
    import ecg_transformers
import torch
roles = {"base": "AutoModel", "pretraining": "AutoModelForPreTraining",
         "classification": "AutoModelForSequenceClassification",
         "token_classification": "AutoModelForTokenClassification"}
out = {}
for key in json.load(open(path)):
    name, role = key.rsplit("-", 1)
    model = getattr(transformers, roles[role]).from_pretrained(f"lab/{key}", **options).eval()
    transformers.AutoConfig.from_pretrained(f"lab/{key}", **options)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(f"lab/{key}", **options)
    with torch.no_grad():
        result = model(**model.dummy_inputs)
    import ecg_transformers
    assert isinstance(model, getattr(ecg_transformers, type(model).__name__)), type(model)
    out[key] = {
        "class": type(model).__name__,
        "sums": [float(v.double().sum()) for v in result.values() if isinstance(v, torch.Tensor)],
    }
print(json.dumps(out))
"""


def python(script, *arguments, env, check=True):
    result = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=280,
        stdin=subprocess.DEVNULL,
    )
    if check:
        assert result.returncode == 0, result.stderr[-3000:]
    return result


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A Hub with every registered class pushed to it."""
    folder = tmp_path_factory.mktemp("hüb with spaces")
    with loopback_hub.LoopbackHub() as server:
        env = {**os.environ, **server.env(folder / "push"), "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"}
        python(PUSH, str(folder / "pushed.json"), env=env)
        yield server, folder, folder / "pushed.json"


@pytest.mark.parametrize("how", ["import", "remote"])
def test_every_class_comes_back_from_the_hub_in_a_fresh_process(hub, how):
    server, folder, pushed = hub
    env = {**os.environ, **server.env(folder / how), "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"}
    loaded = json.loads(python(LOAD, how, str(pushed), env=env).stdout.splitlines()[-1])
    assert loaded == json.loads(pushed.read_text())
    assert set(loaded) == {f"{name}-{role}" for name in list_methods() for role in get_method(name).model_classes}


def test_a_loaded_model_is_served_from_the_cache_without_a_network(hub):
    server, folder, _ = hub
    env = {**os.environ, **server.env(folder / "cache"), "HF_HUB_OFFLINE": "0"}
    script = (
        "import ecg_transformers, transformers;"
        "print(transformers.AutoModel.from_pretrained('lab/st_mem-base').num_parameters())"
    )
    online = python(script, env=env).stdout
    offline = python(script, env={**env, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}).stdout
    assert online == offline
    missing = script.replace("st_mem-base", "never-seen")
    result = python(missing, env={**env, "HF_HUB_OFFLINE": "1"}, check=False)
    assert result.returncode != 0
    assert "OSError" in result.stderr


def test_a_revision_is_its_own_version(hub):
    server, folder, _ = hub
    env = {**os.environ, **server.env(folder / "revision"), "HF_HUB_OFFLINE": "0"}
    script = (
        "import ecg_transformers, transformers;"
        "print(transformers.AutoModel.from_pretrained('lab/st_mem-base', revision='v1').config.model_type)"
    )
    assert python(script, env=env).stdout.strip() == "st_mem"


def test_without_the_import_and_without_the_flag_loading_stops(hub):
    server, folder, _ = hub
    env = {**os.environ, **server.env(folder / "refused"), "HF_HUB_OFFLINE": "0"}
    result = python(
        "import transformers; transformers.AutoModel.from_pretrained('lab/st_mem-base')", env=env, check=False
    )
    assert result.returncode != 0
    assert "trust_remote_code" in result.stderr


def test_only_files_of_a_checkpoint_are_uploaded(hub, tmp_path):
    server, folder, _ = hub
    env = {**os.environ, **server.env(folder / "listing"), "HF_HUB_OFFLINE": "0"}
    for stray in ("optimizer.safetensors.tmp", "train_log.jsonl", "data.parquet", "notes.txt"):
        (tmp_path / stray).write_text("x")
    script = f"""
import ecg_transformers as ecg, torch
from huggingface_hub import HfApi
from ecg_transformers.hub.upload import upload_checkpoint
method = ecg.get_method("st_mem")
method.model_classes["base"](method.config_class(**method.tiny_config)).save_pretrained({str(tmp_path)!r})
upload_checkpoint({str(tmp_path)!r}, "lab/listing", private=True)
print(sorted(HfApi().list_repo_files("lab/listing")))
"""
    files = python(script, env=env).stdout
    for wanted in ("README.md", "config.json", "hub_shim.py", "model.safetensors", "preprocessor_config.json"):
        assert wanted in files
    for stray in ("tmp", "train_log", "parquet", "notes"):
        assert stray not in files


def test_the_shim_imports_the_package_and_nothing_else():
    import ast

    from ecg_transformers.models.auto import shim_class_names, shim_source

    tree = ast.parse(shim_source())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"ecg_transformers"}
    calls = {getattr(node.func, "id", "") for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert calls == {"ModuleNotFoundError"}
    assert len(shim_source().splitlines()) - len(shim_class_names()) < 15  # one line a class, and little else
