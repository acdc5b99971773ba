import itertools
import json

import numpy as np
import pytest

from ecg_transformers.analysis import plots
from ecg_transformers.analysis.ecg_paper import MM_PER_MILLIVOLT, MM_PER_SECOND
from ecg_transformers.analysis.figures import NOT_A_MEDICAL_DEVICE, new_figure, save_figure
from ecg_transformers.data.record import ECGRecord
from ecg_transformers.signal.leads import STANDARD_LEADS
from ecg_transformers.signal.wave_intervals import UNITS, Interval, WaveIntervals


@pytest.fixture
def record():
    time = np.arange(1000) / 100
    wave = np.exp(-0.5 * ((time % 1.0 - 0.5) / 0.02) ** 2)
    return ECGRecord(wave[:, None] * np.linspace(-1, 2, 12), 100, list(STANDARD_LEADS), "record 7")


def texts(figure):
    found = [text.get_text() for text in figure.texts]
    return found + [text.get_text() for axes in figure.axes for text in axes.texts]


def traces(figure):
    """The lines of the signal: everything that is longer than pulses and lead marks."""
    return [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) > 20]


def test_every_lead_is_labelled_and_the_scale_is_written(record):
    figure = plots.plot_ecg(record)
    assert set(STANDARD_LEADS) <= set(texts(figure))
    assert any("25 mm/s   10 mm/mV" in text for text in texts(figure))
    assert "record 7" in texts(figure)


def test_paper_has_its_true_size(record):
    figure = plots.plot_ecg(record)
    axes = figure.axes[0]
    width_inches = axes.get_position().width * figure.get_figwidth()
    assert width_inches * 25.4 == pytest.approx(np.ptp(axes.get_xlim()), rel=1e-6)
    height_inches = axes.get_position().height * figure.get_figheight()
    assert height_inches * 25.4 == pytest.approx(np.ptp(axes.get_ylim()), rel=1e-6)


def test_traces_are_drawn_at_25_mm_a_second_and_10_mm_a_millivolt(record):
    figure = plots.plot_ecg(record, layout="rows")
    lines = traces(figure)
    assert len(lines) == 12
    for lead, line in enumerate(lines):
        assert np.ptp(line.get_xdata()) == pytest.approx(9.99 * MM_PER_SECOND)
        assert np.ptp(line.get_ydata()) == pytest.approx(MM_PER_MILLIVOLT * np.ptp(record.signal[:, lead]), rel=1e-5)


def test_calibration_pulse_is_one_millivolt_for_a_fifth_of_a_second(record):
    figure = plots.plot_ecg(record, layout="rows")
    pulse = next(line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 6)
    assert np.ptp(pulse.get_ydata()) == 10
    assert np.ptp(pulse.get_xdata()[1:5]) == 5


def test_standard_layout_shows_consecutive_quarters_and_a_rhythm_strip(record):
    record.signal = np.repeat(np.linspace(0, 1, 1000, dtype=np.float32)[:, None], 12, axis=1)
    lines = traces(plots.plot_ecg(record))
    assert len(lines) == 13
    starts = sorted({round(float(line.get_xdata()[0]), 3) for line in lines})
    assert starts == [0.0, 62.5, 125.0, 187.5]
    for line in lines[:12]:  # a ramp: what is shown at x belongs to the time of x
        slope = np.ptp(line.get_ydata()) / np.ptp(line.get_xdata())
        assert slope == pytest.approx(10 / (9.99 * 25), rel=1e-3)


def test_few_leads_and_long_records_find_a_page(record):
    two = plots.plot_ecg(record.signal[:, :2], 100, ["MLII", "V5"])
    assert len(traces(two)) == 2
    long = plots.plot_ecg(np.tile(record.signal[:, 0], 9), 100, ["I"])
    assert len(traces(long)) == 6
    assert any("of 90 s" in text for text in texts(long))
    later = plots.plot_ecg(np.tile(record.signal[:, :2], (3, 1)), 100, start_s=15, seconds=4)
    assert any("15–19 s of 30 s" in text for text in texts(later))


@pytest.mark.parametrize("layout", ["standard", "rows"])
@pytest.mark.parametrize("size", [0.3, 1, 3])
def test_no_trace_runs_over_the_name_of_a_lead(record, layout, size):
    record.signal = record.signal * size
    figure = plots.plot_ecg(record, layout=layout)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == len(traces(figure))
    for line in traces(figure):
        points = line.get_transform().transform(line.get_xydata())
        for box in boxes:
            inside = (
                (box.x0 < points[:, 0]) & (points[:, 0] < box.x1) & (box.y0 < points[:, 1]) & (points[:, 1] < box.y1)
            )
            assert not inside.any()


def test_missing_samples_leave_a_gap(record):
    record.signal[200:300, 0] = np.nan
    record.signal[:, 3] = np.nan
    lines = traces(plots.plot_ecg(record, layout="rows"))
    assert np.isnan(lines[0].get_ydata()).sum() == 100


def test_predictions_come_with_the_note(record):
    assert NOT_A_MEDICAL_DEVICE not in texts(plots.plot_ecg(record))
    shown = texts(plots.plot_ecg(record, predictions={"MI": 0.2, "NORM": 0.81}))
    assert NOT_A_MEDICAL_DEVICE in shown
    assert "NORM 81 %   MI 20 %" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((100, 2)),), "sampling_rate"),
        ((np.zeros((100, 2)), 100, ["I"]), "1 lead names"),
    ],
)
def test_arrays_that_cannot_be_read_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        plots.plot_ecg(*arguments)


def test_stretch_outside_the_record_is_refused(record):
    with pytest.raises(ValueError, match="outside the record 'record 7'"):
        plots.plot_ecg(record, start_s=12)


def test_real_record_is_drawn_in_less_than_two_megabytes(ecg_data_dir, tmp_path):
    import wfdb

    real = wfdb.rdrecord(str(ecg_data_dir / "ptb-xl/records100/00000/00002_lr"))
    names = [name.replace("AV", "aV") for name in real.sig_name]
    path = save_figure(plots.plot_ecg(real.p_signal, real.fs, names), tmp_path / "ecg.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert 10_000 < path.stat().st_size < 2_000_000


def test_figures_leave_no_global_state(record):
    import sys

    loaded_before = "matplotlib.pyplot" in sys.modules
    plots.plot_ecg(record)
    assert ("matplotlib.pyplot" in sys.modules) == loaded_before


def test_saving_is_whole_or_not_at_all(tmp_path, monkeypatch):
    figure = new_figure(1, 1)
    path = save_figure(figure, tmp_path / "a.png")
    before = path.read_bytes()

    def fail(target, **options):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match=r"\.png"):
        save_figure(figure, tmp_path / "a.jpg")


def test_large_pictures_are_written_smaller(tmp_path, monkeypatch):
    from ecg_transformers.analysis import figures

    monkeypatch.setattr(figures, "_MAX_BYTES", 20_000)
    figure = new_figure(1, 1, dpi=120)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(np.random.default_rng(0).random((120, 120, 3)), interpolation="nearest")
    assert save_figure(figure, tmp_path / "noise.png").stat().st_size <= 20_000


def patches(seed=0):
    generator = np.random.default_rng(seed)
    signal = generator.normal(size=(2, 3, 40)) * 3 + 5
    original = signal.reshape(2, 3, 4, 10)
    spread = np.sqrt(original.var(axis=-1, ddof=1, keepdims=True) + 1e-6)
    return signal, original, (original - original.mean(axis=-1, keepdims=True)) / spread


def test_perfect_reconstructions_of_every_form_come_back_as_the_signal():
    import torch

    signal, original, normalized = patches()
    forms = {
        "patches of leads": (normalized, np.ones((2, 3, 4)), True),
        "raw patches": (original, np.ones((2, 3, 4)), False),
        "windows over all leads": (original.transpose(0, 2, 3, 1).reshape(2, 4, 30), np.ones((2, 4)), False),
        "whole leads": (signal, np.ones((2, 3)), False),
    }
    for name, (reconstruction, mask, is_normalized) in forms.items():
        found, predicted, masked = plots.reconstruction_patches(
            torch.as_tensor(signal), torch.as_tensor(reconstruction), torch.as_tensor(mask),
            index=1, normalized_target=is_normalized,
        )  # fmt: skip
        np.testing.assert_allclose(predicted, found, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(found.reshape(3, 40), signal[1], atol=1e-5)
        assert masked.shape == found.shape[:2], name


def test_reconstruction_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        plots.reconstruction_patches(np.zeros((2, 3, 40)), np.zeros((2, 5, 7)), np.zeros((2, 4)))


def test_reconstruction_panels_show_prediction_only_where_masked():
    signal, _, normalized = patches()
    mask = np.zeros((2, 3, 4))
    mask[0, 1, 2] = 1
    figure = plots.plot_reconstruction(signal, normalized + 1, mask, lead_names=["I", "II", "V1"], sampling_rate=10)
    assert len(figure.axes) == 9
    guess = figure.axes[5].get_lines()[-1].get_ydata()  # lead II, third column
    assert np.isfinite(guess).tolist() == [20 <= sample < 30 for sample in range(40)]
    visible = figure.axes[4].get_lines()[0].get_ydata()
    assert np.isnan(visible).tolist() == [20 <= sample < 30 for sample in range(40)]


@pytest.mark.parametrize("rate", [10, None])
def test_numbers_under_neighbouring_columns_do_not_collide(rate):
    signal, _, normalized = patches()
    figure = plots.plot_reconstruction(signal, normalized, np.ones((2, 3, 4)), sampling_rate=rate)
    figure.canvas.draw()
    labels = [label for axes in figure.axes[-3:] for label in axes.get_xticklabels() if label.get_text()]
    boxes = [label.get_window_extent() for label in labels if label.get_visible()]
    assert len(boxes) >= 9
    assert not any(first.overlaps(second) for index, first in enumerate(boxes) for second in boxes[:index])


def test_outputs_of_a_real_model_can_be_drawn(tmp_path):
    import torch

    from ecg_transformers.models.registry import get_method

    method = get_method("st_mem")
    model = method.model_classes["pretraining"](method.config_class(**method.tiny_config))
    inputs = model.dummy_inputs
    with torch.no_grad():
        outputs = model(**inputs)
    figure = plots.plot_reconstruction(inputs["input_values"], outputs.reconstruction, outputs.mask)
    assert save_figure(figure, tmp_path / "panels.png").stat().st_size < 2_000_000


def rows(count=200):
    return [{"step": step, "loss": 1 / step + 0.5, "lr": 1e-3 / step} for step in range(1, count + 1)]


def test_loss_curve_is_the_same_from_a_file_and_from_rows(tmp_path):
    log = tmp_path / "train_log.jsonl"
    log.write_text("\n".join(json.dumps(row) for row in rows()) + "\n")
    curves = []
    for source in (log, rows()):
        figure = plots.plot_loss_curve(source, tmp_path / "loss.png")
        curves.append(figure.axes[0].get_lines()[0].get_ydata())
    np.testing.assert_array_equal(*curves)
    assert (tmp_path / "loss.png").exists()


def test_loss_curve_skips_what_is_no_number_and_refuses_an_empty_log():
    broken = [*rows(5), {"step": 6, "loss": float("nan"), "lr": 0.1}, {"step": 7, "validation_loss": 0.4}]
    figure = plots.plot_loss_curve(broken)
    assert len(figure.axes[0].get_lines()[0].get_xdata()) == 5
    with pytest.raises(ValueError, match="no row with a finite loss"):
        plots.plot_loss_curve([{"step": 1, "loss": float("inf")}])


def test_one_huge_first_loss_does_not_flatten_the_curve():
    spiked = rows()
    spiked[0]["loss"] = 1e6
    assert plots.plot_loss_curve(spiked).axes[0].get_ylim()[1] < 10


def test_running_mean_starts_with_what_there_is():
    assert plots.running_mean(np.array([2.0, 4.0, 6.0, 8.0]), 2).tolist() == [2.0, 3.0, 5.0, 7.0]


def test_area_under_the_drawn_curve_is_the_auroc(tmp_path):
    from ecg_transformers.evaluation.metrics import macro_auroc

    generator = np.random.default_rng(0)
    target = (generator.random((80, 3)) < 0.4).astype(int)
    target[:, 2] = 0  # undefined: no curve
    score = (target + generator.normal(size=target.shape)).round(1)
    figure = plots.plot_roc_curves(target, score, ["a", "b", "c"], tmp_path / "roc.png")
    result = macro_auroc(target, score)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert len(labels) == 2
    for name, value in zip("ab", result["per_class"]):
        assert any(label.startswith(f"{name}  {value:.3f}") for label in labels)
    assert f"mean {result['value']:.3f} (2 of 3 classes)" in figure.axes[0].get_legend().get_title().get_text()
    assert NOT_A_MEDICAL_DEVICE in texts(figure)


def test_many_classes_still_make_a_picture(tmp_path):
    generator = np.random.default_rng(0)
    target = (generator.random((300, 71)) < 0.1).astype(int)
    figure = plots.plot_roc_curves(target, generator.random((300, 71)), [f"class {index}" for index in range(71)])
    assert len(figure.axes[0].get_legend().get_texts()) == 12
    assert save_figure(figure, tmp_path / "roc.png").stat().st_size < 2_000_000


@pytest.mark.parametrize("seconds", [3, 4, 5, 7, 10])
@pytest.mark.parametrize("given", ["intervals", "refusal"])
def test_what_is_written_beside_the_paper_is_whole_on_a_narrow_page_too(seconds, given):
    values = {name: Interval(123.0, 12.0, 9) for name in UNITS}
    sentence = (
        "What was found does not stand out by its slope in any lead, as in noise and hum, so there is nothing to give."
    )
    intervals = WaveIntervals(values) if given == "intervals" else WaveIntervals(refused=[sentence])
    signal = np.random.default_rng(0).standard_normal((100 * seconds, 1))
    figure = plots.plot_ecg(signal, 100, ["II"], predictions={"NORM": 0.9}, waves={"II": []}, intervals=intervals)
    figure.canvas.draw()
    inside, boxes = figure.bbox.padded(1), [text.get_window_extent() for text in figure.texts]
    assert all(inside.contains(*corner) for box in boxes for corner in box.corners())
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    written = " ".join(" ".join(text.get_text() for text in figure.texts).split())
    assert (sentence if given == "refusal" else "QTcF 123 ± 12 ms") in written
