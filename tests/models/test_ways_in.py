"""How models are called by others: any precision, `Trainer`, attention weights, arrays that are no tensors."""

from dataclasses import fields
from typing import get_type_hints

import numpy as np
import pytest
import torch

from ecg_transformers import (
    ECGJEPAConfig,
    ECGJEPAForSequenceClassification,
    STMEMConfig,
    STMEMForSequenceClassification,
    get_method,
    list_methods,
)

SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": 3}
MODELS = {
    "st_mem": (STMEMConfig, STMEMForSequenceClassification),
    "ecg_jepa": (ECGJEPAConfig, ECGJEPAForSequenceClassification),
}


def small(name: str) -> torch.nn.Module:
    config_class, model_class = MODELS[name]
    torch.manual_seed(0)
    return model_class(config_class(**SMALL)).eval()


def signals(model: torch.nn.Module, records: int = 2) -> torch.Tensor:
    torch.manual_seed(1)
    config = model.config
    return torch.randn(records, config.num_leads, config.seq_len)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision_takes_what_an_extractor_gives(name, dtype):
    model = small(name)
    values = signals(model)
    with torch.no_grad():
        exact = model(values).logits
        half = model.to(dtype)(values).logits
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), exact, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("name", MODELS)
def test_attention_weights_asked_for_are_given_whatever_the_implementation(name):
    model = small(name)
    model.set_attn_implementation("sdpa")
    with torch.no_grad():
        asked = model(signals(model, 1), output_attentions=True)
        plain = model(signals(model, 1))
    assert len(asked.attentions) == 1
    torch.testing.assert_close(asked.attentions[0].sum(-1), torch.ones(asked.attentions[0].shape[:-1]))
    assert plain.attentions is None
    assert model.config._attn_implementation == "sdpa"


def test_an_array_that_is_no_tensor_gets_a_sentence():
    model = small("st_mem")
    with pytest.raises(ValueError, match='return_tensors="pt"'):
        model(input_values=np.zeros((1, 12, 2250), dtype=np.float32))


def test_trainer_hands_logits_to_compute_metrics(tmp_path):
    from transformers import Trainer, TrainingArguments

    model, seen = small("st_mem"), []
    rows = [{"input_values": values, "labels": torch.tensor(0)} for values in signals(model, 4)]
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True, per_device_eval_batch_size=2)
    trainer = Trainer(
        model=model, args=arguments, eval_dataset=rows, compute_metrics=lambda pair: seen.append(pair.predictions) or {}
    )
    trainer.evaluate()
    with torch.no_grad():
        logits = model(torch.stack([row["input_values"] for row in rows])).logits
    np.testing.assert_allclose(seen[0], logits.numpy(), atol=1e-5)


@pytest.mark.parametrize("role", ["classification", "token_classification"])
@pytest.mark.parametrize("name", list_methods())
def test_trainer_sees_the_logits_of_every_classifier_and_nothing_else(name, role):
    method = get_method(name)
    if role not in method.model_classes:
        pytest.skip("the method has no such head")
    output = get_type_hints(method.model_classes[role].forward)["return"]
    ignored = {"loss", *method.config_class.keys_to_ignore_at_inference}
    assert [field.name for field in fields(output) if field.name not in ignored] == ["logits"]
