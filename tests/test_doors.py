"""A keyword that nobody reads is refused at every door, with the nearest one that somebody does."""

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, pipeline

import ecg_transformers as ecg

LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
SIGNAL = np.random.default_rng(0).standard_normal((2500, 12)).astype(np.float32) * 0.3
DOORS = {
    "embed": (lambda model, file: ecg.embed(file, model, sampling_rates=250), "sampling_rate"),
    "check a file": (lambda model, file: ecg.check(file, sampling_rte=250), "sampling_rate"),
    "check a folder": (lambda model, file: ecg.check(file.parent, label_colum="label"), "label_column"),
    "load_checkpoint": (lambda model, file: ecg.load_checkpoint(model, hiden_size=8), "hidden_size"),
    "load_ecg_dataset": (lambda model, file: ecg.load_ecg_dataset("synthetic", num_record=3), "num_records"),
    "read_record": (lambda model, file: ecg.read_record(file, sampling_rte=250), "sampling_rate"),
    "for_method": (lambda model, file: ecg.ECGFeatureExtractor.for_method("st_mem", seq_length=9), "seq_len"),
    "an extractor": (lambda model, file: ecg.ECGFeatureExtractor.for_method("st_mem")(file, num_crop=2), "num_crops"),
    "a saved extractor": (lambda model, file: AutoFeatureExtractor.from_pretrained(model, seq_length=9), "seq_len"),
    "a pipeline": (lambda model, file: pipeline("ecg-classification", model=model, topk=1), "top_k"),
    "a call of it": (lambda model, file: pipeline("ecg-classification", model=model)(file, num_crop=1), "num_crops"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("model"))
    method = ecg.get_method("st_mem")
    config = method.config_class(**method.tiny_config, id2label={0: "AF", 1: "sinus"})
    torch.manual_seed(0)
    method.model_classes["classification"](config).save_pretrained(folder)
    ecg.ECGFeatureExtractor.for_method("st_mem", seq_len=config.seq_len).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("door", DOORS)
def test_an_unknown_keyword_is_refused_with_the_nearest_one(door, model, tmp_path):
    file = tmp_path / "record.npz"
    np.savez(file, signal=SIGNAL, sampling_rate=250, lead_names=LEADS)
    call, meant = DOORS[door]
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        call(model, file)


def test_keywords_of_the_hub_are_no_settings(model):
    assert AutoFeatureExtractor.from_pretrained(model, trust_remote_code=False, local_files_only=True).seq_len
