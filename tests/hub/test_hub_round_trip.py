"""Push to a Hub and load again, in fresh processes, against a server on this machine.

A process that imports torch and transformers takes seconds: one pushes, one loads each way, one is offline, one refuses.
"""

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
import transformers
from huggingface_hub import HfApi
from ecg_transformers.hub.upload import upload_checkpoint
first, folder = ecg.get_method("st_mem"), sys.argv[2]
first.model_classes["base"](first.config_class(**first.tiny_config)).save_pretrained(folder)
upload_checkpoint(folder, "lab/listing", private=True)
revisions = {}
for name in ("v1", "v2"):
    try:
        revisions[name] = type(transformers.AutoModel.from_pretrained("lab/st_mem-base", revision=name)).__name__
    except OSError:
        revisions[name] = "there is none"
json.dump({
    "classes": out,
    "revisions": revisions,
    "uploaded": HfApi().list_repo_files("lab/listing"),
}, open(sys.argv[1], "w"))
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
for key in json.load(open(path))["classes"]:
    name, role = key.rsplit("-", 1)
    model = getattr(transformers, roles[role]).from_pretrained(f"lab/{key}", **options).eval()
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
    """A Hub with every registered class pushed to it, and what the process that pushed them says."""
    folder, pushed = tmp_path_factory.mktemp("hüb with spaces"), tmp_path_factory.mktemp("pushed")
    for stray in ("optimizer.safetensors.tmp", "train_log.jsonl", "data.parquet", "notes.txt"):
        (pushed / stray).write_text("x")
    with loopback_hub.LoopbackHub() as server:
        env = {**os.environ, **server.env(folder / "push"), "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"}
        python(PUSH, str(folder / "pushed.json"), str(pushed), env=env)
        yield server, folder, json.loads((folder / "pushed.json").read_text())


@pytest.fixture(scope="module")
def loaded(hub):
    """What a fresh process that imports the package loads, and one that runs the shim; their caches stay."""
    server, folder, _ = hub
    found = {}
    for how in ("import", "remote"):
        env = {**os.environ, **server.env(folder / how), "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"}
        said = python(LOAD, how, str(folder / "pushed.json"), env=env).stdout
        found[how] = json.loads(said.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("how", ["import", "remote"])
def test_every_class_comes_back_from_the_hub_in_a_fresh_process(hub, loaded, how):
    assert loaded[how] == hub[2]["classes"]
    assert set(loaded[how]) == {f"{name}-{role}" for name in list_methods() for role in get_method(name).model_classes}


def test_a_loaded_model_is_served_from_the_cache_without_a_network(hub, loaded):
    server, folder, _ = hub
    offline = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    script = """
import ecg_transformers, transformers
print(type(transformers.AutoModel.from_pretrained("lab/st_mem-base")).__name__)
try:
    transformers.AutoModel.from_pretrained("lab/never-seen")
except OSError:
    print("refused")
"""
    said = python(script, env={**os.environ, **server.env(folder / "import"), **offline}).stdout
    assert said.split() == [loaded["import"]["st_mem-base"]["class"], "refused"]


def test_a_revision_is_its_own_version(hub):
    assert hub[2]["revisions"] == {"v1": hub[2]["classes"]["st_mem-base"]["class"], "v2": "there is none"}


def test_without_the_import_and_without_the_flag_loading_stops(hub):
    server, folder, _ = hub
    env = {**os.environ, **server.env(folder / "refused"), "HF_HUB_OFFLINE": "0"}
    result = python(
        "import transformers; transformers.AutoModel.from_pretrained('lab/st_mem-base')", env=env, check=False
    )
    assert result.returncode != 0
    assert "trust_remote_code" in result.stderr


def test_only_files_of_a_checkpoint_are_uploaded(hub):
    files = hub[2]["uploaded"]
    assert {"README.md", "config.json", "hub_shim.py", "model.safetensors", "preprocessor_config.json"} <= set(files)
    strays = ("tmp", "train_log", "parquet", "notes")
    assert not [name for name in files if any(stray in name for stray in strays)]


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
