"""Cards say what the folder holds, and their snippet runs as it stands."""

import json
import re
import subprocess
import sys

import pytest
import torch

from ecg_transformers.files import file_sha256, write_json
from ecg_transformers.hub.cards import write_card
from ecg_transformers.models.registry import get_method, list_methods

RUN = {
    "kind": "finetuning",
    "method": "st_mem",
    "dataset": {"name": "synthetic", "fingerprint": "abc"},
    "recipe": {"name": "tiny", "lr": 0.001},
    "steps": 10,
    "seeds": [0, 1],
    "final": {"loss": 0.5},
    "metrics": {"test": {"macro_auroc": {"per_seed": [0.8, 0.9], "mean": 0.85, "sd": 0.07, "ci95": [0.7, 0.95]}}},
    "versions": {"torch": "2"},
}


def folder_with(tmp_path, name, role="classification"):
    method = get_method(name)
    torch.manual_seed(0)
    method.model_classes[role](method.config_class(**method.tiny_config)).save_pretrained(tmp_path / name)
    return tmp_path / name


def card_of(folder, run):
    """The card of a folder whose training was described so."""
    write_json(folder / "run.json", run)
    return write_card(folder).read_text()


def snippet_of(folder):
    return re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL).group(1)


@pytest.mark.parametrize("name", list_methods())
def test_the_snippet_of_a_card_runs(tmp_path, name, capsys):
    exec(snippet_of(folder_with(tmp_path, name)), {"__name__": "card"})
    assert "LABEL_0" in capsys.readouterr().out
    exec(snippet_of(folder_with(tmp_path / "encoder", name, "base")), {"__name__": "card"})
    assert "torch.Size([1, " in capsys.readouterr().out


@pytest.mark.parametrize("name", [n for n in list_methods() if "token_classification" in get_method(n).model_classes])
def test_the_snippet_of_a_card_finds_waves(tmp_path, name, capsys):
    exec(snippet_of(folder_with(tmp_path, name, "token_classification")), {"__name__": "card"})
    leads = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("]")]
    assert leads[:2] == ["I", "II"]


def test_the_snippet_of_a_card_runs_as_it_stands_in_a_fresh_process(tmp_path):
    code = snippet_of(folder_with(tmp_path, "st_mem"))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "LABEL_0" in result.stdout


def test_a_card_holds_metrics_as_a_model_index(tmp_path):
    from huggingface_hub import ModelCard

    folder = folder_with(tmp_path, "st_mem")
    card_of(folder, RUN)
    card = ModelCard.load(folder / "README.md")
    result = card.data.eval_results[0]
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("macro_auroc", 0.85, "synthetic")
    assert "Not a medical device" in card.content
    assert "0.700 to 0.950" in card.content
    assert "fingerprint" in card.content


def test_a_metric_that_is_no_number_is_refused(tmp_path):
    folder = folder_with(tmp_path, "st_mem")
    bad = json.loads(json.dumps(RUN))
    bad["metrics"]["test"]["macro_auroc"]["mean"] = float("nan")
    before = (folder / "README.md").read_text()
    with pytest.raises(ValueError, match="macro_auroc"):
        card_of(folder, bad)
    assert (folder / "README.md").read_text() == before


def test_a_folder_without_a_model_gets_no_card(tmp_path):
    with pytest.raises(ValueError, match=r"config\.json"):
        write_card(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_reloaded_model_keeps_its_run_description(tmp_path):
    folder = folder_with(tmp_path, "st_mem")
    (folder / "run.json").write_text(json.dumps(RUN))
    model = get_method("st_mem").model_classes["classification"].from_pretrained(folder)
    model.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "run.json").read_text()) == RUN
    assert "macro_auroc" in (tmp_path / "again" / "README.md").read_text()


def test_a_model_trained_further_carries_no_figures_of_its_parent(tmp_path):
    folder = folder_with(tmp_path, "st_mem")
    (folder / "run.json").write_text(json.dumps(RUN))
    for target in (tmp_path / "again", folder):  # elsewhere, and over its parent
        model = get_method("st_mem").model_classes["classification"].from_pretrained(folder)
        (folder / "run.json").write_text(
            json.dumps({**RUN, "weights_sha256": file_sha256(folder / "model.safetensors")})
        )
        with torch.no_grad():
            model.classifier.weight += 1
        model.config.decision_thresholds = [0.4] * model.config.num_labels
        model.save_pretrained(target)
        card = (target / "README.md").read_text()
        assert "macro_auroc" not in card
        assert "still those that were chosen for that checkpoint" in card
        assert "Started from the checkpoint `st_mem`" in card
        assert json.loads((target / "run.json").read_text())["kind"] == "not recorded"


def test_a_card_says_how_its_weights_were_made(tmp_path):
    folder = folder_with(tmp_path, "st_mem")
    spent = {"mode": "linear", "label_fraction": 0.1, "weights_seed": 1, "records_seen": 4000, "cpu_seconds": 61.4}
    card = card_of(folder, {**RUN, **spent})
    for words in ("linear", "10%", "those of seed 1", "4,000 records", "61 CPU seconds"):
        assert words in card


@pytest.mark.parametrize(("records", "positives", "said"), [(200, 50, 0), (29, 12, 1), (200, 9, 1), (2, 1, 2)])
def test_a_test_set_too_small_to_judge_is_said(tmp_path, records, positives, said):
    folder = folder_with(tmp_path, "st_mem")
    run = json.loads(json.dumps(RUN))
    run["metrics"]["test"] |= {"n_records": records, "per_class": {"AF": {"support": positives}}}
    card = card_of(folder, run)
    assert f"| AF | {positives} |" in card
    assert len(re.findall("too few to judge", card)) == said
