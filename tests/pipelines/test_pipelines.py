"""Both pipelines, on every kind of input and over the registry."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import pipeline

import ecg_transformers as ecg
from ecg_transformers.cli import main
from ecg_transformers.data.building.build import build_corpus
from ecg_transformers.models.registry import get_method, list_methods

LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]


@pytest.fixture(scope="module")
def record():
    return ecg.load_ecg_dataset("synthetic", num_records=4, split="train", seed=3)[0]


def checkpoint(folder, name, **options):
    method = get_method(name)
    torch.manual_seed(0)
    names = {0: "normal", 1: "Vorhofflimmern ä", 2: "other"}
    config = method.config_class(**method.tiny_config, id2label=names, **options)
    method.model_classes["classification"](config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def st_mem(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("mödel with spaces"), "st_mem")


@pytest.fixture(scope="module")
def classify(st_mem):
    return pipeline("ecg-classification", model=st_mem)


def array(seconds=4.0, rate=100, seed=0, leads=12):
    return np.random.default_rng(seed).standard_normal((int(seconds * rate), leads)) * 0.3


def same(first, second):
    a, b = ({entry["label"]: entry["score"] for entry in result} for result in (first, second))
    assert a.keys() == b.keys()
    assert all(abs(a[key] - b[key]) < 1e-5 for key in a)


def test_predict_answers_for_every_record_of_a_prepared_corpus(tmp_path, st_mem, classify, capsys):
    build_corpus("synthetic", None, tmp_path / "prepared", num_records=12, records_per_shard=4)
    assert main(["predict", str(tmp_path / "prepared"), "--model", st_mem, "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    parts = ecg.load_ecg_dataset("synthetic", num_records=12, cache_dir=tmp_path)
    rows = [row for name in ("train", "validation", "test") for row in parts[name]]
    assert [answer["file"] for answer in answers] == [row["record_id"] for row in rows]
    for answer, row in zip(answers, rows, strict=True):
        same(answer["predictions"], classify(row))


@pytest.mark.parametrize("name", list_methods())
def test_both_tasks_answer_for_every_method(tmp_path, name, record):
    model = checkpoint(tmp_path, name)
    scores = pipeline("ecg-classification", model=model)(record)
    assert sorted(entry["label"] for entry in scores) == ["Vorhofflimmern ä", "normal", "other"]
    assert abs(sum(entry["score"] for entry in scores) - 1) < 1e-5
    feature = pipeline("ecg-feature-extraction", model=model)(record)
    assert feature.ndim == 1
    assert np.isfinite(feature).all()


def test_a_file_an_array_a_row_and_a_record_give_the_same(tmp_path, classify, record):
    loaded = ecg.ECGRecord.from_row(record)
    np.savez(tmp_path / "a record.npz", signal=loaded.signal, sampling_rate=loaded.sampling_rate, lead_names=LEADS)
    plain = classify(loaded.signal, sampling_rate=loaded.sampling_rate, lead_names=list(loaded.lead_names))
    same(classify(record), plain)
    same(classify(loaded), plain)
    same(classify({"signal": loaded.signal, "sampling_rate": loaded.sampling_rate, "lead_names": LEADS}), plain)
    same(classify(str(tmp_path / "a record.npz")), plain)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_list_of_lengths_and_rates_equals_one_by_one(classify, batch_size):
    items = [
        {"signal": array(4, 100, 0), "sampling_rate": 100},
        {"signal": array(60, 100, 1), "sampling_rate": 100},
        {"signal": array(5, 500, 2), "sampling_rate": 500, "lead_names": LEADS},
        {"signal": array(1.2, 100, 3), "sampling_rate": 100},
    ]
    together = classify(items, batch_size=batch_size)
    assert len(together) == len(items)
    for item, result in zip(items, together, strict=True):
        same(result, classify(item))


def test_a_long_record_is_seen_to_its_end(classify):
    quiet = array(30, 100, 0)
    changed = quiet.copy()
    changed[-100:] *= -3
    first, second = (classify(x, sampling_rate=100) for x in (quiet, changed))
    assert any(abs(a["score"] - b["score"]) > 1e-7 for a, b in zip(first, second, strict=True))


def test_top_k_and_crops_are_parameters(classify):
    assert len(classify(array(), sampling_rate=100, top_k=2)) == 2
    extract = pipeline("ecg-feature-extraction", model=classify.model.name_or_path)
    crops = extract(array(10), sampling_rate=100, num_crops=5, return_crops=True)
    assert crops.shape[0] == 5
    np.testing.assert_allclose(crops.mean(0), extract(array(10), sampling_rate=100, num_crops=5), atol=1e-6)


def test_units_change_nothing_but_the_numbers(classify):
    x = array()
    same(classify(x, sampling_rate=100), classify(x * 1000, sampling_rate=100, units="uV"))


@pytest.mark.parametrize(
    "bad",
    [np.zeros((3, 1200, 12)), np.zeros(1200), 5, np.full((1200, 12), np.nan), np.zeros((12, 1200)), "no/such.hea"],
)
def test_bad_input_is_an_error_and_not_a_guess(classify, bad):
    with pytest.raises((ValueError, OSError)):
        classify(bad, sampling_rate=100)


def test_an_array_without_a_rate_is_refused(classify):
    with pytest.raises(ValueError, match="sampling_rate"):
        classify(array())


def test_predict_prints_what_the_pipeline_says_and_goes_on_past_a_bad_file(tmp_path, st_mem, classify, capsys):
    for index in range(2):
        np.savez(tmp_path / f"r {index}.npz", signal=array(seed=index), sampling_rate=100, lead_names=LEADS)
    (tmp_path / "r 5.npz").write_bytes(b"broken")
    code = main(["predict", str(tmp_path / "r*.npz"), str(tmp_path / "missing.hea"), "--model", st_mem])
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert code == 1
    assert [line["file"] for line in lines] == [str(tmp_path / f"r {index}.npz") for index in range(2)]
    assert "r 5.npz" in printed.err
    assert "missing.hea" in printed.err
    assert "not a medical device" in printed.err
    same(lines[0]["predictions"], classify(str(tmp_path / "r 0.npz")))


def test_a_checkpoint_without_a_classifier_is_refused(tmp_path, capsys):
    method = get_method("st_mem")
    method.model_classes["pretraining"](method.config_class(**method.tiny_config)).save_pretrained(tmp_path / "model")
    np.savez(tmp_path / "a.npz", signal=array(), sampling_rate=100, lead_names=LEADS)
    assert main(["predict", str(tmp_path / "a.npz"), "--model", str(tmp_path / "model")]) == 2
    assert "fine-tune" in capsys.readouterr().err


def test_predict_reads_a_list_from_standard_input(tmp_path, st_mem, capsys, monkeypatch):
    np.savez(tmp_path / "a.npz", signal=array(), sampling_rate=100, lead_names=LEADS)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{tmp_path / 'a.npz'}\n"))
    assert main(["predict", "-", "--model", st_mem, "--top_k", "1"]) == 0
    assert len(json.loads(capsys.readouterr().out)["predictions"]) == 1


def test_help_imports_none_of_the_heavy_packages():
    script = (
        "import sys\nfrom ecg_transformers.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'wfdb', 'numpy', 'scipy', 'accelerate'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert result.stdout.splitlines()[-1] == "heavy: []"
    assert "predict" in result.stdout


@pytest.mark.parametrize("words", [["finetune", "--help"], ["pretrain", "--no_such_option"]])
def test_a_program_that_asked_for_help_knows_the_classes_all_the_same(words):
    script = (
        "import contextlib\nfrom ecg_transformers.cli import main\n"
        f"with contextlib.suppress(SystemExit):\n    main({words})\n"
        "from transformers import AutoConfig\nfrom transformers.pipelines import PIPELINE_REGISTRY\n"
        "from ecg_transformers import STMEMConfig\n"
        "known = type(AutoConfig.for_model('st_mem')) is STMEMConfig\n"
        "print(known, 'ecg-classification' in PIPELINE_REGISTRY.get_supported_tasks())"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert result.stdout.splitlines()[-1] == "True True", result.stderr[-1000:]


def test_a_checkpoint_is_applied_as_it_was_evaluated(tmp_path):
    model = checkpoint(tmp_path, "st_mem", evaluation_crops=5, evaluation_seconds=10)
    classify = pipeline("ecg-classification", model=model)
    for seconds in (1.2, 4, 12):
        same(classify(array(seconds), sampling_rate=100), classify(array(seconds), sampling_rate=100, num_crops=5))
    with pytest.warns(UserWarning, match=r"60 s .*10 s.*windows=True"):
        few = classify(array(60), sampling_rate=100)
    whole = classify(array(60), sampling_rate=100, windows=True)
    assert any(abs(a["score"] - b["score"]) > 1e-6 for a, b in zip(few, whole, strict=True))
    with pytest.raises(ValueError, match="give one"):
        classify(array(), sampling_rate=100, windows=True, num_crops=2)


@pytest.mark.parametrize(("records", "said"), [(2, ["chosen on 2 validation records: too few"]), (30, []), (None, [])])
def test_a_model_chosen_on_few_records_says_so(tmp_path, caplog, records, said):
    pipeline("ecg-classification", model=checkpoint(tmp_path, "st_mem", evaluation_records=records))
    warnings = [entry.getMessage() for entry in caplog.records if "validation record" in entry.getMessage()]
    assert len(warnings) == len(said)
    assert all(words in warning for words, warning in zip(said, warnings, strict=True))


def test_the_answer_follows_the_thresholds_of_the_validation_split(tmp_path):
    multi = {"problem_type": "multi_label_classification"}
    model = checkpoint(tmp_path / "a", "st_mem", **multi, decision_thresholds=[0.0, 1.0, 0.0])
    answers = pipeline("ecg-classification", model=model)(array(), sampling_rate=100)
    assert {item["label"] for item in answers if item["positive"]} == {"normal", "other"}
    model = checkpoint(tmp_path / "b", "st_mem", **multi)
    answers = pipeline("ecg-classification", model=model)(array(), sampling_rate=100)
    assert all(item["positive"] == (item["score"] >= 0.5) for item in answers)
    model = checkpoint(tmp_path / "c", "st_mem", problem_type="single_label_classification")
    answers = pipeline("ecg-classification", model=model)(array(), sampling_rate=100)
    assert [item["positive"] for item in answers] == [True, False, False]


@pytest.mark.parametrize(("task", "word"), [("ecg-classification", "num_crop"), ("ecg-feature-extraction", "top_k")])
def test_a_word_that_nobody_reads_is_refused(st_mem, task, word):
    with pytest.raises(ValueError, match=word):
        pipeline(task, model=st_mem)(array(), sampling_rate=100, **{word: 2})


def test_a_dataset_is_a_stream(classify):
    dataset = ecg.load_ecg_dataset("synthetic", num_records=4, split="train", seed=3)
    results = classify(dataset)
    assert not isinstance(results, list)
    for row, result in zip(dataset, results, strict=True):
        same(result, classify(row))


def test_a_dataset_of_lists_and_of_several_rates_is_a_stream_too(classify):
    """As `Dataset.from_list` of arrays makes one: without a format its rows hold lists."""
    datasets = pytest.importorskip("datasets")
    rows = [
        {"signal": array(6, rate).astype(np.float32), "sampling_rate": rate, "lead_names": LEADS}
        for rate in (100, 250, 500)
    ]
    for settings in ({}, {"batch_size": 2}):
        for row, result in zip(rows, classify(datasets.Dataset.from_list(rows), **settings), strict=True):
            same(result, classify(row))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"sampling_rate": [100, 250]}, "sampling_rate must be a number in Hz"),
        ({"sampling_rate": "100 Hz"}, "sampling_rate must be a number in Hz"),
        ({"windows": "no"}, "windows is True or False"),
        ({"units": 3}, "units is the name of a unit"),
        ({"top_k": "3"}, "top_k must be a whole number"),
        ({"num_crops": 2.5}, "num_crops must be a positive whole number"),
    ],
)
def test_a_word_of_another_kind_is_one_sentence(classify, words, told):
    with pytest.raises(ValueError, match=told):
        classify(array(), **{"sampling_rate": 100, **words})


def test_data_frames_iterators_and_rows_by_column_are_taken(classify, st_mem):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(array(), columns=LEADS)
    record = ecg.ECGRecord(array().astype(np.float32), 100, LEADS, "r")
    expected = classify(array(), sampling_rate=100)
    same(classify(frame[LEADS[::-1]], sampling_rate=100), expected)
    for answer in classify(iter([record, record])):
        same(answer, expected)
    dataset = ecg.load_ecg_dataset("synthetic", num_records=12, split="train", seed=3)
    for rows in (dataset[:2], dataset.select(range(2)).to_pandas(), dataset.select(range(2)).with_format("torch")):
        answers = list(classify(rows))
        assert len(answers) == 2
        same(answers[1], classify(dataset[1]))


def test_a_dataset_of_torch_is_embedded(st_mem):
    class Records(torch.utils.data.Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return ecg.ECGRecord(array(seed=index).astype(np.float32), 100, LEADS, f"r{index}")

    rows = Records()
    np.testing.assert_array_equal(ecg.embed(rows, st_mem), ecg.embed([rows[0], rows[1], rows[2]], st_mem))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_of_half_precision_answers(st_mem, classify, dtype):
    halves = pipeline("ecg-classification", model=st_mem, dtype=dtype)(array(), sampling_rate=100)
    scores = {item["label"]: item["score"] for item in classify(array(), sampling_rate=100)}
    assert all(abs(item["score"] - scores[item["label"]]) < 0.02 for item in halves)


def test_many_records_run_together_and_past_what_cannot_be_read(classify):
    items = [{"signal": array(seconds, 100, seconds), "sampling_rate": 100} for seconds in (4, 30, 2, 5)]
    items.insert(2, "no/such.hea")
    results = list(classify.run_many(items, batch_size=4))
    assert [item for item, _ in results] == items
    assert "no/such.hea" in str(results.pop(2)[1])
    for item, result in results:
        same(result, classify(item))


@pytest.mark.parametrize("task", ["ecg-classification", "ecg-feature-extraction"])
def test_an_answer_that_is_no_number_is_none(st_mem, task):
    pipe = pipeline(task, model=st_mem)
    with torch.no_grad():
        next(pipe.model.parameters()).fill_(torch.nan)
    signal = {"signal": array(30), "sampling_rate": 100, "lead_names": LEADS}
    with pytest.raises(ValueError, match=r"not finite for this record: its weights are damaged\.$"):
        pipe(signal)
    assert [type(answer) for _, answer in pipe.run_many([signal, signal])] == [ValueError, ValueError]
