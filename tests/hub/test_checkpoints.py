"""`load_checkpoint`: names, brought files, folders, files, the Hub; what is not there or does not fit is one sentence."""

import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import save, save_file
from transformers import Wav2Vec2FeatureExtractor

import ecg_transformers as ecg
from ecg_transformers.hub.official import fetch
from ecg_transformers.hub.official.cache import check_sizes, converted_root
from ecg_transformers.hub.official.fetch import official_root
from ecg_transformers.models.shared.state_dicts import CheckpointError
from tests.support.xecg_files import published_layout, small_model

_spec = util.spec_from_file_location("loopback_hub", Path(__file__).with_name("loopback_hub.py"))
loopback_hub = util.module_from_spec(_spec)
sys.modules["loopback_hub"] = loopback_hub
_spec.loader.exec_module(loopback_hub)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ECG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def brought():
    """xECG's file, small, where a user puts it; and the model that it holds."""
    model = small_model(patch_size=25)
    folder = official_root() / "xecg"
    folder.mkdir(parents=True)
    save_file({key: value.contiguous() for key, value in published_layout(model).items()}, folder / "model.safetensors")
    return folder, model


def test_a_brought_file_is_converted_once_and_loaded_from_the_cache_afterwards(brought):
    _, expected = brought
    x = torch.randn(2, 12, 1000)
    model, extractor = ecg.load_checkpoint("xecg")
    assert torch.equal(model(x).pooler_output, expected(x).pooler_output)
    assert not model.training
    assert extractor.to_dict()["steps"] == ecg.ECGFeatureExtractor.for_method("xecg").steps
    assert model.config.weights_licence == ecg.get_checkpoint("xecg").licence
    (folder,) = (converted_root() / "xecg").iterdir()
    assert (folder / "model.safetensors").is_file()
    assert not list(folder.glob("*.p*t*"))
    before = (folder / "model.safetensors").stat().st_mtime_ns
    again, _ = ecg.load_checkpoint("xecg")
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert torch.equal(again(x).pooler_output, expected(x).pooler_output)


def test_what_was_converted_is_loaded_when_its_file_has_gone(brought, caplog):
    folder, expected = brought
    ecg.load_checkpoint("xecg")
    folder.rename(folder.with_name("elsewhere"))
    model, extractor = ecg.load_checkpoint("xecg")
    x = torch.randn(2, 12, 1000)
    assert torch.equal(model(x).pooler_output, expected(x).pooler_output)
    assert extractor.to_dict()["steps"] == ecg.ECGFeatureExtractor.for_method("xecg").steps
    assert "not here any more" in caplog.text
    with pytest.raises(ValueError, match=r"out of reach.*official/xecg"):
        ecg.load_checkpoint("xecg", seq_len=500)
    folder.mkdir()
    for name in ("a.pth", "b.pth"):  # which of them is meant is not guessed by what was there before
        torch.save({}, folder / name)
    with pytest.raises(ValueError, match=r"a\.pth, b\.pth"):
        ecg.load_checkpoint("xecg")


def test_another_file_or_other_settings_are_another_conversion(brought):
    folder, _ = brought
    ecg.load_checkpoint("xecg")
    assert ecg.load_checkpoint("xecg", pooling="max")[0].config.pooling == "max"
    other = small_model(patch_size=25, hidden_size=64)
    save_file({key: value.contiguous() for key, value in published_layout(other).items()}, folder / "model.safetensors")
    assert ecg.load_checkpoint("xecg")[0].config.hidden_size == 64
    assert len(list((converted_root() / "xecg").iterdir())) == 3


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda tensors: dict(list(tensors.items())[: len(tensors) // 3]), "is not what xecg should be"),
        (lambda tensors: {"W_P.weight": torch.zeros(3, 3)}, "is not what xecg should be"),
    ],
)
def test_a_wrong_file_is_refused_and_leaves_nothing_behind(brought, damage, sentence):
    folder, model = brought
    tensors = {key: value.contiguous() for key, value in damage(published_layout(model)).items()}
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ValueError, match=sentence):
        ecg.load_checkpoint("xecg")
    assert not list(converted_root().rglob("*.safetensors"))


def test_a_network_of_the_released_width_and_another_depth_is_refused_another_width_is_said(brought, caplog):
    row = ecg.get_checkpoint("xecg")
    config = ecg.XECGConfig(hidden_size=1024, block_types=["s", "m"])
    with pytest.raises(ValueError, match=r"num_hidden_layers 2 \(released: 9\)"):
        check_sizes(row, config)
    check_sizes(row, ecg.XECGConfig())
    ecg.load_checkpoint("xecg")
    assert "other sizes than the released one" in caplog.text


def test_a_truncated_file_is_refused(brought):
    folder, _ = brought
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        ecg.load_checkpoint("xecg")


def test_several_brought_files_are_not_guessed_between():
    folder = official_root() / "st-mem"
    folder.mkdir(parents=True)
    for name in ("a.pth", "b.pth"):
        torch.save({}, folder / name)
    with pytest.raises(ValueError, match=r"a\.pth, b\.pth"):
        ecg.load_checkpoint("st-mem")


def test_a_file_whose_ending_is_none_of_a_checkpoint_is_told():
    folder = official_root() / "ecg-cpc"
    folder.mkdir(parents=True)
    (folder / "ECG-CPC_Checkpoint.zip").touch()
    with pytest.raises(ValueError, match=r"There lies ECG-CPC_Checkpoint\.zip.*unpack or rename"):
        ecg.load_checkpoint("ecg-cpc")


def test_what_is_nowhere_is_told_with_the_file_and_its_place():
    with pytest.raises(ValueError, match=r"best_valid.*zenodo.*official/ked"):
        ecg.load_checkpoint("ked")
    with pytest.raises(ValueError, match=r"out of reach.*1_lead_ECGFounder\.pth.*official/ecgfounder-1lead"):
        ecg.load_checkpoint("ecgfounder-1lead")
    with pytest.raises(ValueError, match="did you mean 'xecg'"):
        ecg.load_checkpoint("xecgg")


def test_a_repository_may_hold_its_weights_as_a_pickle(tmp_path, monkeypatch):
    asked = []

    def download(repo_id, filename, **options):
        asked.append(filename)
        if filename == "model.safetensors":
            raise EntryNotFoundError(filename)
        torch.save({}, tmp_path / filename)
        return str(tmp_path / filename)

    monkeypatch.setattr(fetch, "hf_hub_download", download)
    assert fetch.checkpoint_file(ecg.get_checkpoint("hubert-ecg-sft-base")).name == "pytorch_model.bin"
    assert asked == ["model.safetensors", "pytorch_model.bin"]


def test_a_repository_of_the_table_without_a_config_is_told_by_its_name(monkeypatch):
    def unrecognised(name, **options):
        raise ValueError(f"Unrecognized model in {name}.")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", unrecognised)
    with pytest.raises(CheckpointError, match="by its name, ecg-fm"):
        ecg.load_checkpoint("wanglab/ecg-fm")


def test_a_folder_gives_the_class_it_names_and_its_own_preprocessing(tmp_path):
    method = ecg.get_method("weimann_jepa")
    classifier = method.model_classes["classification"](method.config_class(**method.tiny_config, num_labels=3))
    classifier.save_pretrained(tmp_path / "model")
    ecg.ECGFeatureExtractor.for_method("weimann_jepa", seq_len=1250).save_pretrained(tmp_path / "model")
    model, extractor = ecg.load_checkpoint(tmp_path / "model")
    assert type(model) is type(classifier)
    assert extractor.seq_len == 1250
    of_file, extractor = ecg.load_checkpoint(tmp_path / "model" / "model.safetensors")
    assert type(of_file) is type(classifier)
    assert extractor.seq_len == 1250


def test_a_folder_that_lost_a_part_is_no_other_model(tmp_path):
    method = ecg.get_method("st_mem")
    method.model_classes["base"](method.config_class(**method.tiny_config)).save_pretrained(tmp_path)
    for name in ("preprocessor_config.json", "model.safetensors"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=f"{tmp_path}.*(cannot be read|are damaged)") as caught:
            ecg.load_checkpoint(tmp_path)
        assert "\n" not in str(caught.value)
        (tmp_path / name).write_bytes(content)


def test_preprocessing_of_another_package_is_not_taken_for_ours(tmp_path):
    method = ecg.get_method("st_mem")
    method.model_classes["base"](method.config_class(**method.tiny_config)).save_pretrained(tmp_path)
    expected = ecg.load_checkpoint(tmp_path)[1].to_dict()
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    assert ecg.load_checkpoint(tmp_path)[1].to_dict() == expected


def test_a_file_alone_is_loaded_by_the_only_layout_that_it_has(tmp_path):
    expected = small_model(patch_size=25)
    tensors = {key: value.contiguous() for key, value in published_layout(expected).items()}
    save_file(tensors, tmp_path / "some.safetensors")
    model, extractor = ecg.load_checkpoint(tmp_path / "some.safetensors")
    assert model.config.model_type == "xecg"
    assert extractor.sampling_rate == 100
    save_file({"a": torch.zeros(2)}, tmp_path / "nothing.safetensors")
    with pytest.raises(ValueError, match="fits no method"):
        ecg.load_checkpoint(tmp_path / "nothing.safetensors")


def run(script, env, *arguments):
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], env=env, capture_output=True, text=True, timeout=280, check=False
    )


EMBED = """
import sys, numpy as np, ecg_transformers as ecg
record = np.random.default_rng(0).standard_normal((1000, 12))
np.save(sys.argv[1], ecg.embed(record, "xecg", sampling_rate=100))
"""


def test_a_name_is_fetched_from_the_hub_once_and_then_works_without_it(tmp_path):
    model = small_model(patch_size=25)
    content = save({key: value.contiguous() for key, value in published_layout(model).items()})
    source = ecg.get_checkpoint("xecg").source
    with loopback_hub.LoopbackHub() as server:
        repository = server.repos["models", source.repository] = loopback_hub.Repo("models", source.repository)
        repository.commit("main", {source.file: loopback_hub.Blob(content, False)})
        env = {**os.environ, **server.env(tmp_path / "home"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "0"}
        first = run(EMBED, env, str(tmp_path / "first.npy"))
        assert first.returncode == 0, first.stderr[-2000:]
        fetched = [line for line in server.log if line.startswith("GET") and "resolve" in line]
        assert len(fetched) == 1
        missing = run("import ecg_transformers as ecg; ecg.load_checkpoint('ecg-fm')", env)
        assert "The Hub has no mimic_iv_ecg_physionet_pretrained.pt in wanglab/ecg-fm" in missing.stderr
    again = run(EMBED, {**env, "HF_HUB_OFFLINE": "1"}, str(tmp_path / "again.npy"))
    assert again.returncode == 0, again.stderr[-2000:]
    assert (tmp_path / "first.npy").read_bytes() == (tmp_path / "again.npy").read_bytes()
