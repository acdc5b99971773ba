"""Hub repositories of other authors that carry a config: loaded by name, by our classes, none of their code run."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from ecg_transformers.models.registry import get_method

_spec = importlib.util.spec_from_file_location("loopback_hub", Path(__file__).with_name("loopback_hub.py"))
loopback_hub = importlib.util.module_from_spec(_spec)
sys.modules["loopback_hub"] = loopback_hub
_spec.loader.exec_module(loopback_hub)

LOAD = """
import json, sys
import transformers
import ecg_transformers
import torch
out = {}
for name in sys.argv[1:]:
    kind = "AutoModelForSequenceClassification" if "SFT" in name else "AutoModel"
    model = getattr(transformers, kind).from_pretrained(name).eval()
    x = torch.linspace(-1, 1, 2 * 12 * 60).view(2, 12, 60)
    with torch.no_grad():
        result = model(x)
    first = result.logits if "SFT" in name else result.pooler_output
    out[name] = {"class": type(model).__name__, "values": first[:, :3].tolist(), "licence": model.config.weights_licence}
print(json.dumps(out))
"""


def repository(model, generation, classifier):
    """The files of a repository laid out as the authors'."""
    names = {"old": ("weight_g", "weight_v"), "new": tuple(f"parametrizations.weight.original{i}" for i in "01")}
    state = {}
    for key, value in model.state_dict().items():
        key = key.removeprefix("hubert_ecg.")
        for ours, theirs in zip(("gain", "direction"), names[generation]):
            key = key.replace(f"conv.{ours}", f"conv.{theirs}")
        state[f"hubert_ecg.{key}" if classifier and not key.startswith("classifier") else key] = value
    config = {key: value for key, value in get_method("hubert_ecg").tiny_config.items() if key != "num_leads"}
    kind = "HuBERTECGForClassification" if classifier else "HuBERTECG"
    config |= {
        "model_type": "hubert_ecg_classification" if classifier else "hubert_ecg",
        "architectures": [kind],
        "auto_map": {"AutoConfig": "hubert_ecg.HuBERTECGConfig", "AutoModel": f"hubert_ecg.{kind}"},
        "mask_time_prob": 0.33,
        "vocab_sizes": [500],
        "torch_dtype": "float32",
    }
    if classifier:
        config |= {"num_labels": model.config.num_labels, "task_type": "multi_label"}
    else:
        state |= {"final_proj.0.bias": torch.zeros(3), "label_embedding.0.weight": torch.zeros(5, 3)}
    return {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": save(state, metadata={"format": "pt"}),
        "hubert_ecg.py": b'raise SystemExit("remote code was executed")\n',
        "README.md": b"---\nlicense: cc-by-nc-4.0\n---\n",
    }


@pytest.fixture(scope="module")
def published():
    """Repository names, each with its model and files."""
    method = get_method("hubert_ecg")
    found = {}
    for name, role, generation in (
        ("Edoardo-BS/hubert-ecg-small", "base", "old"),
        ("Edoardo-BS/hubert-ecg-base", "base", "new"),
        ("Edoardo-BS/HuBERT-ECG-SFT-CardioLearning-base", "classification", "new"),
    ):
        torch.manual_seed(len(name))
        labels = {"num_labels": 164} if role == "classification" else {}
        model = method.model_classes[role](method.config_class(**{**method.tiny_config, **labels})).eval()
        found[name] = (model, repository(model, generation, role == "classification"))
    return found


def test_repositories_of_other_authors_load_by_name_without_their_code(tmp_path, published):
    with loopback_hub.LoopbackHub() as server:
        for name, (_, files) in published.items():
            repo = server.repos["models", name] = loopback_hub.Repo("models", name)
            blobs = {path: loopback_hub.Blob(data, path.endswith(".safetensors")) for path, data in files.items()}
            repo.commit("main", blobs)
        env = {**os.environ, **server.env(tmp_path), "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"}
        result = subprocess.run(
            [sys.executable, "-c", LOAD, *published], env=env, capture_output=True, text=True, timeout=200
        )
        assert result.returncode == 0, result.stderr[-2000:]
        assert not [line for line in server.log if line.startswith("GET") and "hubert_ecg.py" in line]
    loaded = json.loads(result.stdout.splitlines()[-1])
    x = torch.linspace(-1, 1, 2 * 12 * 60).view(2, 12, 60)
    for name, (model, _) in published.items():
        with torch.no_grad():
            outputs = model(x)
        expected = outputs.logits if "SFT" in name else outputs.pooler_output
        assert loaded[name]["class"] == type(model).__name__
        assert "CC BY-NC" in loaded[name]["licence"]
        torch.testing.assert_close(torch.tensor(loaded[name]["values"]), expected[:, :3], rtol=0, atol=1e-6)
