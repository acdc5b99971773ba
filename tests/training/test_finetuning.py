import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.faults import Event, watched
from support.small_runs import exit_code, in_child, overrides, run_files, small_finetuning, small_pretraining

from ecg_transformers.models.registry import get_method, list_methods
from ecg_transformers.training import finetuning
from ecg_transformers.training.classifier import job
from ecg_transformers.training.errors import FrozenParameterMoved, Interrupted, UsageError, run_command
from ecg_transformers.training.finetuning import finetune, main
from ecg_transformers.training.pretraining import pretrain
from ecg_transformers.training.report.log import read_log


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained") / "model"
    pretrain(small_pretraining(folder, max_steps=4))
    return folder


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory, pretrained: Path) -> Path:
    """Two seeds, uninterrupted."""
    folder = tmp_path_factory.mktemp("finetuned") / "run"
    finetune(small_finetuning(folder, pretrained, seeds="0,3"))
    return folder


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory, pretrained: Path) -> Path:
    """A linear probe."""
    folder = tmp_path_factory.mktemp("probed") / "run"
    finetune(small_finetuning(folder, pretrained, mode="linear"))
    return folder


def predictions(folder: Path) -> Any:
    import pandas

    return pandas.read_parquet(folder / "predictions.parquet")


def metrics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "metrics.json").read_text())


def scores(frame: Any) -> np.ndarray:
    return frame[[name for name in frame.columns if name.startswith("y_score_")]].to_numpy()


def probabilities_of_saved_model(
    folder: Path, record_ids: list[str], num_crops: int = 2, **arguments: Any
) -> np.ndarray:
    """The saved model on the test records, as a user would run it: load, extract, forward."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification

    from ecg_transformers.data.loading import RecordTable, load_ecg_dataset

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    table = RecordTable(load_ecg_dataset("synthetic", split="test", num_records=60))
    records = [table[table.record_ids.index(name)] for name in record_ids]
    inputs = extractor(records, num_crops=num_crops, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).probabilities.numpy()


def test_the_outputs_are_those_that_are_promised(finetuned: Path) -> None:
    result, frame = metrics(finetuned), predictions(finetuned)
    for metric in ("macro_auroc", "macro_auprc", "macro_f1"):
        figures = result["test"][metric]
        assert len(figures["per_seed"]) == 2
        assert figures["mean"] == pytest.approx(np.mean(figures["per_seed"]))
        assert figures["ci95"][0] <= figures["mean"] <= figures["ci95"][1]
    classes = result["data"]["classes"]
    assert list(frame.columns[:3]) == ["record_id", "patient_id", "seed"]
    assert {f"y_true_{name}" for name in classes} | {f"y_score_{name}" for name in classes} <= set(frame.columns)
    assert len(frame) == 2 * result["test"]["n_records"]
    assert {name: entry["support"] for name, entry in result["test"]["per_class"].items()} == {
        name: int(frame[frame.seed == 0][f"y_true_{name}"].sum()) for name in classes
    }
    assert [row["step"] for row in read_log(finetuned / "train_log.jsonl")] == list(range(1, 17))
    assert result["data"]["versions"]["torch"]


def test_the_metrics_can_be_computed_again_from_the_predictions(finetuned: Path) -> None:
    from ecg_transformers.evaluation.metrics import macro_auroc

    frame, result = predictions(finetuned), metrics(finetuned)
    for seed, expected in zip((0, 3), result["test"]["macro_auroc"]["per_seed"], strict=True):
        rows = frame[frame.seed == seed]
        truth = rows[[name for name in frame.columns if name.startswith("y_true_")]].to_numpy()
        assert macro_auroc(truth, scores(rows).astype(np.float64))["value"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("mode", ["finetune", "linear", "attention", "scratch"])
def test_the_saved_model_gives_the_stored_predictions(tmp_path: Path, pretrained: Path, mode: str) -> None:
    finetune(small_finetuning(tmp_path, pretrained, mode=mode, max_steps=3))
    frame = predictions(tmp_path)
    np.testing.assert_allclose(probabilities_of_saved_model(tmp_path, list(frame.record_id)), scores(frame), atol=1e-5)
    assert metrics(tmp_path)["mode"] == mode


def test_new_weights_owe_nothing_to_the_checkpoint_that_only_lent_its_sizes(tmp_path: Path, pretrained: Path) -> None:
    converted = tmp_path / "converted"
    shutil.copytree(pretrained, converted)
    config = json.loads((converted / "config.json").read_text())
    config.update(converted_from="full.pth", weights_licence="CC BY-NC 4.0")
    (converted / "config.json").write_text(json.dumps(config))
    kept = {}
    for mode in ("finetune", "scratch"):
        finetune(small_finetuning(tmp_path / mode, converted, mode=mode, max_steps=1))
        config = json.loads((tmp_path / mode / "config.json").read_text())
        kept[mode] = config.get("weights_licence"), config.get("converted_from")
    assert kept == {"finetune": ("CC BY-NC 4.0", "full.pth"), "scratch": (None, None)}


def test_chosen_leads_are_what_the_saved_model_sees(tmp_path: Path, pretrained: Path) -> None:
    finetune(small_finetuning(tmp_path, pretrained, leads="V2,I", max_steps=3))
    frame = predictions(tmp_path)
    assert metrics(tmp_path)["leads"] == ["V2", "I"]
    np.testing.assert_allclose(probabilities_of_saved_model(tmp_path, list(frame.record_id)), scores(frame), atol=1e-5)


@pytest.mark.parametrize("mode", ["linear", "attention"])
def test_a_frozen_encoder_comes_out_as_it_went_in(tmp_path: Path, pretrained: Path, mode: str) -> None:
    from safetensors.torch import load_file

    finetune(small_finetuning(tmp_path, pretrained, mode=mode, max_steps=3))
    before, after = load_file(pretrained / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    encoder = [name for name in after if name.startswith("st_mem.")]
    assert encoder
    assert all((before[name] == after[name]).all() for name in encoder)


def test_a_frozen_encoder_that_moves_is_an_error(tmp_path: Path, pretrained: Path, monkeypatch) -> None:
    original = finetuning.train_head_only

    def careless(model: Any) -> None:
        original(model)
        next(model.base_model.parameters()).data.add_(1e-3)

    monkeypatch.setattr(finetuning, "train_head_only", careless)
    with pytest.raises(FrozenParameterMoved, match="st_mem"):
        finetune(small_finetuning(tmp_path, pretrained, mode="attention", max_steps=2))


def test_no_test_label_is_read_before_the_selection_is_written(tmp_path: Path, pretrained: Path, monkeypatch) -> None:
    original, loaded = finetuning.load_split, []

    def noted(args: Any, split: str, **options: Any) -> Any:
        written = tmp_path / "selection.json"
        if options.get("labelled"):  # the signals of test records are looked at before: a bad one must not end the run
            loaded.append((split, set(json.loads(written.read_text())["seeds"]) if written.exists() else None))
        return original(args, split, **options)

    for module in (job, finetuning):
        monkeypatch.setattr(module, "load_split", noted)
    finetune(small_finetuning(tmp_path, pretrained, seeds="0,1", max_steps=2))
    assert loaded == [("train", None), ("validation", None), ("test", {"0", "1"})]


@pytest.mark.parametrize("stop", [1, 7, 8, 9, 13])
def test_resuming_is_exact_within_and_between_seeds(
    tmp_path: Path, pretrained: Path, finetuned: Path, stop: int
) -> None:
    """A seed takes eight steps: within the first, at its end, and within the second."""
    run = tmp_path / "run"
    interrupt(run, pretrained, stop, tmp_path / "log")
    finetune(small_finetuning(run, pretrained, seeds="0,3", resume_from_checkpoint="latest"))
    assert run_files(run) == run_files(finetuned)
    assert predictions(run).equals(predictions(finetuned))


def interrupt(run: Path, pretrained: Path, stop: int, log: Path) -> None:
    """End a run after a step: by its own argument, which counts the steps of a seed, or in the second seed by force."""
    if stop < 8:
        with pytest.raises(Interrupted):
            finetune(small_finetuning(run, pretrained, seeds="0,3", stop_after_step=stop))
    else:
        exit_code(in_child(lambda: stop_at(run, pretrained, stop), log))


def stop_at(run: Path, pretrained: Path, stop: int) -> None:
    """Die at once after the checkpoint of a step."""

    def die(event: Event) -> None:
        if (run / "checkpoints" / f"step-{stop}").exists():
            os._exit(9)

    with watched(die):
        finetune(small_finetuning(run, pretrained, seeds="0,3", save_steps=1))


@pytest.mark.slow
def test_kill_9_at_random_moments_loses_nothing(tmp_path: Path, pretrained: Path, finetuned: Path) -> None:
    run = tmp_path / "run"
    for delay in (1.0, 0.3, 1.6):
        args = small_finetuning(run, pretrained, seeds="0,3", save_steps=1, resume_from_checkpoint="latest")
        pid = in_child(lambda args=args: finetune(args), tmp_path / "log")
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
        exit_code(pid)
    finetune(small_finetuning(run, pretrained, seeds="0,3", resume_from_checkpoint="latest"))
    assert run_files(run) == run_files(finetuned)
    assert predictions(run).equals(predictions(finetuned))


@pytest.mark.parametrize("changes", [{"label_fraction": 0.5}, {"num_crops": 1}, {"mode": "attention"}])
def test_a_finished_seed_of_another_run_is_refused(
    tmp_path: Path, pretrained: Path, probed: Path, changes: dict[str, Any]
) -> None:
    shutil.copytree(probed, tmp_path / "run")
    settings = {"mode": "linear", **changes, "resume_from_checkpoint": "latest"}
    with pytest.raises(UsageError, match=rf"seed-0 belongs to another run.*{next(iter(changes))}"):
        finetune(small_finetuning(tmp_path / "run", pretrained, **settings))
    assert metrics(tmp_path / "run") == metrics(probed)


def test_a_stop_request_ends_a_probe_between_its_parts(
    tmp_path: Path, pretrained: Path, probed: Path, monkeypatch
) -> None:
    original = finetuning.fit_linear_probe

    def signalled(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments)

    monkeypatch.setattr(finetuning, "fit_linear_probe", signalled)
    with pytest.raises(Interrupted) as caught:
        finetune(small_finetuning(tmp_path, pretrained, mode="linear"))
    monkeypatch.undo()
    assert caught.value.exit_code == 130
    finetune(small_finetuning(tmp_path, pretrained, mode="linear", resume_from_checkpoint="latest"))
    assert run_files(tmp_path) == run_files(probed)


def test_a_stop_request_ends_the_final_evaluation(tmp_path: Path, probed: Path, pretrained: Path, monkeypatch) -> None:
    shutil.copytree(probed, tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    original = job.load_split

    def signalled(args: Any, split: str, **options: Any) -> Any:
        if split == "test" and options.get("labelled"):  # all is trained, the answers are compared
            os.kill(os.getpid(), signal.SIGTERM)
        return original(args, split, **options)

    args = small_finetuning(tmp_path / "run", pretrained, mode="linear", resume_from_checkpoint="latest")
    monkeypatch.setattr(job, "load_split", signalled)
    with pytest.raises(Interrupted) as caught:
        finetune(args)
    monkeypatch.undo()
    assert caught.value.exit_code == 143
    assert not (tmp_path / "run" / "metrics.json").exists()
    finetune(args)
    assert metrics(tmp_path / "run")["test"] == metrics(probed)["test"]


def test_a_test_set_too_small_to_judge_is_told_beside_its_figure(tmp_path: Path, pretrained: Path, capsys) -> None:
    main(small_finetuning(tmp_path, pretrained, mode="linear"))
    printed = capsys.readouterr()
    assert "test macro AUROC" in printed.out
    assert "too few to judge a model" in printed.err


def test_label_subsets_are_nested_and_named(tmp_path: Path, pretrained: Path) -> None:
    chosen = {}
    for fraction in (0.25, 0.5):
        finetune(small_finetuning(tmp_path / str(fraction), pretrained, mode="linear", label_fraction=fraction))
        subset = metrics(tmp_path / str(fraction))["label_subsets"]["0"]
        chosen[fraction] = set(subset["record_ids"])
        assert subset["records"] == len(chosen[fraction])
        assert len(subset["sha256"]) == 64
    assert chosen[0.25] < chosen[0.5]


@pytest.mark.parametrize(
    "method", [name for name in list_methods() if "classification" in get_method(name).model_classes]
)
def test_every_method_trains_a_classifier_from_scratch(tmp_path: Path, method: str) -> None:
    config = overrides(dict(get_method(method).tiny_config))
    recipe = "tiny" if "tiny" in get_method(method).recipes else "published"
    finetune(small_finetuning(tmp_path, method, mode="scratch", config_overrides=config, recipe=recipe, max_steps=2))
    assert 0 <= metrics(tmp_path)["test"]["macro_auroc"]["mean"] <= 1


def test_a_method_whose_input_are_beats_takes_all_modes(tmp_path: Path) -> None:
    """The only view whose samples differ in length."""
    (method,) = [name for name in list_methods() if get_method(name).view == "beats"]
    pretrain(small_pretraining(tmp_path / "first", method, max_steps=2))
    second = get_method(method).stages[-1]
    pretrain(
        small_pretraining(
            tmp_path / "second", method, stage=second, model_name_or_path=str(tmp_path / "first"), max_steps=2
        )
    )
    for mode in ("finetune", "linear"):
        finetune(small_finetuning(tmp_path / mode, tmp_path / "second", mode=mode, max_steps=2))
        assert len(predictions(tmp_path / mode))


def test_published_folds_are_the_parts_of_a_run_and_a_leak_of_a_patient_is_refused(
    tmp_path: Path, pretrained: Path, capsys
) -> None:
    """The highest fold is the test part, the next one validation, unless named; two records are one patient's here."""
    names = [f"synthetic-0-{number:07d}" for number in range(24)]

    def folds(name: str, of: Callable[[int], int]) -> str:
        rows = [f"{record},{of(number)}" for number, record in enumerate(names)]
        (tmp_path / name).write_text("\n".join(["record_id,fold", *rows]) + "\n")
        return str(tmp_path / name)

    small = {"dataset_options": "num_records=24,records_per_patient=2", "mode": "linear", "n_boot": 5, "num_crops": 1}
    whole = {"folds": folds("by_patient.csv", lambda number: number // 2 % 4), **small}
    finetune(small_finetuning(tmp_path / "out", pretrained, **whole))
    assert sorted(predictions(tmp_path / "out")["record_id"]) == [names[n] for n in range(24) if n // 2 % 4 == 3]
    trained = json.loads((tmp_path / "out" / "run.json").read_text())
    assert trained["arguments"]["folds"].endswith("by_patient.csv")
    finetune(small_finetuning(tmp_path / "other", pretrained, test_folds="0", validation_folds="1,2", **whole))
    assert sorted(predictions(tmp_path / "other")["record_id"]) == [names[n] for n in range(24) if n // 2 % 4 == 0]
    leaking = small_finetuning(
        tmp_path / "leak", pretrained, folds=folds("leak.csv", lambda number: number % 4), **small
    )
    assert run_command(lambda: finetune(leaking)) == 2
    message = capsys.readouterr().err
    assert "leak.csv" in message
    assert "6 patients are in more than one part" in message
    assert not (tmp_path / "leak").exists()


WRONG = {
    "no such model": ({"model_name_or_path": "/nowhere/model"}, "no model folder /nowhere/model"),
    "method without weights": ({"model_name_or_path": "st_mem"}, "needs a pre-trained model"),
    "no such mode": ({"mode": "finetuned"}, "did you mean 'finetune'"),
    "no such lead": ({"leads": "I,V9"}, "V9"),
    "no such task": ({"task": "superclas"}, "superclas"),
    "fraction of none": ({"label_fraction": 0.0}, "label_fraction"),
    "seed twice": ({"seeds": "1,1"}, "none twice"),
    "seed of letters": ({"seeds": "a"}, "whole numbers"),
    "unknown field": ({"config_overrides": "head_nrom=none"}, "did you mean 'head_norm'"),
    "linear attention": ({"mode": "linear", "readout": "attention"}, "no attention readout"),
    "some leads by lead": ({"leads": "I,V2", "readout": "per_lead"}, "per_lead needs all"),
    "names of labels": ({"config_overrides": "id2label=x"}, "id2label follows from the labels"),
    "changed size": ({"config_overrides": "hidden_size=64"}, "other shapes"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_get_one_sentence_and_leave_nothing(
    tmp_path: Path, pretrained: Path, capsys, case: str
) -> None:
    changes, expected = WRONG[case]
    source = changes.pop("model_name_or_path", pretrained) if "model_name_or_path" in changes else pretrained
    args = small_finetuning(tmp_path / "out", source, **changes)
    assert run_command(lambda: finetune(args)) == 2
    (message,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert expected in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", ["finetune", "linear", "scratch"])
def test_crops_that_the_network_cannot_read_are_one_sentence(tmp_path: Path, pretrained: Path, mode: str) -> None:
    args = small_finetuning(tmp_path / "run", pretrained, mode=mode, preprocessing_overrides="seq_len=301")
    with pytest.raises(UsageError, match=r"does not read crops of seq_len=301, the config is for \d+: .*multiple"):
        finetune(args)


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no config\.json"):
        finetune(small_finetuning(tmp_path / "out", tmp_path))


@pytest.mark.parametrize(("written", "meant"), [("{}/modl", "{}/model"), ("ecgfoundr", "ecgfounder")])
def test_a_mistyped_model_is_told_with_the_nearest_one(
    pretrained: Path, tmp_path: Path, written: str, meant: str
) -> None:
    folder = pretrained.parent
    with pytest.raises(UsageError, match=f"no model folder .*; did you mean {meant.format(folder)}?"):
        finetune(small_finetuning(tmp_path / "out", written.format(folder)))
