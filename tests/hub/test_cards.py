"""Cards say what the folder holds, and their snippet runs as it stands."""

import json
import re
import subprocess
import sys

import pytest
import torch

from ecg_transformers.hub.cards import write_card
from ecg_transformers.models.registry import get_method, list_methods

RUN = {
    "kind": "finetuning",
    "method": "st_mem",
    "dataset": {"name": "synthetic", "fingerprint": "abc"},
    "recipe": {"name": "tiny", "lr": 0.001},
    "steps": 10,
    "seeds": [0, 1],
    "final": {"loss": 0.5},
    "metrics": {"test": {"macro_auroc": {"per_seed": [0.8, 0.9], "mean": 0.85, "sd": 0.07, "ci95": [0.7, 0.95]}}},
    "versions": {"torch": "2"},
}


def folder_with(tmp_path, name, role="classification"):
    method = get_method(name)
    torch.manual_seed(0)
    method.model_classes[role](method.config_class(**method.tiny_config)).save_pretrained(tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("name", list_methods())
def test_the_snippet_of_a_card_runs_as_it_stands(tmp_path, name):
    folder = folder_with(tmp_path, name)
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL).group(1)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "LABEL_0" in result.stdout


def test_a_card_holds_metrics_as_a_model_index(tmp_path):
    from huggingface_hub import ModelCard

    folder = folder_with(tmp_path, "st_mem")
    write_card(folder, RUN)
    card = ModelCard.load(folder / "README.md")
    result = card.data.eval_results[0]
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("macro_auroc", 0.85, "synthetic")
    assert "Not a medical device" in card.content
    assert "0.700 to 0.950" in card.content
    assert "fingerprint" in card.content


def test_a_metric_that_is_no_number_is_refused(tmp_path):
    folder = folder_with(tmp_path, "st_mem")
    bad = json.loads(json.dumps(RUN))
    bad["metrics"]["test"]["macro_auroc"]["mean"] = float("nan")
    before = (folder / "README.md").read_text()
    with pytest.raises(ValueError, match="macro_auroc"):
        write_card(folder, bad)
    assert (folder / "README.md").read_text() == before


def test_a_folder_without_a_model_gets_no_card(tmp_path):
    with pytest.raises(ValueError, match=r"config\.json"):
        write_card(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_reloaded_model_keeps_its_run_description(tmp_path):
    folder = folder_with(tmp_path, "st_mem")
    (folder / "run.json").write_text(json.dumps(RUN))
    model = get_method("st_mem").model_classes["classification"].from_pretrained(folder)
    model.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "run.json").read_text()) == RUN
    assert "macro_auroc" in (tmp_path / "again" / "README.md").read_text()
