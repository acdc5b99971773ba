"""A name of the table where transformers, and this package, take a folder."""

import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForSequenceClassification,
    pipeline,
)

import ecg_transformers as ecg
from ecg_transformers.cli import main
from ecg_transformers.hub.official.fetch import official_root
from ecg_transformers.models.checkpoints import list_checkpoints
from tests.support.net1d_files import published_keys, small

_spec = util.spec_from_file_location("loopback_hub", Path(__file__).with_name("loopback_hub.py"))
loopback_hub = util.module_from_spec(_spec)
sys.modules["loopback_hub"] = loopback_hub
_spec.loader.exec_module(loopback_hub)

RECORD = np.random.default_rng(0).standard_normal((5000, 12))


def founder():
    return small(num_leads=12, num_labels=150, seq_len=5000, sampling_rate=500)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ECG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def brought():
    """ECGFounder's file, small, where a user puts it."""
    folder = official_root() / "ecgfounder"
    folder.mkdir(parents=True)
    torch.save({"state_dict": published_keys(founder())}, folder / "12_lead_ECGFounder.pth")


def test_pipelines_take_a_name(brought):
    vector = pipeline("ecg-feature-extraction", model="ecgfounder")(RECORD, sampling_rate=500)
    np.testing.assert_allclose(vector, ecg.embed(RECORD, "ecgfounder", sampling_rate=500)[0], atol=1e-5)
    answers = pipeline("ecg-classification", model="ecgfounder")(RECORD, sampling_rate=500)
    assert {answer["label"] for answer in answers} == set(ecg.get_checkpoint("ecgfounder").label_names)
    model, extractor = ecg.load_checkpoint("ecgfounder")
    with torch.no_grad():
        expected = model(**extractor(RECORD, sampling_rate=500, return_tensors="pt")).logits.sigmoid().max()
    assert answers[0]["score"] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("as_given", [str, Path], ids=["str", "Path"])
def test_pipelines_take_a_file_of_the_authors(tmp_path, as_given):
    file = tmp_path / "from_their_page.pth"
    torch.save({"state_dict": published_keys(founder())}, file)
    vector = pipeline("ecg-feature-extraction", model=as_given(file))(RECORD, sampling_rate=500)
    np.testing.assert_allclose(vector, ecg.embed(RECORD, file, sampling_rate=500)[0], atol=1e-5)
    answers = pipeline("ecg-classification", model=as_given(file))(RECORD, sampling_rate=500)
    model, extractor = ecg.load_checkpoint(file)
    with torch.no_grad():
        expected = model(**extractor(RECORD, sampling_rate=500, return_tensors="pt")).logits.sigmoid()[0]
    expected = {model.config.id2label[index]: float(score) for index, score in enumerate(expected)}
    assert {answer["label"]: answer["score"] for answer in answers} == pytest.approx(expected, abs=1e-6)


def test_a_file_that_is_wrong_is_told_alike_by_pipelines_and_by_load_checkpoint(tmp_path):
    cut, other, text = (tmp_path / name for name in ("cut.pth", "other.pt", "notes.txt"))
    torch.save({"state_dict": published_keys(founder())}, cut)
    cut.write_bytes(cut.read_bytes()[:-1000])
    torch.save({"weight": torch.zeros(3)}, other)
    text.write_text("no checkpoint")
    for file in (cut, other, text, tmp_path / "missing.ckpt"):
        said = set()
        for load in (
            ecg.load_checkpoint,
            lambda name: pipeline("ecg-classification", model=name),
            lambda name: pipeline("ecg-feature-extraction", model=name),
        ):
            with pytest.raises(ValueError, match=file.name) as caught:
                load(str(file))
            said.add(str(caught.value))
        assert len(said) == 1


def test_auto_classes_take_a_name(brought):
    expected = founder()
    model = AutoModelForSequenceClassification.from_pretrained("ecgfounder")
    x = torch.randn(2, 12, 5000)
    assert torch.equal(model.eval()(x).logits, expected(x).logits)
    assert type(AutoModel.from_pretrained("ecgfounder")) is type(expected.base_model)
    assert AutoConfig.from_pretrained("ecgfounder").num_labels == 150
    assert AutoFeatureExtractor.from_pretrained("ecgfounder").sampling_rate == 500


def test_a_folder_of_that_name_comes_first_in_transformers_and_is_asked_about_here(brought, tmp_path, monkeypatch):
    method = ecg.get_method("weimann_jepa")
    method.model_classes["base"](method.config_class(**method.tiny_config)).save_pretrained(tmp_path / "ecgfounder")
    monkeypatch.chdir(tmp_path)
    assert AutoConfig.from_pretrained("ecgfounder").model_type == "weimann_jepa"
    with pytest.raises(ValueError, match=r"write \./ecgfounder for the folder"):
        ecg.load_checkpoint("ecgfounder")
    assert ecg.load_checkpoint("./ecgfounder")[0].config.model_type == "weimann_jepa"


def test_what_is_not_there_is_told_by_transformers_too():
    for load in (AutoModel.from_pretrained, lambda name: pipeline("ecg-feature-extraction", model=name)):
        with pytest.raises(ValueError, match=r"best_valid.*zenodo.*official/ked"):
            load("ked")


def test_predict_takes_a_published_classifier_and_refuses_an_encoder(brought, tmp_path, capsys):
    np.savez(
        tmp_path / "a.npz", signal=RECORD, sampling_rate=500, lead_names=ecg.get_method("st_mem").preset()["lead_names"]
    )
    assert main(["predict", str(tmp_path / "a.npz"), "--model", "ecgfounder", "--top_k", "1"]) == 0
    assert '"label"' in capsys.readouterr().out
    assert main(["predict", str(tmp_path / "a.npz"), "--model", "ecg-fm"]) == 2
    assert "without a classifier" in capsys.readouterr().err


SCRIPT = """
{imports}
import numpy as np
record = np.random.default_rng(0).standard_normal((5000, 12))
print(pipeline("ecg-classification", model="ecgfounder")(record, sampling_rate=500, top_k=1)[0]["label"])
"""


def test_a_name_is_fetched_by_a_pipeline_whichever_import_comes_first(tmp_path):
    file = tmp_path / "file.pth"
    torch.save({"state_dict": published_keys(founder())}, file)
    source = ecg.get_checkpoint("ecgfounder").source
    blob = loopback_hub.Blob(file.read_bytes(), False)
    printed = []
    orders = ["from transformers import pipeline", "import ecg_transformers"]
    with loopback_hub.LoopbackHub() as server:
        repository = server.repos["models", source.repository] = loopback_hub.Repo("models", source.repository)
        repository.commits[source.revision] = {source.file: blob}
        repository.refs["main"] = source.revision
        env = {**os.environ, **server.env(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        for imports in (orders, orders[::-1]):
            script = SCRIPT.format(imports="\n".join(imports))
            result = subprocess.run(
                [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=280, check=False
            )
            assert result.returncode == 0, result.stderr[-2000:]
            printed.append(result.stdout.strip())
        assert len([line for line in server.log if line.startswith("GET") and source.file in line]) == 1
    assert printed[0] == printed[1] in ecg.get_checkpoint("ecgfounder").label_names


def test_no_name_of_the_table_reads_as_a_repository():
    assert all("/" not in name for name in list_checkpoints())
