"""Foreign files: what scripts leave beside their tensors is passed over, code is never run, what does not fit is refused."""

import argparse
import collections
import gzip
import logging
import os
import pathlib
import pickle
import sys
import tarfile
import types
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import ecg_transformers as ecg
from ecg_transformers.hub.official import loading
from ecg_transformers.hub.official.loading import read_checkpoint
from ecg_transformers.hub.official.state_dict import state_dict_of
from ecg_transformers.models.shared.state_dicts import CheckpointError

SMALL = {"num_leads": 2, "stem_dim": 6, "stage_dims": [8], "depths": [1], "num_groups": [2], "kernel_size": 4}
CLASS_NAMES = (
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.nodes.AnyNode",
    "fairseq.dataclass.configs.FairseqConfig",
    "fairseq_signals.dataclass.configs.Config",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "transformers.models.hubert.configuration_hubert.HubertConfig",
    "hubert_ecg.HuBERTECGConfig",
)


def weights():
    """A state dict in the published layout of ECGFounder."""
    torch.manual_seed(0)
    method = ecg.get_method("ecg_net1d")
    state = method.model_classes["base"](method.config_class(**SMALL, sampling_rate=None)).state_dict()
    names = {"stem.conv.": "first_conv.conv.", "stages.0.blocks.0.": "stage_list.0.block_list.0."}
    out = {}
    for key, value in state.items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        for index in (1, 2, 3):
            key = key.replace(f".conv{index}.", f".conv{index}.conv.")
        out[key.replace("gate.squeeze", "se_fc1").replace("gate.excite", "se_fc2")] = value
    return out


def same(model, expected):
    return all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


@pytest.fixture
def expected():
    return ecg.convert_checkpoint("ecg_net1d", weights()).state_dict()


def named_class(full_name, monkeypatch):
    """A class that pickles under the name of a module that is not installed."""
    module_name, _, name = full_name.rpartition(".")
    module = types.ModuleType(module_name)
    made = type(name, (), {"__module__": module_name})
    setattr(module, name, made)
    parts = module_name.split(".")
    for end in range(1, len(parts)):
        parent = ".".join(parts[:end])
        if parent not in sys.modules:
            monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    monkeypatch.setitem(sys.modules, module_name, module)
    return made


@pytest.mark.parametrize("full_name", CLASS_NAMES)
def test_config_objects_are_passed_over_without_their_modules(tmp_path, monkeypatch, expected, full_name):
    with monkeypatch.context() as patch:
        config = named_class(full_name, patch)()
        config.rate, config.nested = 500, {"deep": [1, 2]}
        torch.save({"cfg": config, "state_dict": weights()}, tmp_path / "file.ckpt")
    before = set(sys.modules)
    assert same(ecg.convert_checkpoint("ecg_net1d", tmp_path / "file.ckpt"), expected)
    assert full_name.rpartition(".")[0] not in set(sys.modules) - before


@pytest.mark.parametrize(
    "beside",
    [
        {"val_auroc": np.float64(0.9), "step": np.int64(3)},
        {"metrics": np.arange(4.0), "names": np.array(["a", "b"])},
        {"args": argparse.Namespace(lr=0.1), "more": types.SimpleNamespace(a=1)},
        {"counts": collections.defaultdict(list, {"a": [1]}), "path": pathlib.PurePosixPath("runs/1")},
        {"counter": collections.Counter("aab"), "order": collections.OrderedDict(a=1)},
        {"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "dtype": torch.float32},
    ],
)
@pytest.mark.parametrize("old_format", [False, True])
def test_plain_things_beside_the_weights_do_not_hinder(tmp_path, expected, beside, old_format):
    file = tmp_path / "file.pth"
    torch.save({**beside, "model": weights()}, file, _use_new_zipfile_serialization=not old_format)
    assert same(ecg.convert_checkpoint("ecg_net1d", file), expected)


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize(
    ("function", "shown"),
    [
        (os.system, "system"),
        (eval, "eval"),
        (exec, "exec"),
        (open, "open"),
        (getattr, "getattr"),
        (os.remove, "remove"),
    ],
)
def test_code_is_refused_and_never_run(tmp_path, function, shown, old_format):
    canary = tmp_path / "canary"
    canary.write_text("here")
    call = {
        "system": f"rm {canary}",
        "eval": f"__import__('os').remove({str(canary)!r})",
        "exec": f"__import__('os').remove({str(canary)!r})",
        "open": str(canary),
        "getattr": "a",
        "remove": str(canary),
    }[shown]
    arguments = (call, "w") if shown == "open" else (call, "upper") if shown == "getattr" else (call,)
    for content in ({"model": weights(), "extra": Calls(function, *arguments)}, Calls(function, *arguments)):
        torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=not old_format)
        with pytest.raises(CheckpointError, match=r"evil\.pth") as caught:
            ecg.convert_checkpoint("ecg_net1d", tmp_path / "evil.pth")
        assert "\n" not in str(caught.value)
        assert shown in str(caught.value)
        assert canary.read_text() == "here"


def test_a_class_of_the_training_script_is_refused_by_name(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        settings = named_class("my_project.settings.Settings", patch)()
        torch.save({"model": weights(), "settings": settings}, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=r"my_project\.settings\.Settings"):
        read_checkpoint(tmp_path / "file.pth")


def test_a_bare_pickle_is_no_checkpoint(tmp_path):
    (tmp_path / "file.pt").write_bytes(pickle.dumps({"model": 1}))
    with pytest.raises(CheckpointError, match=r"file\.pt"):
        read_checkpoint(tmp_path / "file.pt")


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "encoder.", "module._orig_mod.", "model.encoder.module."]
)
def test_a_wrapper_before_every_name_is_taken_off_and_said(caplog, expected, prefix):
    wrapped = {f"{prefix}{key}": value for key, value in weights().items()}
    with caplog.at_level(logging.WARNING):
        assert same(ecg.convert_checkpoint("ecg_net1d", wrapped), expected)
    assert f"began with {prefix}; this prefix was taken off" in caplog.text
    caplog.clear()
    ecg.convert_checkpoint("ecg_net1d", weights())
    assert not caplog.text


def test_a_prefix_that_does_not_make_every_key_fit_stays():
    state = weights()
    some = {f"model.{key}" if index % 2 else key: value for index, (key, value) in enumerate(state.items())}
    with pytest.raises(CheckpointError, match="the state dict: "):
        ecg.convert_checkpoint("ecg_net1d", some)
    short = {f"module.{key}": value for key, value in state.items() if "conv3" not in key}
    with pytest.raises(CheckpointError, match=r"tensor 'stage_list\.0\.block_list\.0\.conv3\.conv\.weight' is missing"):
        ecg.convert_checkpoint("ecg_net1d", short)
    with pytest.raises(CheckpointError):
        ecg.convert_checkpoint("ecg_net1d", {f"backbone.{key}": value for key, value in state.items()})


@pytest.mark.parametrize("container", ["model", "state_dict", "model_state_dict", "encoder"])
def test_containers_are_opened_where_their_weights_are(expected, container):
    for content in ({container: weights()}, {container: {"state_dict": weights()}, "epoch": 3}):
        assert same(ecg.convert_checkpoint("ecg_net1d", content), expected)


def test_a_container_without_tensors_is_passed_by():
    content = {"model": {"name": "a config"}, "state_dict": weights()}
    assert set(state_dict_of(content)) == set(weights())


def test_only_weights_of_the_right_kind_fit(tmp_path):
    state = weights()
    keys = list(state)
    wrong = {
        "half": {key: state[key] for key in keys[: len(keys) // 2]},
        "deeper": {**state, **{key.replace("list.0.conv", "list.1.conv"): value for key, value in state.items()}},
        "shape": {**state, keys[0]: torch.zeros(3, 3, 3)},
        "numbers": {**state, "epoch": 3},
        "empty": {},
    }
    for name, content in wrong.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(ValueError, match=rf"{name}\.pth") as caught:
            ecg.convert_checkpoint("ecg_net1d", tmp_path / f"{name}.pth")
        assert "\n" not in str(caught.value), name


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda value: value.to(torch.int8), "int8 values"),
        (lambda value: value.to(torch.complex64), "complex64 values"),
        (lambda value: value * float("nan"), "not finite"),
        (lambda value: value.to_sparse(), "sparse"),
        (lambda value: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), "nested"),
        (lambda value: value.to(torch.float8_e4m3fn), "eight bits"),
        (lambda value: value.double() + 1e300, "not finite"),
        (lambda value: value.to("meta"), "without content"),
    ],
)
def test_values_that_cannot_be_weights_are_refused(tmp_path, change, sentence):
    state = weights()
    torch.save({**state, "first_conv.conv.weight": change(state["first_conv.conv.weight"])}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=rf"odd\.pth.*{sentence}") as caught:
        ecg.convert_checkpoint("ecg_net1d", tmp_path / "odd.pth")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_weights_of_another_precision_become_single(tmp_path, expected, kind):
    torch.save({key: value.to(kind) for key, value in weights().items()}, tmp_path / "file.pth")
    model = ecg.convert_checkpoint("ecg_net1d", tmp_path / "file.pth")
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert all(torch.allclose(value, expected[key], atol=1e-3) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("folder", "file"), [("zoo/ked", "released_layout.pt"), ("zoo/ecg_net1d", "released_layout.pth")]
)
def test_a_released_file_under_another_name_is_refused(parity, folder, file):
    path = parity.folder / folder / file
    for name in ("ecg_net1d", "merl", "ked", "st_mem", "ecg_jepa"):
        if (folder, name) in (("zoo/ked", "ked"), ("zoo/ecg_net1d", "ecg_net1d")):
            continue
        with pytest.raises(CheckpointError, match=file.replace(".", r"\.")) as caught:
            ecg.convert_checkpoint(name, path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("old_format", [False, True])
def test_a_file_cut_short_is_refused(tmp_path, share, old_format):
    file = tmp_path / "cut.pth"
    torch.save({"model": weights()}, file, _use_new_zipfile_serialization=not old_format)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match=r"cut\.pth"):
        ecg.convert_checkpoint("ecg_net1d", file)


def _archive(path, *names, content=b"x"):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, content)


def _tar(path):
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "model.pth")


class Doubles(torch.nn.Module):
    """The smallest program."""

    def forward(self, x):
        return 2 * x


OTHER_FILES = {
    "is empty": lambda path: path.touch(),
    "a Git LFS pointer": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
    "a web page": lambda path: path.write_text("\n<!DOCTYPE html><html><title>Sign in</title></html>"),
    "gzip.*unpack": lambda path: path.write_bytes(gzip.compress(b"weights")),
    "tar.*unpack": _tar,
    "zip.*unpack": lambda path: _archive(path, "inner/model.ckpt"),
    r"program \(TorchScript\)": lambda path: torch.jit.save(torch.jit.script(Doubles()), path),
    r"program \(torch.package\)": lambda path: _archive(path, "a/.data/extern_modules", "a/data.pkl"),
}


@pytest.mark.parametrize("what", OTHER_FILES)
@pytest.mark.parametrize("name", ["file.pth", "file.safetensors"])
def test_what_is_no_checkpoint_is_told_by_what_it_is(tmp_path, what, name):
    file = tmp_path / name
    OTHER_FILES[what](file)
    what = "a pickle" if file.suffix == ".safetensors" and file.read_bytes().startswith(b"PK") else what
    with pytest.raises(CheckpointError, match=rf"{name}: it .*{what}") as caught:
        ecg.convert_checkpoint("ecg_net1d", file)
    assert "\n" not in str(caught.value)


def _zipped_anew(path, compression, **beside):
    torch.save({"model": weights(), **beside}, path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_compressed_bytes_are_never_taken_for_values(tmp_path, expected, compression):
    _zipped_anew(tmp_path / "file.pth", compression)
    assert same(ecg.convert_checkpoint("ecg_net1d", tmp_path / "file.pth"), expected)


def test_a_byte_that_was_changed_is_damage_and_a_file_without_checksums_is_not(tmp_path, expected):
    file = tmp_path / "file.pth"
    torch.save({"model": weights()}, file)
    value = next(iter(weights().values())).flatten()[:3].numpy().tobytes()
    content = file.read_bytes()
    assert content.count(value) == 1
    file.write_bytes(content.replace(value, value[:-1] + bytes([value[-1] ^ 1])))
    with pytest.raises(CheckpointError, match=r"file\.pth: it is damaged \(file/data/\d+ .*checksum"):
        ecg.convert_checkpoint("ecg_net1d", file)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"model": weights()}, file)
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(ecg.convert_checkpoint("ecg_net1d", file), expected)


def test_a_small_file_does_not_unpack_to_a_huge_one(tmp_path, monkeypatch):
    _zipped_anew(tmp_path / "file.pth", zipfile.ZIP_DEFLATED, zeros=torch.zeros(100_000))
    monkeypatch.setattr(loading, "MAX_FILE_BYTES", (tmp_path / "file.pth").stat().st_size)
    with pytest.raises(CheckpointError, match=r"file\.pth: it unpacks to more"):
        read_checkpoint(tmp_path / "file.pth")


def test_safetensors_are_read_under_another_ending(tmp_path, expected):
    save_file(weights(), tmp_path / "pytorch_model.bin")
    assert same(ecg.convert_checkpoint("ecg_net1d", tmp_path / "pytorch_model.bin"), expected)
