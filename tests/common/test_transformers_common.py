"""transformers' own tests for its models, run on every class of the package: one generated test class per method.

Tests of what signals have not (`NO_SIGNAL_HAS`) are left out; what the device or a single method lacks is skipped and says why.
The mixins come from the source distribution of the installed version (`fetch_common_tests.py`); without them this module
fails, so that a set-up which forgot them is noticed. `python tests/common/table.py` prints test × class.
"""

import copy
import fnmatch
import functools
import inspect
import sys
import tempfile
import unittest
import unittest.mock

import pytest
import torch

import ecg_transformers
from ecg_transformers.models.registry import get_method, list_methods

try:
    from hf_tests import test_modeling_common as common
    from hf_tests.test_configuration_common import ConfigTester
except ModuleNotFoundError as error:
    raise RuntimeError(
        "hf_tests/ is missing: run `python tests/common/fetch_common_tests.py` (make test does)."
    ) from error


NO_SIGNAL_HAS = {
    "token embeddings and a vocabulary": ["test_resize_*tokens*", "test_resize_embeddings_*", "test_inputs_embeds*"],
    "a decoder that writes text": ["test_encoder_decoder_*", "test_causal_lm_*"],
    "features of text, images, audio files or video": ["test_get_*_features_*"],
}


@functools.cache
def number_of_tokens(name: str) -> int:
    """How many tokens the smallest base model of a method gives for a record."""
    method = get_method(name)
    model = method.model_classes["base"](method.config_class(**method.tiny_config)).eval()
    with torch.no_grad():
        return model(**model.dummy_inputs).last_hidden_state.shape[1]


class MethodTester:
    """What the mixin asks of a model tester: a small config and inputs for it."""

    def __init__(self, parent: unittest.TestCase, name: str) -> None:
        self.parent = parent
        self.method = get_method(name)
        self.is_training = True
        config = self.get_config()
        self.batch_size = 2
        self.num_hidden_layers = getattr(config, "num_hidden_layers", None)
        self.hidden_size = config.hidden_size
        self.num_attention_heads = getattr(config, "num_attention_heads", None)
        self.seq_length = number_of_tokens(name)
        self.encoder_seq_length = self.seq_length
        self.key_length = self.seq_length
        # asked for where a model masks: the number of patches and of masked ones
        self.mask_length = getattr(config, "num_patches", self.seq_length)
        self.num_masks = self.mask_length // 2
        # the mixin draws a ViT-MAE noise from these for a parameter called noise; `_prepare_for_class` replaces it
        self.image_size = self.patch_size = 1

    def get_config(self):
        return self.method.config_class(**self.method.tiny_config)

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        inputs = self.method.model_classes["base"](copy.deepcopy(config)).dummy_inputs
        return config, inputs


def _shape_only(tensor: torch.Tensor, _spec: str) -> str:
    return f"a tensor of shape {tuple(tensor.shape)}"


class CommonTests(common.ModelTesterMixin):
    """The mixin, told what is true of signals: no vocabulary, no token embeddings to resize."""

    method_name = ""
    test_resize_embeddings = False
    test_can_init_all_missing_weights_before_2023 = True
    has_attentions = True
    is_encoder_decoder = False
    fx_compatible = False

    def setUp(self) -> None:
        method = get_method(self.method_name)
        self.model_tester = MethodTester(self, self.method_name)
        config = method.config_class(**method.tiny_config)
        self.has_attentions = "attentions" in method.model_classes["base"]._can_record_outputs
        self.config_tester = ConfigTester(
            self,
            config_class=method.config_class,
            has_text_modality=False,
            common_properties=[name for name in ("hidden_size", "num_hidden_layers") if hasattr(config, name)],
            **method.tiny_config,
        )
        # most of the mixin's seconds went into whole tensors printed into the messages of checks that hold
        self.enterContext(unittest.mock.patch.object(torch.Tensor, "__format__", _shape_only))

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        """Noise and masks of a pre-training class are part of its inputs: otherwise two passes differ."""
        parameters = inspect.signature(model_class.forward).parameters
        inputs = {
            key: value
            for key, value in inputs_dict.items()
            if key in parameters or not isinstance(value, torch.Tensor)  # switches such as output_attentions
        }
        first = inputs[model_class.main_input_name]
        with torch.random.fork_rng():
            dummy = model_class(self.model_tester.get_config()).dummy_inputs
        if first.shape[1:] != dummy[model_class.main_input_name].shape[1:]:  # pre-training sees two views, say
            inputs[model_class.main_input_name] = first = dummy[model_class.main_input_name].to(first)
        for key, value in dummy.items():
            if key not in inputs or inputs[key].shape[1:] != value.shape[1:]:
                rows = value.repeat(len(first), *[1] * (value.ndim - 1))[: len(first)] if len(value) == 2 else value
                inputs[key] = rows.to(first) if rows.is_floating_point() else rows.to(first.device)
        if return_labels and "labels" in parameters:
            by_sample = model_class is self.model_tester.method.model_classes.get("token_classification")
            shape = first.shape if by_sample else first.shape[:1]  # one class a sample of each lead, or a record
            inputs["labels"] = torch.zeros(shape, dtype=torch.long, device=first.device)
        return inputs

    def test_config(self) -> None:
        self.config_tester.run_common_tests()

    def test_attention_outputs(self) -> None:
        self._one_class_at_a_time(super().test_attention_outputs)

    def test_hidden_states_output(self) -> None:
        self._one_class_at_a_time(super().test_hidden_states_output)

    def test_bc_torch_dtype(self) -> None:
        """Loads a class fourteen times; one stands for all, since they load by one `from_pretrained`."""
        with unittest.mock.patch.object(self, "all_model_classes", self.all_model_classes[:1]):
            super().test_bc_torch_dtype()

    def test_load_with_mismatched_shapes(self) -> None:
        """The mixin's second half changes a vocabulary; a signal model has none, so the head alone is checked."""
        config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
        model_class = self.model_tester.method.model_classes["classification"]
        with tempfile.TemporaryDirectory() as folder:
            model_class(config).save_pretrained(folder)
            with pytest.raises(RuntimeError):
                model_class.from_pretrained(folder, num_labels=42)
            model = model_class.from_pretrained(folder, num_labels=42, ignore_mismatched_sizes=True).eval()
        assert model(**self._prepare_for_class(inputs, model_class)).logits.shape[-1] == 42

    def test_can_init_all_missing_weights(self) -> None:
        """Loads an empty checkpoint on purpose, which `from_pretrained` refuses."""
        with unittest.mock.patch("ecg_transformers.models.base.refuse_misfits"):
            super().test_can_init_all_missing_weights()

    def test_model_weights_reload_no_missing_tied_weights(self) -> None:
        """Loads a checkpoint with one foreign tensor on purpose, which `from_pretrained` refuses."""
        with unittest.mock.patch("ecg_transformers.models.base.refuse_misfits"):
            super().test_model_weights_reload_no_missing_tied_weights()

    def _one_class_at_a_time(self, test) -> None:
        """A pre-training class sees fewer tokens than the base class: the tester is told the class's own number."""
        for model_class in self.all_model_classes:
            config, inputs = self.model_tester.prepare_config_and_inputs_for_common()
            model = model_class(config).eval()
            with torch.no_grad():
                outputs = model(**self._prepare_for_class(inputs, model_class), output_hidden_states=True)
            tokens = outputs.hidden_states[0].shape[1]
            self.model_tester.seq_length = self.model_tester.encoder_seq_length = self.model_tester.key_length = tokens
            with (
                self.subTest(model_class.__name__),
                unittest.mock.patch.object(self, "all_model_classes", (model_class,)),
            ):
                test()

    def test_model_get_set_embeddings(self) -> None:
        """Ours are modules that take signals, not `nn.Embedding`."""
        for model_class in self.all_model_classes:
            model = model_class(self.model_tester.get_config())
            embeddings = model.get_input_embeddings()
            assert isinstance(embeddings, torch.nn.Module)
            model.set_input_embeddings(embeddings)
            assert model.get_input_embeddings() is embeddings


def _make(name: str) -> type:
    method = get_method(name)
    classes = tuple(method.model_classes.values())
    common.MODEL_MAPPING_NAMES[name] = method.model_classes["base"].__name__
    common.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES[name] = method.model_classes["classification"].__name__
    absent = [pattern for patterns in NO_SIGNAL_HAS.values() for pattern in patterns]
    # records have no padding and models take no attention mask, so that one side and one mask stand for all;
    # half precision is compared with the kernels that a user gets
    absent += ["*eager_matches_sdpa*pad_right*", "*eager_matches_sdpa*no_attn*", "*eager_matches_sdpa*[fb]*16_pad_left"]
    body: dict[str, object] = {
        test: None for test in dir(CommonTests) if any(fnmatch.fnmatch(test, pattern) for pattern in absent)
    }
    body |= {"method_name": name, "all_model_classes": classes, "__doc__": f"Common tests of {method.title}."}
    return type(f"Test_{name}", (CommonTests, unittest.TestCase), body)


for _name in list_methods():
    globals()[f"Test_{_name}"] = _make(_name)


def test_every_registered_method_has_its_common_tests() -> None:
    assert ecg_transformers.list_methods()
    for name in list_methods():
        assert f"Test_{name}" in globals()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
