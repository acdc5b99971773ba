"""The scripts that read frozen encoders: labels, controls, and results that are not made twice."""

import dataclasses
import json
from pathlib import Path

import jepa_ablations as ablations
import numpy as np
import probe_regression as regression
import pytest

from ecg_transformers.data.record import ECGRecord
from ecg_transformers.models.registry import get_method
from ecg_transformers.training.errors import UsageError

SMALL = ",".join(f"{key}={json.dumps(value)}" for key, value in get_method("ecg_jepa").tiny_config.items())


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def ablation_args(tmp_path_factory):
    return ablations.AblationArguments(
        output_dir=str(tmp_path_factory.mktemp("ablations")),
        dataset_options="num_records=60",
        cells="reference,signal_target",
        max_steps=2,
        config_overrides=SMALL,
        fractions="1",
        lead_sets="all;II,V1",
        num_crops=2,
        n_boot=50,
    )


@pytest.fixture(scope="module")
def finished(ablation_args):
    """Two cells, pre-trained for two updates and probed."""
    folder = Path(ablation_args.output_dir)
    return {cell: ablations.run_cell(ablation_args, cell, folder / cell) for cell in ablation_args.chosen_cells()}


def marks_record(onset: int, offset: int, spacing: int) -> ECGRecord:
    """A record of two leads at 500 Hz with four QRS complexes marked in each, and one P wave."""
    leads, samples, symbols = [], [], []
    for lead in ("I", "II"):
        marks = [(100, "("), (110, "p"), (120, ")")]
        for beat in range(4):
            peak = 300 + beat * spacing
            marks += [(peak - onset, "("), (peak, "N"), (peak + offset, ")")]
        leads += [lead] * len(marks)
        samples += [sample for sample, _ in marks]
        symbols += [symbol for _, symbol in marks]
    annotations = {
        "wave_leads": np.array(leads, dtype=object),
        "wave_samples": np.array(samples),
        "wave_symbols": np.array(symbols, dtype=object),
    }
    return ECGRecord(np.zeros((5000, 2)), 500.0, ["I", "II"], "r", annotations=annotations)


def test_wave_marks_give_heart_rate_and_qrs_duration():
    record = marks_record(onset=20, offset=25, spacing=400)
    assert regression.measure(record, "heart_rate") == (pytest.approx(75.0), "wave marks")
    assert regression.measure(record, "qrs_duration") == (pytest.approx(90.0), "wave marks")


def test_a_complex_without_onset_has_no_duration():
    record = marks_record(onset=20, offset=25, spacing=400)
    keep = np.ones(len(record.annotations["wave_samples"]), dtype=bool)
    keep[3] = False  # the onset of the first complex: the offset of the P wave now stands before the peak
    cut = {name: values[keep] for name, values in record.annotations.items()}
    assert regression.qrs_duration(cut) == 45


def test_detected_peaks_give_the_rate_where_nothing_is_marked():
    time = np.arange(5000) / 500
    beats = sum(np.exp(-0.5 * ((time - at) / 0.012) ** 2) for at in np.arange(0.4, 10, 0.8))
    record = ECGRecord(np.stack([beats, 0.5 * beats], axis=1), 500.0, ["I", "II"], "r")
    value, origin = regression.measure(record, "heart_rate")
    assert value == pytest.approx(75, abs=0.5)
    assert origin == "detected R peaks"


def test_a_flat_record_has_no_rate_and_an_unmarked_one_no_duration():
    record = ECGRecord(np.zeros((5000, 2)), 500.0, ["I", "II"], "r")
    assert np.isnan(regression.measure(record, "heart_rate")[0])
    assert np.isnan(regression.measure(record, "qrs_duration")[0])


def test_cross_fitting_tests_every_record_once_and_never_on_what_it_was_fitted():
    folds = np.array([1, 2, 3, 4, 5] * 4, dtype=object)
    rounds = regression.plan_rounds(folds, cross_fit=True)
    assert sorted(np.concatenate([test for _, _, test in rounds]).tolist()) == list(range(20))
    for train, validation, test in rounds:
        assert len(set(train) | set(validation) | set(test)) == 20
        assert len(train) + len(validation) + len(test) == 20


def test_features_that_hold_the_target_beat_the_mean_of_the_labels():
    generator = np.random.default_rng(0)
    features = generator.standard_normal((120, 6))
    target = 70 + features @ generator.standard_normal(6)
    rounds = regression.plan_rounds(np.array(["train"] * 80 + ["validation"] * 20 + ["test"] * 20), cross_fit=False)
    error, _ = regression.ridge_errors(features, target, rounds)
    mean_error = np.abs(target[rounds[0][2]] - target[rounds[0][0]].mean())
    errors = {"pretrained": [error], "untrained network": [mean_error], "mean of the training labels": [mean_error]}
    summary = regression.summarize(errors, [str(index // 2) for index in range(20)], n_boot=200)
    gain = summary["differences"]["pretrained - mean of the training labels"]
    assert gain["ci95"][1] < 0
    assert summary["mae"]["pretrained"]["mean"] < 0.05
    assert summary["cluster"] == "patient"


def test_the_control_is_the_network_before_its_first_update(tmp_path):
    from transformers import AutoModel

    from ecg_transformers.training.arguments import PretrainingArguments
    from ecg_transformers.training.pretraining import pretrain

    pretrain(
        PretrainingArguments(
            method="ecg_jepa",
            dataset_options="num_records=60",
            config_overrides=SMALL,
            recipe="tiny",
            recipe_overrides="lr=0",
            max_steps=1,
            per_device_batch_size=4,
            seed=7,
            output_dir=str(tmp_path / "run"),
            tensorboard=False,
            cpu=True,
        )
    )
    unmoved = AutoModel.from_pretrained(tmp_path / "run")
    control = regression.untrained(unmoved.config, regression.seed_of(str(tmp_path / "run"), default=0))
    for name, value in control.state_dict().items():
        np.testing.assert_array_equal(unmoved.state_dict()[name].numpy(), value.numpy(), err_msg=name)


def test_a_checkpoint_is_regressed_beside_both_controls(finished, ablation_args, tmp_path):
    source = Path(ablation_args.output_dir) / "reference" / "seed-0"
    args = regression.RegressionArguments(
        model_name_or_path=f"{source},{source}",
        output_dir=str(tmp_path),
        dataset_options="num_records=60",
        leads="II,V1",
        num_crops=2,
        n_boot=50,
    )
    metrics = regression.regress(args)
    assert metrics == json.loads((tmp_path / "metrics.json").read_text())
    mae = metrics["test"]["mae"]
    assert set(mae) == {"pretrained", "untrained network", "mean of the training labels"}
    assert mae["pretrained"]["per_checkpoint"][0] == mae["pretrained"]["per_checkpoint"][1]
    assert all(entry["ci95"][0] <= entry["mean"] <= entry["ci95"][1] for entry in mae.values())
    with pytest.raises(UsageError, match="qrs_duration"):
        regression.regress(dataclasses.replace(args, target="qrs_duration"))


def test_cells_report_probe_control_and_monitor(finished):
    for cell in finished.values():
        assert [row["leads"] for row in cell["probes"]] == ["all", "all", "II,V1", "II,V1"]
        assert {row["readout"] for row in cell["probes"]} == {"per_lead", "mean"}
        assert np.isfinite([cell["monitor"][0][name] for name in ablations.MONITORED]).all()
        for row in cell["probes"]:
            assert row["gain"]["difference"] == pytest.approx(row["pretrained"][0] - row["untrained"][0])


def test_finished_cells_are_read_not_run(finished, ablation_args, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("a finished cell was run again")

    monkeypatch.setattr(ablations, "pretrain_once", refuse)
    folder = Path(ablation_args.output_dir)
    assert ablations.run_cell(ablation_args, "reference", folder / "reference") == finished["reference"]


def test_a_finished_pretraining_of_other_settings_is_refused(finished, ablation_args):
    other = dataclasses.replace(ablation_args, max_steps=3)
    with pytest.raises(UsageError, match="max_steps"):
        ablations.run_cell(other, "reference", Path(ablation_args.output_dir) / "reference")


def test_the_table_has_a_line_for_each_probe_of_each_finished_cell(finished, ablation_args):
    table = ablations.write_table(Path(ablation_args.output_dir))
    assert table.count("| reference |") == 4
    assert table.count("| signal_target |") == 4
    own, reference = (float(_cells(table, cell)[4]) for cell in ("signal_target", "reference"))
    against = [part.strip() for part in table.partition("\n")[0].strip("|").split("|")].index(
        "against reference, same seeds"
    )
    assert float(_cells(table, "signal_target")[against]) == pytest.approx(own - reference, abs=0.0016)
    assert _cells(table, "reference")[against] == "–"


def _cells(table: str, cell: str) -> list[str]:
    """The first line of a cell, without the bars."""
    line = next(line for line in table.splitlines() if line.startswith(f"| {cell} |"))
    return [part.strip() for part in line.strip("|").split("|")]


def test_every_cell_is_a_run_that_pretraining_accepts():
    from ecg_transformers.training.arguments import PretrainingArguments
    from ecg_transformers.training.plan.settings import build_config
    from ecg_transformers.training.pretraining import pretraining_settings
    from ecg_transformers.training.samples.views import build_augmentation

    for name, (config, recipe) in ablations.CELLS.items():
        args = PretrainingArguments(
            method="ecg_jepa", recipe="tiny", config_overrides=config, recipe_overrides=recipe, output_dir="unused"
        )
        settings = pretraining_settings(args)
        build_config(settings)
        assert (build_augmentation(settings.hyper) is not None) == name.endswith("noise")


def test_an_unknown_cell_is_a_usage_error():
    with pytest.raises(UsageError, match="reference"):
        ablations.AblationArguments(output_dir="unused", cells="no_such_cell").chosen_cells()
