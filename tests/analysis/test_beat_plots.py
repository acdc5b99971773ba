"""Figures of beats show what they say they show, and are written by one command."""

import numpy as np
import pytest
import torch
from ecg_sl_figures import main

import ecg_transformers as ecg
from ecg_transformers.analysis.beat_plots import (
    abnormal_weight_ratio,
    attention_entropy,
    plot_attention,
    plot_beat_saliency,
    plot_beats,
    plot_saliency,
)
from ecg_transformers.data.record import ECGRecord
from ecg_transformers.models.registry import get_method


@pytest.fixture(scope="module")
def record():
    time = np.arange(1000) / 100
    lead = sum(np.exp(-0.5 * ((time - peak) / 0.02) ** 2) for peak in np.arange(0.5, 9.5, 0.8))
    lead = lead + 0.01 * np.random.default_rng(0).standard_normal(1000)
    return ECGRecord(np.stack([lead, 1.2 * lead], axis=1), 100, ["I", "II"], "record 7")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    entry = get_method("ecg_sl")
    return entry.model_classes["classification"](entry.config_class(**entry.tiny_config, num_labels=3)).eval()


@pytest.fixture(scope="module")
def extractor():
    return ecg.ECGSLFeatureExtractor(beat_len=32)


def test_every_peak_and_window_is_drawn(record, extractor):
    figure = plot_beats(record, extractor)
    above, below = figure.axes
    count = len(extractor.prepare(record))
    assert len(above.lines[1].get_xdata()) == count
    assert len(above.patches) == count
    assert len(below.lines) == count + 1
    assert "record 7" in above.get_title()


def test_a_record_without_beats_is_drawn(extractor):
    flat = ECGRecord(np.zeros((1000, 1)), 100, ["II"], "flat")
    assert "0 beats" in plot_beats(flat, extractor).axes[0].get_title()


def test_saliency_rows_name_model_and_shares(record, model, extractor):
    figure = plot_saliency(record, [("one", model, extractor), ("two", model, extractor)])
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert [title.split(",")[0] for title in titles] == ["one", "two"]
    assert all("QRS" in title for title in titles)
    assert all(title.split(", ")[1].startswith("class ") for title in titles)


def test_a_class_is_called_by_its_name_where_it_has_one(record, extractor):
    entry = get_method("ecg_sl")
    config = entry.config_class(**entry.tiny_config, id2label={0: "NORM", 1: "MI", 2: "CD"})
    named = entry.model_classes["classification"](config).eval()
    figure = plot_saliency(record, [("one", named, extractor)], target=2)
    assert figure.axes[0].get_title().startswith("one, CD: ")
    title = plot_beat_saliency(record, named, extractor).axes[0].get_title()
    assert any(f"record 7, {name}: " in title for name in ("NORM", "MI", "CD"))


def test_saliency_over_the_beat_shows_the_three_waves(record, model, extractor):
    axes = plot_beat_saliency(record, model, extractor).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()][:3] == ["P", "QRS", "ST-T"]
    with pytest.raises(ValueError, match="window"):
        plot_beat_saliency(record, model, ecg.ECGSLFeatureExtractor(beat_len=32, beat_mode="cycle"))


def test_attention_bars_are_the_aggregation_weights(record, model, extractor):
    figure = plot_attention(record, model, extractor)
    heights = [patch.get_height() for patch in figure.axes[1].patches]
    with torch.no_grad():
        weights = model(**extractor(record, return_tensors="pt")).aggregation_weights[0].numpy()
    np.testing.assert_allclose(heights, weights, atol=1e-6)


def test_entropy_and_ratio_of_weights():
    assert attention_entropy(np.full(8, 1 / 8)) == pytest.approx(1.0)
    assert attention_entropy(np.asarray([1.0, 0.0, 0.0])) == 0.0
    assert np.isnan(attention_entropy(np.asarray([1.0])))
    assert abnormal_weight_ratio(np.asarray([0.1, 0.3, 0.6]), np.asarray([0, 0, 1])) == pytest.approx(3.0)
    assert np.isnan(abnormal_weight_ratio(np.ones(3) / 3, np.zeros(3)))


def test_one_command_writes_each_figure(record, model, extractor, tmp_path, ecg_data_dir):
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    path = sorted((ecg_data_dir / "ptb-xl" / "records100").glob("*/*.hea"))[0].with_suffix("")
    for figure in ("beats", "saliency", "beat_saliency", "attention"):
        target = tmp_path / f"{figure}.png"
        main([figure, str(path), "-o", str(target), "--model", str(folder), "--seconds", "5"])
        assert target.stat().st_size > 5000
