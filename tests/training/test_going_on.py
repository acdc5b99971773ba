"""Training that starts from a published checkpoint: by its name, from the authors' file, from a folder.

A few names here; with `ECG_SOAK=1` (`make soak`) every network and layout of the table.
"""

import json
import os

import pytest
import torch
from safetensors.torch import load_file

import ecg_transformers as ecg
from ecg_transformers.models.registry import get_method
from ecg_transformers.training.errors import run_command
from ecg_transformers.training.finetuning import finetune
from ecg_transformers.training.pretraining import pretrain
from tests.support.released_files import bring
from tests.support.small_runs import overrides, small_finetuning, small_pretraining

# one of each network and layout
NAMES = ["ecgfounder", "ecg-fm", "deepecg-ssl", "melp", "d-beta", "merl-resnet18", "merl-vit-tiny", "ked", "xecg"]
NAMES += ["ecg-cpc", "ecg-s4-jepa", "st-mem", "ecg-jepa", "weimann-jepa", "hubert-ecg-sft-base"]
GOES_ON = ["ecg-fm", "deepecg-ssl", "ecg-cpc", "st-mem", "ecg-jepa", "weimann-jepa"]
# pairs of segments of 10 s would need records of 20 s
SHORTER = {"deepecg-ssl": "seq_len=1250"}
MODES = ["finetune", "linear"]
if "ECG_SOAK" not in os.environ:
    NAMES, GOES_ON, MODES = ["melp", "weimann-jepa"], ["ecg-fm", "weimann-jepa"], ["linear"]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ECG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def short(**changes):
    return {"dataset_options": "num_records=24,sampling_rate=500", "max_steps": 2, "config_overrides": "", **changes}


@pytest.mark.parametrize("name", NAMES)
def test_every_network_of_the_table_is_tuned_and_probed(tmp_path, name):
    bring(name)
    for mode in MODES:
        finetune(small_finetuning(tmp_path / mode, name, mode=mode, recipe=None, num_crops=None, **short()))
        assert 0 <= json.loads((tmp_path / mode / "metrics.json").read_text())["test"]["macro_auroc"]["mean"] <= 1
        card = (tmp_path / mode / "README.md").read_text()
        assert ecg.get_checkpoint(name).licence.split(" ")[0] in card


@pytest.mark.parametrize("name", GOES_ON)
def test_pretraining_goes_on_from_a_name_with_its_sizes_and_preprocessing(tmp_path, name):
    bring(name)
    before, extractor = ecg.load_checkpoint(name)
    changes = short(config_overrides=SHORTER.get(name, ""))
    pretrain(small_pretraining(tmp_path / "out", "", model_name_or_path=name, **changes))
    after, same = ecg.load_checkpoint(tmp_path / "out")
    assert type(after) is get_method(after.config.model_type).model_classes["pretraining"]
    for field in ("hidden_size", "num_hidden_layers", "variant", "lead_names"):
        assert getattr(after.config, field, None) == getattr(before.config, field, None)
    assert same.seq_len == after.config.seq_len
    assert same.lead_names == extractor.lead_names
    own, found = before.base_model.state_dict(), after.base_model.state_dict()
    moved = [float((found[key] - value).abs().max()) for key, value in own.items() if value.is_floating_point()]
    assert max(moved) < 0.2  # two steps away from where it was, and no fresh start


def test_pretraining_goes_on_from_a_file_and_from_a_folder_to_the_same(tmp_path):
    file = bring("ecg-fm")
    for start, source in (("file", str(file)), ("name", "ecg-fm")):
        pretrain(small_pretraining(tmp_path / start, "ecg_wav2vec2", model_name_or_path=source, **short()))
    weights = [load_file(tmp_path / start / "model.safetensors") for start in ("file", "name")]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    pretrain(small_pretraining(tmp_path / "on", "", model_name_or_path=str(tmp_path / "name"), **short()))
    assert json.loads((tmp_path / "on" / "run.json").read_text())["method"] == "ecg_wav2vec2"


@pytest.mark.parametrize(
    ("name", "method", "changes", "sentence"),
    [
        ("xecg", "", "", "without pre-training"),
        ("xecg", "st_mem", "", "not of ST-MEM"),
        ("melp", "", "seq_len=2500", "melp"),
        ("ecg-s4-jepa", "", "", "bidirectional"),
    ],
)
def test_what_cannot_go_on_is_one_sentence(tmp_path, capsys, name, method, changes, sentence):
    bring(name)
    args = small_pretraining(tmp_path / "out", method, model_name_or_path=name, **short(config_overrides=changes))
    assert run_command(lambda: pretrain(args)) == 2
    (message,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert sentence in message


def test_sizes_of_the_checkpoint_can_be_changed_where_weights_allow_it(tmp_path):
    bring("weimann-jepa")
    changed = overrides({"min_block_size": 5})
    args = short(config_overrides=changed)
    pretrain(small_pretraining(tmp_path / "out", "weimann_jepa", model_name_or_path="weimann-jepa", **args))
    assert ecg.load_checkpoint(tmp_path / "out")[0].config.min_block_size == 5
