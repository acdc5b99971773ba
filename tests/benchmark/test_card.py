"""The card command on synthetic records: what it measures, what it keeps, and what the card says."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecg_transformers.benchmark import card as card_command
from ecg_transformers.training.errors import UsageError

SMALL = (
    "hidden_size=16,num_hidden_layers=1,num_attention_heads=1,attention_head_size=16,intermediate_size=16,"
    "decoder_hidden_size=16,decoder_num_hidden_layers=1,decoder_intermediate_size=16,decoder_attention_head_size=16"
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any], str]:
    """Arguments, results and card of one small run."""
    args = card_command.CardArguments(
        method="st_mem",
        dataset="synthetic",
        dataset_options="num_records=80,seed=3",
        output_dir=str(tmp_path_factory.mktemp("card") / "out"),
        seeds="0,1",
        fractions="1.0,0.5",
        finetune_fractions="1.0",
        config_overrides=SMALL,
        recipe_overrides="batch_size=8",
        max_steps=2,
        finetune_steps=2,
        num_crops=2,
        n_boot=20,
    )
    card = card_command.make_card(args)
    return args, json.loads((Path(args.output_dir) / "results.json").read_text()), card.read_text()


def test_every_arm_is_measured_with_every_seed(measured: tuple[Any, dict[str, Any], str]) -> None:
    cells = {(cell["arm"], cell["readout"], cell["fraction"]): cell for cell in measured[1]["cells"]}
    readouts = ("per_lead", "per_lead+amplitude", "pooler")
    probes = {
        (arm, readout, fraction) for arm in ("pretrained", "random") for readout in readouts for fraction in (1, 0.5)
    }
    assert set(cells) == probes | {("finetune", "", 1.0), ("scratch", "", 1.0)}
    assert all(cell["seeds"] == [0, 1] and len(cell["per_seed"]) == 2 for cell in cells.values())


def test_all_arms_see_the_same_labelled_records(measured: tuple[Any, dict[str, Any], str]) -> None:
    subsets: dict[Any, set[str]] = {}
    for cell in measured[1]["cells"]:
        for seed, facts in cell["facts"].items():
            subsets.setdefault((cell["fraction"], seed), set()).add(facts["label_subset_sha256"])
    assert all(len(found) == 1 for found in subsets.values())
    assert subsets[0.5, "0"] != subsets[0.5, "1"]


def test_differences_are_those_of_the_cells(measured: tuple[Any, dict[str, Any], str]) -> None:
    cells = {(cell["arm"], cell["readout"], cell["fraction"]): cell for cell in measured[1]["cells"]}
    for entry in measured[1]["differences"]:
        a, b = (cells[(*entry[side], entry["fraction"])] for side in "ab")
        assert entry["difference"] == pytest.approx(a["mean"] - b["mean"])
        np.testing.assert_allclose(entry["per_seed"], np.subtract(a["per_seed"], b["per_seed"]))
        assert entry["ci95"][0] <= entry["difference"] + 0.05
        assert entry["ci95"][1] >= entry["difference"] - 0.05
    named = {(entry["a"][0], entry["b"][0]) for entry in measured[1]["differences"]}
    assert {("pretrained", "random"), ("finetune", "scratch"), ("finetune", "pretrained")} <= named


def test_the_card_shows_the_measured_figures_and_no_path_of_this_machine(
    measured: tuple[Any, dict[str, Any], str],
) -> None:
    args, results, card = measured
    for cell in results["cells"]:
        assert f"| {cell['mean']:.3f} |" in card
        seeds = " | ".join(f"{value:.3f}" for value in cell["per_seed"])
        assert f"| {cell['ci95'][0]:.3f} | {cell['ci95'][1]:.3f} | {seeds} |" in card
    assert results["data"]["splits"]["test"]["fingerprint"] in card
    assert "Not a medical device" in card
    assert "--method st_mem" in card
    assert "--max_steps 2" in card
    assert args.output_dir not in card
    assert not re.search(r"(?<![\w.:/])/(tmp|home|root|work|usr)/", card + json.dumps(results))


def test_a_second_run_repeats_nothing_and_gives_the_same_card(
    measured: tuple[Any, dict[str, Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def repeated(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished stage was run again")

    monkeypatch.setattr(card_command, "pretrain", repeated)
    monkeypatch.setattr(card_command, "finetune", repeated)
    monkeypatch.setattr("ecg_transformers.benchmark.probes.read_batch", repeated)
    monkeypatch.setattr("ecg_transformers.benchmark.probes.LinearProbe", repeated)
    assert card_command.make_card(measured[0]).read_text() == measured[2]


def test_a_pretraining_of_another_seed_or_an_unfinished_one_is_refused(
    measured: tuple[Any, dict[str, Any], str], tmp_path: Path
) -> None:
    args = measured[0]
    with pytest.raises(UsageError, match="seed 1, but 0"):
        card_command.check_pretrained(args, Path(args.output_dir) / "pretrained" / "seed-1", 0)
    with pytest.raises(UsageError, match="no finished pre-training"):
        card_command.check_pretrained(args, tmp_path, 0)


def test_predictions_about_other_records_are_refused(measured: tuple[Any, dict[str, Any], str]) -> None:
    from ecg_transformers.training.arguments import DataArguments
    from ecg_transformers.training.samples.splits import load_split

    path = next(Path(measured[0].output_dir).glob("classifiers/*/predictions.parquet"))
    test = load_split(DataArguments(dataset_options="num_records=80,seed=3"), "test", labelled=True)
    assert next(iter(card_command.read_predictions(path, test).values())).shape == (len(test), len(test.label_names))
    with pytest.raises(UsageError, match="other records"):
        card_command.read_predictions(path, test.select(range(3)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"readout": "poler"}, "There is no readout 'poler'"),
        ({"fractions": "0,1"}, "label fraction"),
        ({"method": "st_men"}, "did you mean 'st_mem'"),
        ({"output_dir": ""}, "--output_dir is missing"),
    ],
)
def test_wrong_arguments_are_said_in_a_sentence(tmp_path: Path, change: dict[str, str], message: str) -> None:
    given = {"method": "st_mem", "output_dir": str(tmp_path / "out"), **change}
    with pytest.raises(UsageError, match=message):
        card_command.make_card(card_command.CardArguments(**given))
    assert not (tmp_path / "out").exists()
