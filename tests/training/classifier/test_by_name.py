"""Fine-tuning starts from a name of the table of checkpoints as it does from a folder."""

import json

import pytest
import torch
from support.small_runs import overrides, small_finetuning

from ecg_transformers.hub.official.fetch import official_root
from ecg_transformers.models.registry import get_method
from ecg_transformers.training.errors import UsageError
from ecg_transformers.training.finetuning import finetune
from tests.support.net1d_files import published_keys, small


@pytest.fixture(autouse=True)
def offline_and_own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ECG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def brought():
    folder = official_root() / "ecgfounder"
    folder.mkdir(parents=True)
    tensors = published_keys(small(num_leads=12, num_labels=150, seq_len=5000, sampling_rate=500))
    torch.save({"state_dict": tensors}, folder / "12_lead_ECGFounder.pth")


@pytest.mark.parametrize("mode", ["finetune", "linear"])
def test_a_published_checkpoint_is_trained_by_its_name(tmp_path, brought, mode):
    finetune(small_finetuning(tmp_path / "out", "ecgfounder", mode=mode, max_steps=2, dataset_options="num_records=40"))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["weights_licence"].startswith("MIT (code)")
    assert len(config["id2label"]) < 150
    assert json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())["sampling_rate"] == 500
    assert json.loads((tmp_path / "out" / "run.json").read_text())["parent"] == "ecgfounder"


def test_a_readout_that_the_network_cannot_give_is_told_before_training(tmp_path, brought):
    with pytest.raises(UsageError, match="no tokens by lead"):
        finetune(small_finetuning(tmp_path / "out", "ecgfounder", readout="per_lead", dataset_options="num_records=40"))


def test_a_name_whose_file_is_not_there_says_where_to_put_it(tmp_path):
    with pytest.raises(UsageError, match=r"zenodo.*official/ked"):
        finetune(small_finetuning(tmp_path / "out", "ked", dataset_options="num_records=40"))


def test_from_scratch_a_name_that_is_a_method_too_needs_no_file(tmp_path):
    config = overrides(dict(get_method("xecg").tiny_config))
    given = {"mode": "scratch", "max_steps": 1, "config_overrides": config, "dataset_options": "num_records=40"}
    finetune(small_finetuning(tmp_path / "out", "xecg", **given))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["converted_from"] is None
