"""Conversion: official files in every wrapping; hostile ones give an error and nothing else."""

import pickle

import pytest
import torch
import transformers
from safetensors.torch import save_file

import ecg_transformers as ecg
from ecg_transformers.cli import main


class Canary:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture
def official(parity):
    return parity("st_mem", "st_mem_a_weights")


@pytest.mark.parametrize("wrapping", ["bare", "model", "ddp", "file", "wrapped_file", "safetensors"])
def test_every_wrapping_of_a_checkpoint_gives_the_same_model(tmp_path, official, wrapping):
    expected = ecg.convert_checkpoint("st_mem", official).state_dict()
    source = official
    if wrapping == "model":
        source = {"epoch": 3, "model": official, "config": {"a": 1}, "optimizer": None}
    elif wrapping == "ddp":
        source = {f"module.{key}": value for key, value in official.items()}
    elif wrapping in ("file", "wrapped_file"):
        source = tmp_path / "official weights.pth"
        torch.save(official if wrapping == "file" else {"model": official, "epoch": 1}, source)
    elif wrapping == "safetensors":
        source = tmp_path / "official.safetensors"
        save_file({key: value.clone() for key, value in official.items()}, source)
    model = ecg.convert_checkpoint("st_mem", source)
    assert not model.training
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_converting_loads_through_auto_model(tmp_path, official, capsys):
    torch.save({"model": official}, tmp_path / "full.pth")
    assert (
        main(["convert", "st_mem", str(tmp_path / "full.pth"), str(tmp_path / "out"), "--config", "norm_pix_loss=true"])
        == 0
    )
    assert "STMEMForPreTraining" in capsys.readouterr().out
    model = transformers.AutoModelForPreTraining.from_pretrained(tmp_path / "out")
    assert model.config.norm_pix_loss
    assert "CC BY-NC" in (tmp_path / "out" / "README.md").read_text()
    assert transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "out").seq_len == model.config.seq_len
    assert main(["convert", "st_mem", str(tmp_path / "full.pth"), str(tmp_path / "out")]) == 2


def test_the_licence_of_the_source_stays_with_everything_made_from_it(tmp_path, official):
    torch.save(official, tmp_path / "full.pth")
    assert main(["convert", "st_mem", str(tmp_path / "full.pth"), str(tmp_path / "out")]) == 0
    classifier = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    classifier.save_pretrained(tmp_path / "again")
    card = (tmp_path / "again" / "README.md").read_text()
    assert "license: other" in card
    assert "CC BY-NC" in card
    assert "full.pth" in card


def test_seq_len_and_leads_can_be_asked_for(official):
    shorter = ecg.convert_checkpoint("st_mem", official, seq_len=300)
    assert shorter.st_mem.embeddings.position_embeddings.shape[1] == 6
    table = official["encoder.pos_embedding"]
    assert torch.equal(shorter.st_mem.embeddings.position_embeddings[:, -1], table[:, -1])
    assert ecg.convert_checkpoint("st_mem", official, num_leads=6)(torch.randn(1, 6, 600)).loss > 0


def test_an_unknown_override_is_refused(official):
    with pytest.raises(ValueError, match="norm_pix_loss"):
        ecg.convert_checkpoint("st_mem", official, norm_pix_los=True)


@pytest.mark.parametrize("override", ["mask_ratio=a", "num_leads=-1"])
def test_a_value_that_the_config_refuses_is_one_sentence(tmp_path, official, capsys, override):
    torch.save(official, tmp_path / "full.pth")
    arguments = ["convert", "st_mem", str(tmp_path / "full.pth"), str(tmp_path / "out"), "--config", override]
    assert main(arguments) == 2
    message = capsys.readouterr().err.strip()
    assert override.split("=")[0] in message
    assert "\n" not in message
    assert not (tmp_path / "out").exists()


def test_a_folder_with_a_pickle_is_refused(tmp_path):
    method = ecg.get_method("st_mem")
    model = method.model_classes["base"](method.config_class(**method.tiny_config))
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickle"):
        transformers.AutoModel.from_pretrained(tmp_path)


def test_code_in_a_checkpoint_is_never_run(tmp_path, official):
    canary = tmp_path / "canary"
    for content in (Canary(canary), {"model": official, "extra": Canary(canary)}):
        torch.save(content, tmp_path / "evil.pth")
        with pytest.raises(ValueError, match="without executing"):
            ecg.convert_checkpoint("st_mem", tmp_path / "evil.pth")
        (tmp_path / "evil.bin").write_bytes(pickle.dumps(content if isinstance(content, Canary) else Canary(canary)))
        with pytest.raises(ValueError, match=r"evil\.bin"):
            ecg.convert_checkpoint("st_mem", tmp_path / "evil.bin")
    assert not canary.exists()


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "missing", "list"])
def test_a_broken_file_is_named_in_one_sentence(tmp_path, official, damage):
    path = tmp_path / "broken.pth"
    torch.save(official, path)
    content = path.read_bytes()
    if damage == "list":
        torch.save([1, 2], path)
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "text": b"not a checkpoint"}[damage])
    with pytest.raises(ValueError, match=r"broken\.pth"):
        ecg.convert_checkpoint("st_mem", path)
    assert main(["convert", "st_mem", str(path), str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_method_is_refused(official):
    others = [name for name in ecg.list_methods() if name != "st_mem" and ecg.get_method(name).convert]
    assert others
    for name in others:
        with pytest.raises(ValueError):  # noqa: PT011  (each converter words its own sentence)
            ecg.convert_checkpoint(name, official)


def test_a_method_without_published_weights_says_so():
    without = [name for name in ecg.list_methods() if ecg.get_method(name).convert is None]
    for name in without:
        with pytest.raises(ValueError, match="no published checkpoint"):
            ecg.convert_checkpoint(name, {})
