"""Sheets and page of the published checkpoints: from the table and the extractors' own lists."""

import re
from pathlib import Path

import pytest
import torch

from ecg_transformers.cli import main
from ecg_transformers.hub.sheets import checkpoint_sheet, checkpoints_page
from ecg_transformers.models.checkpoints import CHECKPOINTS, get_checkpoint, list_checkpoints
from ecg_transformers.models.registry import get_method

PAGE = Path(__file__).resolve().parents[2] / "docs" / "checkpoints.md"
KNOWN = [row.name for row in CHECKPOINTS.values() if row.embedding_size is not None]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ECG_CACHE_DIR", str(tmp_path / "cache"))


def test_the_page_in_docs_is_the_table(capsys):
    assert main(["checkpoints", "--page"]) == 0
    assert capsys.readouterr().out == PAGE.read_text(encoding="utf-8") == checkpoints_page()


def test_every_checkpoint_has_a_section_with_its_licence_and_every_step():
    sections = dict(zip(list_checkpoints(), checkpoints_page().split("\n## ")[1:], strict=True))
    for name, section in sections.items():
        sheet = checkpoint_sheet(name)
        assert f"(`{name}`)" in section.splitlines()[0]
        assert f"Licence of the weights: {sheet['licence']}." in section
        origin = re.search(r"- Preprocessing: that of `(.+)`\.", section)
        steps = sections[origin[1]] if origin else section
        listed = [line.split("`")[1] for line in steps.splitlines() if line.startswith("  ")]
        assert listed == [step["step"] for step in sheet["preprocessing"]]
        of_others = [sections[other] for other in re.findall(r"of `(\S+)` holds here", section)]
        assert all(any(note in text for text in (section, *of_others)) for note in sheet["notes"])


def test_what_is_long_stands_once_on_the_page():
    notes = [line for line in checkpoints_page().splitlines() if len(line) > 200 and not line.startswith("- Network")]
    assert len(notes) == len(set(notes))


def test_the_released_s4_encoders_are_told_by_what_is_theirs():
    for name in ("ecg-cpc", "ecg-s4-jepa"):  # the method's own texts are of its LSTM form, which is fed in another way
        sheet = checkpoint_sheet(name)
        assert "2605.12241" in sheet["paper"]
        assert "resampled each alone" in sheet["notes"][-1]
        assert "Fourier" not in str(sheet)


def released_network(name):
    """Without memory for its weights."""
    row = get_checkpoint(name)
    method = get_method(row.method)
    with torch.device("meta"):
        return method.model_classes["base"](method.config_class(**row.released_config))


@pytest.mark.parametrize("name", KNOWN)
def test_the_width_of_an_embedding_is_that_of_the_released_network(name):
    assert released_network(name).feature_size == get_checkpoint(name).embedding_size


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("hubert-ecg-small", 30_209_664),
        ("hubert-ecg-base", 92_798_848),
        ("hubert-ecg-large", 187_644_736),
        ("ecg-fm", 90_373_248),
        ("d-beta", 63_203_712),
        ("ked", 7_865_984),
        ("merl-resnet18", 3_853_962 - 5_130),  # of a layer that the authors never train
        ("merl-vit-tiny", 5_473_152),
        ("xecg", 57_021_472 - 1_024),  # the mask token of pre-training
        ("ecg-cpc", 808_960 + 2_123_776),
        ("ecg-s4-jepa", 808_960 + 2_140_160),
    ],
)
def test_released_networks_have_the_published_number_of_parameters(name, count):
    assert released_network(name).num_parameters() == count


def test_a_sheet_says_what_lies_here(tmp_path):
    assert checkpoint_sheet("st-mem")["brought_file"] is None
    sheet = checkpoint_sheet("ked")
    Path(sheet["place"]).mkdir(parents=True)
    (Path(sheet["place"]) / sheet["file"]).write_bytes(b"")
    assert checkpoint_sheet("ked")["brought_file"] == str(Path(sheet["place"]) / sheet["file"])


def test_gated_and_brought_files_are_told_apart():
    assert "HF_TOKEN" in checkpoint_sheet("deepecg-ssl")["how_to_get"]
    assert "zenodo" in checkpoint_sheet("ked")["how_to_get"]
    assert checkpoint_sheet("ecgfounder")["revision"] in checkpoint_sheet("ecgfounder")["how_to_get"]


def test_people_get_sentences(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["checkpoints", "xecg"]) == 0
    printed = capsys.readouterr().out
    assert "1. select_leads" in printed
    assert "MIT" in printed
    assert "1,024 numbers" in printed
