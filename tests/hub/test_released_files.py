"""Every name of the table through a file laid out as the released one; two at once; files that lost a part."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import ecg_transformers as ecg
from ecg_transformers.hub.official import conversion
from ecg_transformers.hub.official.cache import check_sizes, converted_root
from ecg_transformers.hub.official.conversion import DEPTHS, check_depth
from ecg_transformers.hub.official.fetch import official_root
from ecg_transformers.models.registry import get_method
from ecg_transformers.models.shared.state_dicts import CheckpointError
from tests.support.released_files import bring, fairseq_keys, network
from tests.support.small_runs import exit_code, in_child

HALVED = ("deepecg-ssl", "melp")  # stored in half precision


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ECG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


# of several checkpoints of one network, fed alike, one stands for all here; `make soak` takes all, over 100 real records
@pytest.mark.parametrize(
    "name", [name for name in ecg.list_checkpoints() if not name.startswith(("hubert", "ecg-s4-d"))]
)
def test_a_name_gives_the_network_of_its_file_and_the_same_embeddings_in_any_batch(name):
    row = ecg.get_checkpoint(name)
    bring(name)
    _, extractor = ecg.load_checkpoint(name)
    leads = list(extractor.lead_names)
    signals = [np.random.default_rng(seed).standard_normal((5000, len(leads))) for seed in range(3)]
    inputs = [extractor(signal, 500, leads, return_tensors="pt")["input_values"].flatten(0, -3) for signal in signals]
    with torch.no_grad():
        expected = torch.stack([network(row).base_model(x).pooler_output.mean(0) for x in inputs]).numpy()
    hints = {"sampling_rate": 500, "lead_names": leads}
    whole = ecg.embed(signals, name, **hints)
    tolerance = 0.05 if name in HALVED else 1e-5
    np.testing.assert_allclose(whole, expected, atol=tolerance * np.abs(expected).max())
    split = ecg.embed(signals, name, batch_size=2, **hints)
    np.testing.assert_allclose(split, whole, atol=1e-5 * np.abs(whole).max())


@pytest.mark.parametrize("name", [row for row in ecg.list_checkpoints() if ecg.get_checkpoint(row).sizes])
def test_a_network_as_wide_as_the_released_one_and_less_deep_is_refused_with_the_depths(name):
    row = ecg.get_checkpoint(name)
    config_class = get_method(row.method).config_class
    depth = next(key for key in DEPTHS if key in row.sizes and key != "stage_dims")
    released = row.sizes[depth]
    fields = {**row.released_config, "variant": row.preprocessing.get("variant", row.released_config.get("variant"))}
    if fields["variant"] is None:
        del fields["variant"]
    check_depth(config_class(**fields), {}, "a file")
    less = [*released[:-1], released[-1] - 1] if isinstance(released, list) else released - 1
    config = config_class(**{**fields, depth: less})
    with pytest.raises(CheckpointError, match=f"a file .*{depth}.*released"):
        check_depth(config, {}, "a file")
    check_depth(config, dict.fromkeys(DEPTHS), "a file")  # whoever states the depth means it
    with pytest.raises(CheckpointError, match="another network"):
        check_sizes(row, config)


@pytest.mark.parametrize("name", ecg.list_checkpoints())
def test_the_released_network_takes_an_attention_readout(name):
    row = ecg.get_checkpoint(name)
    method = get_method(row.method)
    with torch.device("meta"):
        config = method.config_class(**{**row.released_config, "head_pooling": "attention"})
        model = method.model_classes["classification"](config)
    assert model.attention_pooling.query.shape[-1] == config.hidden_size


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("merl-resnet18", "merl-vit-tiny"),
        ("merl-vit-tiny", "merl-resnet18"),
        ("ecg-cpc", "ecg-s4-jepa"),
        ("ecg-s4-dinosr", "ecg-cpc"),
        ("hubert-ecg-base", "hubert-ecg-small"),
        ("ecgfounder", "ecgfounder-1lead"),
    ],
)
def test_the_network_of_another_name_of_the_method_is_refused(name, other):
    row, released = ecg.get_checkpoint(name), ecg.get_checkpoint(other).released_config
    with pytest.raises(CheckpointError, match=f"another network, that of {other}"):
        check_sizes(row, ecg.get_method(row.method).config_class(**released))


@pytest.mark.parametrize(
    ("name", "other", "sentence"),
    [
        ("hubert-ecg-small", "hubert-ecg-sft-small", r"164 labels \(released: 0\)"),
        ("hubert-ecg-sft-small", "hubert-ecg-small", r"0 labels \(released: 164\)"),
    ],
)
def test_a_classifier_is_no_encoder_and_an_encoder_no_classifier(name, other, sentence):
    bring(other).parent.rename(official_root() / name)
    with pytest.raises(CheckpointError, match=sentence):
        ecg.load_checkpoint(name)


@pytest.mark.parametrize(("name", "other"), [("ecgfounder", "ecgfounder-1lead"), ("ecgfounder-1lead", "ecgfounder")])
def test_a_network_of_other_leads_than_its_name_is_fed_with_is_refused_whatever_its_width(name, other):
    path = bring(other)
    path.rename(path.with_name("mine.pth")).parent.rename(official_root() / name)
    with pytest.raises(CheckpointError, match=f"{name} should be.*num_leads"):
        ecg.load_checkpoint(name)


@pytest.mark.parametrize(
    ("name", "other"), [("ecg-s4-jepa", "ecg-s4-dinosr"), ("ecg-fm", "deepecg-ssl"), ("deepecg-ssl", "ecg-fm")]
)
def test_what_tensors_cannot_tell_apart_is_told_by_the_name_of_the_file(name, other):
    path = bring(other)
    path.parent.rename(official_root() / name)
    with pytest.raises(CheckpointError, match=f"{path.name} has the name of the file of {other}"):
        ecg.load_checkpoint(name)
    (official_root() / name / path.name).rename(official_root() / name / "mine.pt")
    assert ecg.load_checkpoint(name)[0].config.model_type == ecg.get_method(ecg.get_checkpoint(name).method).name


def test_a_file_that_lost_its_last_layer_is_no_smaller_network():
    sizes = {"hidden_size": 768, "num_hidden_layers": 3, "intermediate_size": 16}
    tensors = fairseq_keys(network(ecg.get_checkpoint("ecg-fm"), **sizes))
    with pytest.raises(ValueError, match=r"num_hidden_layers 3 .*released: ecg-fm num_hidden_layers 12"):
        ecg.convert_checkpoint("ecg_wav2vec2", tensors)
    assert ecg.convert_checkpoint("ecg_wav2vec2", tensors, num_hidden_layers=3).config.num_hidden_layers == 3


@pytest.mark.parametrize("name", ["xecg", "hubert-ecg-base", "ecgfounder", "ked", "merl-vit-tiny", "ecg-cpc"])
@pytest.mark.parametrize("kind", ["half", "every other", "truncated", "another"])
def test_a_damaged_or_foreign_file_is_one_sentence_and_leaves_nothing(name, kind):
    path = bring(name)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-3000])
    elif kind == "another":
        foreign = bring("weimann-jepa" if name != "ked" else "ecgfounder")
        content = torch.load(foreign, weights_only=False)
        path.unlink()
        torch.save(content, path.with_suffix(".pth"))
    else:
        _keep_a_part(path, 2 if kind == "every other" else None)
    with pytest.raises(ValueError, match=name) as caught:
        ecg.load_checkpoint(name)
    assert "\n" not in str(caught.value)
    assert not list(converted_root().rglob("*.safetensors"))


def _keep_a_part(path: Path, step: int | None) -> None:
    """Half of the tensors of a file: the first, or every other one."""
    if path.suffix == ".safetensors":
        tensors = load_file(path)
        keys = list(tensors)
        save_file({key: tensors[key] for key in (keys[::step] if step else keys[: len(keys) // 2])}, path)
        return
    content = torch.load(path, weights_only=False)
    holder = next((content[key] for key in ("state_dict", "ecg_model", "model") if key in content), content)
    keys = list(holder)
    for key in set(keys) - set(keys[::step] if step else keys[: len(keys) // 2]):
        del holder[key]
    torch.save(content, path)


@pytest.mark.parametrize("part", ["model.safetensors", "preprocessor_config.json", "config.json"])
@pytest.mark.parametrize("left", [None, 0, 0.5])
def test_a_conversion_that_lost_a_part_is_made_again(part, left):
    bring("ked")
    model, extractor = ecg.load_checkpoint("ked")
    (path,) = converted_root().rglob(part)
    content = path.read_bytes()
    path.unlink()
    if left is not None:
        path.write_bytes(content[: int(left * len(content))])
    again, same = ecg.load_checkpoint("ked")
    assert path.read_bytes() == content
    assert same.to_dict() == extractor.to_dict()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: no space")])
def test_a_conversion_that_cannot_be_kept_is_one_sentence(monkeypatch, error):
    bring("ked")

    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr("transformers.PreTrainedModel.save_pretrained", full)
    with pytest.raises(CheckpointError, match=r"checkpoints/ked \(.*o space.*ECG_CACHE_DIR"):
        ecg.load_checkpoint("ked")
    assert not [path for path in converted_root().rglob("*") if path.is_file()]


def test_two_processes_may_be_the_first_to_use_a_name(tmp_path, monkeypatch):
    bring("xecg")
    convert = conversion.convert_checkpoint

    def late(*args, **kwargs):  # both have looked for the folder before the first has made it
        model = convert(*args, **kwargs)
        time.sleep(1)
        return model

    monkeypatch.setattr(conversion, "convert_checkpoint", late)
    record, outputs = np.random.default_rng(0).standard_normal((1000, 12)), [tmp_path / "a.npy", tmp_path / "b.npy"]

    def use(path):
        np.save(path, ecg.embed(record, "xecg", sampling_rate=100))

    children = [in_child(lambda path=path: use(path), tmp_path / "log") for path in outputs]
    assert [exit_code(child) for child in children] == [0, 0], (tmp_path / "log").read_text()
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert [path.name[0] != "." for path in (converted_root() / "xecg").iterdir()] == [True]
