"""`finetune --task delineation` on real records: what it learns from, how it is judged, what it leaves behind."""

import json

import numpy as np
import pandas as pd
import pytest
import transformers

from ecg_transformers.data.record import ECGRecord
from ecg_transformers.evaluation.delineation import interval_report, macro_f1, pool, score_record
from ecg_transformers.models.registry import get_method
from ecg_transformers.signal.leads import STANDARD_LEADS
from ecg_transformers.signal.waves import CLASSES, IGNORED, Wave
from ecg_transformers.training.arguments import FinetuningArguments, parse_arguments
from ecg_transformers.training.delineation.view import WavesView
from ecg_transformers.training.errors import UsageError
from ecg_transformers.training.finetuning import main

pytestmark = pytest.mark.usefixtures("own_cache")

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
INPUT = {"sampling_rate": 250, "seq_len": 750, "patch_size": 75}
SMALL = ",".join(f"{key}={value}" for key, value in {**INPUT, **SIZES}.items())


def finetune(ecg_data_dir, folder, **changes):
    given = {
        "model_name_or_path": "st_mem",
        "mode": "scratch",
        "recipe": "tiny",
        "dataset": "ludb",
        "data_dir": str(ecg_data_dir / "ludb"),
        "task": "delineation",
        "output_dir": str(folder),
        "config_overrides": SMALL,
        "leads": "II,V2",
        "max_steps": "2",
        "evaluations": "1",
        "n_boot": "50",
        "tensorboard": "false",
        **changes,
    }
    words = [part for key, value in given.items() for part in (f"--{key}", value)]
    main(parse_arguments(FinetuningArguments, "", words))


@pytest.fixture(scope="module")
def run(ecg_data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("waves") / "run"
    finetune(ecg_data_dir, folder)
    return folder


def test_the_figures_of_the_test_subjects_follow_from_the_stored_waves(run):
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    table = pd.read_parquet(run / "predictions.parquet")
    scores, pairs = [], []
    for _, rows in table.groupby("record_id"):
        waves = {True: {}, False: {}}
        for row in rows.replace({np.nan: None}).itertuples():
            wave = Wave(row.wave, row.onset_s, row.peak_s, row.offset_s)
            waves[row.seed is None].setdefault(row.lead, []).append(wave)
        found = {lead: waves[False].get(lead, []) for lead in ("II", "V2")}
        scores += score_record(waves[True], found).values()
        pairs.append((waves[True], found))
    assert macro_f1(pool(scores)) == pytest.approx(metrics["test"]["macro_f1"]["mean"])
    for name, figures in interval_report(pairs).items():
        assert metrics["test"]["intervals"][name] == pytest.approx(figures)
    assert metrics["test"]["intervals"]["QT"]["reference"] > 5
    assert set(metrics["test"]["leads"]) == {"II", "V2"}
    assert metrics["test"]["waves"]["QRS"]["onset"]["reference"] > 100
    assert metrics["data"]["splits"]["test"]["support"]["QRS"] > 500  # of all twelve leads
    assert metrics["selection_metric"] == "macro_f1"


def test_the_folder_is_a_model_with_a_card_and_leads_are_standardised_one_by_one(run):
    model = transformers.AutoModelForTokenClassification.from_pretrained(run)
    assert type(model) is get_method("st_mem").model_classes["token_classification"]
    assert list(model.config.id2label.values()) == list(CLASSES)
    assert transformers.AutoFeatureExtractor.from_pretrained(run).normalize == "per_lead"
    card = (run / "README.md").read_text(encoding="utf-8")
    assert 'pipeline("ecg-delineation"' in card
    assert "Not a medical device" in card
    assert "QRS onset" in card


def test_a_checkpoint_is_trained_further_on_a_fraction_of_the_subjects(run, ecg_data_dir, tmp_path):
    changes = {"model_name_or_path": str(run), "mode": "finetune", "label_fraction": "0.2", "leads": "II"}
    finetune(ecg_data_dir, tmp_path / "out", config_overrides="", **changes)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["label_subsets"]["0"]["records"] == 4  # of 18 subjects
    assert set(metrics["test"]["leads"]) == {"II"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mode": "linear", "model_name_or_path": "st_mem"}, "mode finetune or scratch"),
        ({"model_name_or_path": "ecg_resnet", "config_overrides": ""}, "these have one: st_mem, ecg_jepa"),
        ({"recipe_overrides": "augmentation=circular_shift"}, "moves signals in time"),
        ({"config_overrides": f"{SMALL},id2label=x"}, "id2label follows from the labels of the data"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(ecg_data_dir, tmp_path, changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        finetune(ecg_data_dir, tmp_path / "out", **changes)
    assert FinetuningArguments().selection_metric == "macro_auroc"


def test_every_crop_of_a_record_with_sparse_marks_has_some():
    """As in QTDB: fifteen minutes, of which half a minute is marked."""
    peaks = np.arange(600 * 250, 630 * 250, 200)
    samples = np.stack([peaks - 10, peaks, peaks + 10], axis=1).ravel().tolist()
    marks = {"wave_leads": ["II"] * len(samples), "wave_samples": samples, "wave_symbols": list("(N)") * len(peaks)}
    signal = np.random.default_rng(0).standard_normal((900 * 250, 2)).astype(np.float32)
    record = ECGRecord(signal, 250, ["II", "V1"], "long", annotations=marks)
    view = WavesView(get_method("st_mem").make_extractor(lead_names=["V1", "II"], normalize="per_lead"))
    prepared, generator = view.prepare(record), np.random.default_rng(0)
    seen = [view.sample(prepared, 1, generator)["labels"] for _ in range(40)]
    judged = np.array([(labels != IGNORED).any(axis=0) for labels in seen])
    assert judged.any(axis=1).all()
    assert (judged[:, 0].any(), judged[:, -1].any()) == (
        True,
        True,
    )  # from crops that end there to those that start there


def test_a_record_that_is_kept_shorter_than_a_crop_has_labels_of_its_length():
    marks = {"wave_leads": ["II"] * 3, "wave_samples": [200, 210, 220], "wave_symbols": list("(N)")}
    signal = np.random.default_rng(0).standard_normal((1000, 1)).astype(np.float32)
    record = ECGRecord(signal, 250, ["II"], "short", annotations=marks)
    extractor = get_method("st_mem").make_extractor(lead_names=["II"], normalize="per_lead", pad="keep", patch_size=75)
    for patch_size, places in ((1, 975), (75, 13)):
        view = WavesView(extractor, patch_size=patch_size)
        sample = view.sample(view.prepare(record), 1, np.random.default_rng(0))
        assert sample["input_values"].shape == (1, 975)
        assert sample["labels"].shape == (1, places)


def test_a_random_crop_and_its_labels_move_together(ecg_data_dir):
    """The bump that stands for the QRS of a made record is under the label QRS in every crop."""
    times = np.arange(5000) / 500
    peaks = np.arange(0.5, 9.6, 0.8)
    signal = sum(np.exp(-(((times - peak) / 0.012) ** 2)) for peak in peaks)[:, None] * np.linspace(0.5, 1.0, 12)
    samples = np.round(np.stack([peaks - 0.04, peaks, peaks + 0.04], axis=1) * 500).astype(int).ravel().tolist()
    marks = {"wave_leads": ["II"] * len(samples), "wave_samples": samples, "wave_symbols": list("(N)") * len(peaks)}
    record = ECGRecord(signal, 500, list(STANDARD_LEADS), "made", annotations=marks)
    view = WavesView(get_method("st_mem").make_extractor(lead_names=["V1", "II"], normalize="per_lead"))
    prepared = view.prepare(record)
    generator = np.random.default_rng(0)
    starts = set()
    for _ in range(5):
        sample = view.sample(prepared, 1, generator)
        crop, labels = sample["input_values"], sample["labels"]
        assert (labels[0] == IGNORED).all()
        judged = labels[1] != IGNORED
        high = crop[1] > 0.5 * crop[1].max()
        assert (labels[1][high & judged] == CLASSES.index("QRS")).all()
        assert high[judged].sum() > 20
        starts.add(int(np.flatnonzero(high)[0]))
    assert len(starts) > 1
