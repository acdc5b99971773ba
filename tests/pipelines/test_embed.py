"""`embed`: any records, one vector each; the same whatever the batch, the processes and the way it is done."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import pipeline

import ecg_transformers as ecg
from ecg_transformers.signal.leads import STANDARD_LEADS
from tests.support.xecg_files import small_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xecg")
    small_model(patch_size=25).save_pretrained(folder)
    ecg.ECGFeatureExtractor.for_method("xecg").save_pretrained(folder)
    return folder


def record(seed=0, seconds=10, rate=500):
    return np.random.default_rng(seed).standard_normal((int(seconds * rate), 12))


def by_hand(checkpoint, signal, **hints):
    model, extractor = ecg.load_checkpoint(checkpoint)
    with torch.no_grad():
        return model(**extractor(signal, **hints, return_tensors="pt")).pooler_output.numpy()


def test_equals_extractor_and_model_by_hand(checkpoint):
    signals = [record(seed) for seed in range(5)]
    expected = np.concatenate([by_hand(checkpoint, signal, sampling_rate=500) for signal in signals])
    found = ecg.embed(signals, checkpoint, sampling_rate=500)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 3}, {"num_proc": 2}, {"device": "cpu"}])
def test_batches_and_processes_change_nothing(checkpoint, options):
    signals = [record(seed, seconds) for seed, seconds in enumerate((10, 22, 10, 35, 10, 4))]
    expected = ecg.embed(signals, checkpoint, sampling_rate=500)
    found = ecg.embed(signals, checkpoint, sampling_rate=500, **options)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_every_kind_of_record_is_taken(checkpoint, tmp_path):
    signal = record().astype(np.float32)
    own = ecg.ECGRecord(signal=signal, sampling_rate=500, lead_names=list(STANDARD_LEADS), record_id="a")
    row = {"record_id": "a", "signal": signal, "sampling_rate": 500, "lead_names": list(STANDARD_LEADS), "units": "mV"}
    np.save(tmp_path / "a.npy", signal)
    expected = ecg.embed(signal, checkpoint, sampling_rate=500)
    assert expected.shape == (1, 32)
    hints = {"sampling_rate": 500, "lead_names": list(STANDARD_LEADS)}
    by_column = {name: [value] for name, value in row.items()}
    for one in (own, [own], row, by_column, (item for item in [row]), np.stack([signal])):
        found = ecg.embed(one, checkpoint, **({"sampling_rate": 500} if isinstance(one, np.ndarray) else {}))
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    for one in (tmp_path / "a.npy", str(tmp_path / "a.npy"), tmp_path):
        np.testing.assert_allclose(ecg.embed(one, checkpoint, **hints), expected, atol=1e-5 * np.abs(expected).max())


def test_a_short_record_is_cut_to_whole_patches_and_not_padded_where_padding_would_be_read(checkpoint):
    model, extractor = ecg.load_checkpoint(checkpoint)
    signal = record(seconds=4.13, rate=100).astype(np.float32)
    with torch.no_grad():
        whole = torch.from_numpy(signal[:400].T[None])
        expected = model(whole).pooler_output.numpy()
        padded = model(torch.nn.functional.pad(whole, (0, 600))).pooler_output.numpy()
    tolerance = 1e-5 * np.abs(expected).max()
    assert np.abs(padded - expected).max() > 100 * tolerance
    found = ecg.embed([record(rate=100), signal, record(1, rate=100)], checkpoint, sampling_rate=100)
    np.testing.assert_allclose(found[1:2], expected, atol=tolerance)
    vector = pipeline("ecg-feature-extraction", model=str(checkpoint))(signal, sampling_rate=100)
    np.testing.assert_allclose(vector[None], expected, atol=tolerance)
    with pytest.raises(ValueError, match="20 samples, fewer than one patch"):
        extractor(signal[:20], sampling_rate=100)


def test_long_records_are_the_mean_of_their_windows(checkpoint):
    signal = record(seconds=35, rate=100)
    (windows,) = ecg.embed(signal, checkpoint, sampling_rate=100, windows=True)
    assert windows.shape == (3, 32)  # the incomplete fourth is left out
    alone = ecg.embed(signal[1000:2000], checkpoint, sampling_rate=100)
    np.testing.assert_allclose(windows[1:2], alone, atol=1e-5 * np.abs(alone).max())
    mean = ecg.embed(signal, checkpoint, sampling_rate=100)[0]
    np.testing.assert_allclose(mean, windows.mean(0), atol=1e-6)


def test_skipped_records_are_nan_rows_and_are_named(checkpoint, tmp_path):
    records = [record(), tmp_path / "none.hea", np.full((5000, 12), np.nan), record(1)]
    with pytest.raises(ValueError, match=r"none\.hea"):
        ecg.embed(records, checkpoint, sampling_rate=500)
    for options in ({}, {"num_proc": 2}):
        found = ecg.embed(records, checkpoint, sampling_rate=500, on_error="skip", **options)
        assert np.isnan(found[1:3]).all()
        assert np.isfinite(found[[0, 3]]).all()
        report = ecg.embed.last_report
        assert [item["index"] for item in report.skipped] == [1, 2]
        assert report.skipped[0]["record"] == str(tmp_path / "none.hea")
        assert "NaN" in report.skipped[1]["reason"]
        assert report.records == 4
        assert report.windows == [1, 0, 0, 1]


def test_an_embedding_that_holds_no_numbers_is_none(tmp_path):
    model = small_model(patch_size=25)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    model.save_pretrained(tmp_path)
    ecg.ECGFeatureExtractor.for_method("xecg").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="record 0: its embedding is not finite"):
        ecg.embed(record(), tmp_path, sampling_rate=500)
    ecg.embed([record()], tmp_path, sampling_rate=500, on_error="skip")
    assert "not finite" in ecg.embed.last_report.skipped[0]["reason"]


def test_nothing_but_skipped_records_and_no_records_keep_the_width(checkpoint, tmp_path):
    assert np.isnan(ecg.embed(tmp_path / "none.hea", checkpoint, on_error="skip")).all()
    assert ecg.embed([], checkpoint).shape == (0, 32)


def test_missing_leads_follow_the_words_of_the_extractor(checkpoint, tmp_path):
    pair = record()[:, :2]
    with pytest.warns(UserWarning, match="filled with zeros"):
        zeros = ecg.embed(pair, checkpoint, sampling_rate=500, lead_names=["I", "II"])
    assert np.isfinite(zeros).all()
    method = ecg.get_method("weimann_jepa")
    method.model_classes["base"](method.config_class(**method.tiny_config)).save_pretrained(tmp_path / "w")
    with pytest.raises(ValueError, match="V1"):
        ecg.embed(pair, tmp_path / "w", sampling_rate=500, lead_names=["I", "II"])


def test_the_readout_can_be_chosen(checkpoint):
    signal = record()
    mean = ecg.embed(signal, checkpoint, sampling_rate=500, readout="mean")
    np.testing.assert_allclose(mean, ecg.embed(signal, checkpoint, sampling_rate=500), atol=1e-5)  # no padding here
    highest = ecg.embed(signal, checkpoint, sampling_rate=500, readout="max")
    assert (highest > mean).all()
    with pytest.raises(ValueError, match="pooler, mean, max"):
        ecg.embed(signal, checkpoint, sampling_rate=500, readout="sum")


@pytest.mark.parametrize(
    ("options", "sentence"), [({"on_error": "ignore"}, "on_error"), ({"batch_size": 0}, "batch_size")]
)
def test_wrong_arguments_are_one_sentence(checkpoint, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        ecg.embed(record(), checkpoint, sampling_rate=500, **options)


def test_what_is_no_record_is_told(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="holds no records"):
        ecg.embed(tmp_path, checkpoint)
    with pytest.raises(ValueError, match="int"):
        ecg.embed(5, checkpoint)


def test_published_windows_of_the_checkpoint_are_averaged(tmp_path):
    """The S4 encoders are fed 2.5 s at a time, whatever the length of a record."""
    config = {"num_leads": 12, "seq_len": 600, "sampling_rate": 240, "conv_dims": [8], "conv_kernels": [3]}
    config |= {"conv_strides": [2], "hidden_size": 8, "state_size": 4, "context": "s4", "pooling": ["mean"]}
    torch.manual_seed(0)
    ecg.ECGCPCModel(ecg.ECGCPCConfig(**config)).save_pretrained(tmp_path)
    ecg.ECGFeatureExtractor.for_method("ecg_cpc", variant="s4").save_pretrained(tmp_path)
    (windows,) = ecg.embed(record(), tmp_path, sampling_rate=500, windows=True)
    assert windows.shape == (4, 8)


def test_real_records_give_the_same_in_any_batch(checkpoint, ecg_data_dir: Path):
    files = sorted((ecg_data_dir / "ptb-xl").rglob("*_hr.hea"))[:12]
    one, other = (ecg.embed(files, checkpoint, batch_size=size) for size in (1, 8))
    np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(one).max())
    assert ecg.embed.last_report.records == len(files)
