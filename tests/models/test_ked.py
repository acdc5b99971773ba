"""KED: the ResNet in another container, with its own chain, pooling, leads and licence."""

import numpy as np
import pytest
import torch

import ecg_transformers as ecg
from tests.support.published import (
    check_gradients,
    check_outputs,
    check_preprocessing,
    published_case,
    released_file,
)

FOLDER = "zoo/ked"


@pytest.mark.parametrize("case", ["a", "b", "full"])
def test_every_published_output_is_reproduced(parity, case):
    weights, io, config = published_case(parity, FOLDER, case)
    check_outputs(ecg.convert_checkpoint("ked", weights), io, config)


@pytest.mark.parametrize("case", ["a", "b"])
def test_every_published_gradient_is_reproduced(parity, case):
    weights, io, config = published_case(parity, FOLDER, case)
    check_gradients(ecg.convert_checkpoint("ked", weights), weights, io, config)


def test_both_published_paths_of_a_signal_are_reproduced(parity):
    check_preprocessing(parity, FOLDER)


@pytest.mark.parametrize("name", ["ked", "ecg_resnet"])
def test_the_released_container_is_opened_at_the_encoder(parity, name):
    file, case = released_file(parity, FOLDER)
    _, io, config = published_case(parity, FOLDER, case)
    model = ecg.convert_checkpoint(name, file)
    check_outputs(model, {key: io[key] for key in ("input_values", "pooler_output")}, config)
    assert model.config.variant == "ked"
    assert (model.config.seq_len, model.config.pooling) == (1000, ["mean"])
    assert model.config.lead_names == ecg.ECGFeatureExtractor.for_method("ked").lead_names
    assert "GPL" not in model.config.weights_licence


def test_a_saved_model_keeps_its_own_chain_and_texts(parity, tmp_path):
    file, _ = released_file(parity, FOLDER)
    ecg.convert_checkpoint("ked", file).save_pretrained(tmp_path)
    saved = ecg.ECGFeatureExtractor.from_pretrained(tmp_path)
    assert saved.steps == ecg.ECGFeatureExtractor.for_method("ked").steps
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "Cell Reports Medicine" in card
    assert '`check`: flat "error", max_gap 0.2, nan "zero_lead"' in card


def test_the_alias_is_the_network_with_other_settings():
    alias, network = ecg.get_method("ked"), ecg.get_method("ecg_resnet")
    assert alias.name == network.name == "ecg_resnet"
    assert alias.config_class is network.config_class
    assert "ked" not in ecg.list_methods()
    assert alias.recipe().config["pooling"] == ["mean"]
    assert alias.make_extractor().steps == ecg.ECGFeatureExtractor.for_method("ecg_resnet", variant="ked").steps
    with pytest.raises(ValueError, match="did you mean 'ked'"):
        ecg.ECGFeatureExtractor.for_method("ecg_resnet", variant="kedd")


def test_a_lead_with_a_gap_becomes_zero_throughout_and_is_reported():
    record = np.random.default_rng(0).standard_normal((5000, 12))
    record[100, 3] = np.nan
    extractor = ecg.ECGFeatureExtractor.for_method("ked")
    with pytest.warns(UserWarning, match="aVR became zero"):
        values = extractor(record, sampling_rate=500)["input_values"][0]
    assert not values[3].any()
    assert extractor.last_report[0]["zeroed_samples"] == {"aVR": 1}
    assert torch.from_numpy(values).isfinite().all()
