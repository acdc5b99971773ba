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
    load_ecg_dataset,
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


@pytest.mark.parametrize("name", ["st_mem", "ecg_sl", "merl"])
@pytest.mark.parametrize("way", ["transformed", "mapped"])
def test_trainer_learns_and_predicts_from_a_dataset_that_an_extractor_reads(name, way, tmp_path, monkeypatch):
    from transformers import Trainer, TrainingArguments

    monkeypatch.setenv("ECG_CACHE_DIR", str(tmp_path / "cache"))
    parts, method = load_ecg_dataset("synthetic", num_records=12), get_method(name)
    labels = parts["train"].features["label_ids"].feature.names
    config = method.config_class(
        **method.tiny_config, num_labels=len(labels), problem_type="multi_label_classification"
    )
    size = "seq_len" if "seq_len" in method.preprocessing else "beat_len"
    extractor = method.make_extractor(**{size: getattr(config, size)})
    if way == "mapped":
        parts = parts.map(extractor, batched=True, batch_size=3, remove_columns=parts["train"].column_names)
    else:
        parts = parts.with_transform(extractor)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        report_to=[],
        use_cpu=True,
        max_steps=1,
        per_device_train_batch_size=4,
        save_strategy="no",
        remove_unused_columns=way == "mapped",
    )
    trainer = Trainer(
        model=method.model_classes["classification"](config),
        args=arguments,
        processing_class=extractor if way == "mapped" else None,
        train_dataset=parts["train"],
        eval_dataset=parts["test"],
        compute_metrics=lambda pair: {"right": ((pair[0] > 0) == pair[1]).mean()},
    )
    trainer.train()
    predicted = trainer.predict(parts["test"])
    assert predicted.predictions.shape == predicted.label_ids.shape == (len(parts["test"]), len(labels))
    assert 0 <= predicted.metrics["test_right"] <= 1


@pytest.mark.parametrize("role", ["classification", "token_classification"])
@pytest.mark.parametrize("name", list_methods())
def test_trainer_sees_the_logits_of_every_classifier_and_nothing_else(name, role):
    method = get_method(name)
    if role not in method.model_classes:
        pytest.skip("the method has no such head")
    output = get_type_hints(method.model_classes[role].forward)["return"]
    ignored = {"loss", *method.config_class.keys_to_ignore_at_inference}
    assert [field.name for field in fields(output) if field.name not in ignored] == ["logits"]


@pytest.mark.parametrize("name", ["st_mem", "ecg_sl"])
def test_a_loader_puts_the_rows_of_a_transformed_dataset_together(name, tmp_path, monkeypatch):
    monkeypatch.setenv("ECG_CACHE_DIR", str(tmp_path / "cache"))
    rows, method = load_ecg_dataset("synthetic", num_records=8, split="train"), get_method(name)
    config = method.config_class(**method.tiny_config, num_labels=8, problem_type="multi_label_classification")
    size = "seq_len" if "seq_len" in method.preprocessing else "beat_len"
    extractor = method.make_extractor(**{size: getattr(config, size)}, lead_names=["II"])
    model = method.model_classes["classification"](config)
    for batch in torch.utils.data.DataLoader(rows.with_transform(extractor), batch_size=3):
        assert torch.isfinite(model(**batch).loss)
