"""Sheets and page of the published checkpoints: from the table and the extractors' own lists."""

from pathlib import Path

import pytest
import torch

from ecg_transformers.cli import main
from ecg_transformers.hub.sheets import checkpoint_sheet, checkpoints_page
from ecg_transformers.models.checkpoints import CHECKPOINTS, get_checkpoint, list_checkpoints
from ecg_transformers.models.registry import get_method

PAGE = Path(__file__).resolve().parents[2] / "docs" / "checkpoints.md"
# what the tensors of the released files tell, and the table does not
FURTHER_SIZES = {"hubert-ecg-small": {"num_attention_heads": 8}, "hubert-ecg-sft-small": {"num_attention_heads": 8}}
FURTHER_SIZES["hubert-ecg-large"] = FURTHER_SIZES["hubert-ecg-sft-large"] = {"num_attention_heads": 16}
FURTHER_SIZES["merl-vit-tiny"] = {"backbone": "vit"}
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
        listed = [line.split("`")[1] for line in section.splitlines() if line.startswith("  ")]
        assert listed == [step["step"] for step in sheet["preprocessing"]]
        assert all(note in section for note in sheet["notes"])


@pytest.mark.parametrize("name", KNOWN)
def test_the_width_of_an_embedding_is_that_of_the_released_network(name):
    row = get_checkpoint(name)
    method = get_method(row.method)
    variant = row.overrides.get("variant")
    method = method if variant is None else method.with_variant(variant)
    sizes = {**method.recipe("published").config, **row.sizes, **row.overrides, **FURTHER_SIZES.get(name, {})}
    with torch.device("meta"):
        model = method.model_classes["base"](method.config_class(**sizes))
    assert model.feature_size == row.embedding_size


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
