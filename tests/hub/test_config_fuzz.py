"""Hostile `config.json` files: a sentence or a small usable config; never code, nor memory or time without bound."""

import contextlib
import json
import resource
import signal
import socket

import pytest
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import ecg_transformers  # noqa: F401  (registers the Auto classes)
from ecg_transformers.models.registry import get_method, list_methods

CPU_SECONDS, MEMORY = 30, 2 * 2**30
MAX_PARAMETERS = 20e9
# what a user can make sense of; not a crash of the interpreter, not memory or recursion that ran out
CLEAN = (
    ValueError,
    TypeError,
    OSError,
    LookupError,
    AttributeError,
    OverflowError,
    ImportError,
    ZeroDivisionError,
    RuntimeError,
    StrictDataclassError,  # a field of the wrong type, named
)
UNCLEAN = (MemoryError, RecursionError, NotImplementedError)

NUMBERS = [-1, 0, 1, 2, 3, 7, 16, 10**5, 10**9, 10**12, 2**63, 10**40, -(10**18)]
NUMBERS += [0.0, 0.5, -1.0, 1.5, 1e300, float("nan"), float("inf"), float("-inf")]
SCALARS = [*NUMBERS, True, False, None, "", "12", "x" * 5000, "batch", "../../etc/passwd", "os.system", "\u202e\x00"]
scalar = st.sampled_from(SCALARS)
value = st.one_of(
    scalar,
    scalar,
    st.lists(scalar, max_size=4),
    st.tuples(scalar, st.sampled_from([3, 300])).map(lambda pair: [pair[0]] * pair[1]),
    st.dictionaries(st.sampled_from(["0", "1", "model_type", "auto_map", "hidden_size"]), scalar, max_size=3),
    st.recursive(scalar, lambda inner: st.lists(inner, max_size=2) | st.fixed_dictionaries({"a": inner}), max_leaves=4),
)
GENERAL = ["num_labels", "id2label", "label2id", "auto_map", "architectures", "dtype", "torch_dtype", "problem_type"]
GENERAL += ["attn_implementation", "_attn_implementation", "model_type", "return_dict", "output_attentions"]
GENERAL += ["output_hidden_states", "backbone_config", "quantization_config", "_name_or_path", "transformers_version"]
GENERAL += ["__class__", "self", "kwargs", "chunk_size_feed_forward", "base_config", "text_config", "sub_configs"]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a config must not make anything connect to a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@contextlib.contextmanager
def bounded():
    """At most so much CPU time and further address space; running out is an error of the test, not of the machine."""

    def late(*_):
        raise AssertionError(f"more than {CPU_SECONDS} s of CPU time")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    handler = signal.signal(signal.SIGPROF, late)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def tiny(name):
    method = get_method(name)
    return {**method.config_class(**method.tiny_config).to_dict(), "model_type": name}


def outcome(folder, content, name):
    """What loading and building makes of a config: the error, or the number of parameters of its encoder."""
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "config.json").write_text(text, encoding="utf-8")
    with bounded():
        try:
            config = transformers.AutoConfig.from_pretrained(folder)
            with torch.device("meta"):  # shapes only: nothing is allocated, whatever the sizes
                model = transformers.AutoModel.from_config(config)
        except UNCLEAN as error:
            pytest.fail(f"{type(error).__name__}: {error}")
        except CLEAN as error:
            if not str(error).strip():
                pytest.fail(f"{type(error).__name__} without a sentence")
            return error
    return sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))


@pytest.mark.parametrize("name", list_methods())
def test_changed_fields_give_an_error_or_a_config_of_bounded_size(tmp_path, name):
    base = tiny(name)
    keys = st.sampled_from(sorted(base) + GENERAL)

    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # the first bad config is named as it is: making it smaller costs more than it tells
        suppress_health_check=list(HealthCheck),
    )
    @given(st.dictionaries(keys, value, min_size=1, max_size=3), st.sets(keys, max_size=1))
    def check(changes, dropped):
        content = {key: old for key, old in base.items() if key not in dropped} | changes
        found = outcome(tmp_path, content, name)
        assert isinstance(found, Exception) or found <= MAX_PARAMETERS, f"{changes}: {found:.3g} parameters"

    check()


BOMBS = {
    "labels": {"num_labels": 10**12, "id2label": None, "label2id": None},
    "depth and width": {"num_hidden_layers": 256, "hidden_size": 16_384, "num_attention_heads": 128},
    "heads": {"num_attention_heads": 256, "attention_head_size": 10**9},
    "decoder": {
        "decoder_hidden_size": 16_384,
        "decoder_intermediate_size": 10**12,
        "decoder_num_attention_heads": 10**9,
    },
    "predictor": {"predictor_intermediate_size": 10**12},
    "positions": {"seq_len": 999_990, "num_leads": 1024, "hidden_size": 16_384},
    "projections": {"projection_size": 10**12, "projector_hidden_size": 10**12, "predictor_hidden_size": 10**12},
    "convolutions": {"conv_dims": [10**9] * 4, "conv_kernels": [10**9] * 4, "conv_channels": [10**9] * 6},
    "many convolutions": {"conv_dims": [4] * 10**5, "conv_kernels": [1] * 10**5, "conv_strides": [1] * 10**5},
    "stages": {"stage_dims": [10**9] * 2, "expansion": 10**9, "depths": [10**9] * 2},
    "many stages": {"stage_dims": [4] * 10**5, "depths": [1] * 10**5, "stem_dims": [4] * 10**5},
    "state": {"context": "s4", "state_size": 10**6, "s4_max_length": 10**9},
    "head layers": {"classifier_hidden_sizes": [10**9] * 3},
    "beats": {"max_beats": 10**15, "beat_len": 10**15},
}


def changes_of(name, bomb):
    """What of a bomb is for a method."""
    base = tiny(name)
    return {key: new for key, new in BOMBS[bomb].items() if key in base or key == "num_labels"}


@pytest.mark.parametrize(
    ("name", "bomb"), [(name, bomb) for name in list_methods() for bomb in BOMBS if changes_of(name, bomb)]
)
def test_a_few_bytes_cannot_ask_for_a_huge_model(tmp_path, name, bomb):
    base, changes = tiny(name), changes_of(name, bomb)
    content = {key: old for key, old in (base | changes).items() if old is not None}
    if bomb == "labels":
        content = {key: old for key, old in content.items() if key not in ("id2label", "label2id")}
    found = outcome(tmp_path, content, name)
    assert isinstance(found, Exception) or found <= MAX_PARAMETERS, f"{found:.3g} parameters"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '"st_mem"',
        "{",
        '{"model_type": "st_mem"',
        '{"model_type": "st_mem", "hidden_size": ' + "9" * 10_000 + "}",
        '{"model_type": "st_mem", "a": ' + "[" * 200_000 + "]" * 200_000 + "}",
        '{"model_type": "st_mem\\u0000"}',
        '{"model_type": ["st_mem"]}',
        '{"model_type": "../st_mem"}',
        '{"model_type": null}',
    ],
    ids=range(12),
)
def test_text_that_is_no_config_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with bounded(), pytest.raises((*CLEAN, RecursionError)):
        transformers.AutoConfig.from_pretrained(tmp_path)


def test_configs_inside_configs_take_bounded_time(tmp_path):
    nested = {"model_type": "st_mem"}
    for _ in range(40):
        nested = {"model_type": "cmsc", "backbone_config": nested}
    found = outcome(tmp_path, nested, "cmsc")
    assert isinstance(found, Exception) or found <= MAX_PARAMETERS


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00{" * 100)
    with bounded(), pytest.raises(CLEAN):
        transformers.AutoConfig.from_pretrained(tmp_path)


EVIL = """
from pathlib import Path
Path({marker!r}).write_text("ran")
from transformers import PreTrainedConfig, PreTrainedModel
class Config(PreTrainedConfig):
    model_type = "evil"
class Model(PreTrainedModel):
    config_class = Config
"""
AUTO_MAP = {
    "AutoConfig": "evil.Config",
    "AutoModel": "evil.Model",
    "AutoModelForPreTraining": "evil.Model",
    "AutoModelForSequenceClassification": "evil.Model",
    "AutoFeatureExtractor": "evil.Extractor",
}


@pytest.mark.parametrize("name", ["st_mem", "cmsc"])
def test_an_auto_map_never_runs_code_when_the_package_is_imported(tmp_path, name):
    """Neither at the top nor nested where a method holds another method's config, and not from another repository."""
    marker = tmp_path / "marker"
    folder = tmp_path / "model"
    method = get_method(name)
    method.model_classes["classification"](method.config_class(**method.tiny_config)).save_pretrained(folder)
    (folder / "evil.py").write_text(EVIL.format(marker=str(marker)))
    content = json.loads((folder / "config.json").read_text())
    for owner in ("", "somebody/else--"):
        evil = {key: owner + target for key, target in AUTO_MAP.items()}
        content["auto_map"] = evil
        if isinstance(content.get("backbone_config"), dict):
            content["backbone_config"]["auto_map"] = evil
        (folder / "config.json").write_text(json.dumps(content))
        preprocessor = json.loads((folder / "preprocessor_config.json").read_text())
        (folder / "preprocessor_config.json").write_text(json.dumps({**preprocessor, "auto_map": evil}))
        for auto, expected in (
            (transformers.AutoConfig, method.config_class),
            (transformers.AutoModel, method.model_classes["base"]),
            (transformers.AutoModelForSequenceClassification, method.model_classes["classification"]),
            (transformers.AutoFeatureExtractor, method.extractor_class),
        ):
            assert type(auto.from_pretrained(folder)) is expected
    assert not marker.exists()


def test_a_foreign_model_type_with_code_is_refused_without_running_it(tmp_path, monkeypatch):
    marker = tmp_path / "marker"
    (tmp_path / "evil.py").write_text(EVIL.format(marker=str(marker)))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": AUTO_MAP}))
    monkeypatch.setattr("builtins.input", lambda *_: "n")
    for auto in (transformers.AutoConfig, transformers.AutoModel):
        with bounded(), pytest.raises(CLEAN):
            auto.from_pretrained(tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize("model_type", ["llama", "bert", "vit"])
def test_a_backbone_that_is_no_ecg_encoder_is_refused(tmp_path, model_type):
    content = {**tiny("cmsc"), "backbone_config": {"model_type": model_type}}
    assert isinstance(outcome(tmp_path, content, "cmsc"), Exception)
