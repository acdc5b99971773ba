"""`pipeline("ecg-delineation")`: windows that overlap, any leads, and the two commands that show its waves."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import pipeline

import ecg_transformers as ecg
from ecg_transformers.analysis.ecg_paper import plot_ecg
from ecg_transformers.cli import main
from ecg_transformers.cli.waves import delineated, table_row
from ecg_transformers.data.building.build import build_corpus
from ecg_transformers.models.registry import get_method, list_methods
from ecg_transformers.signal.leads import STANDARD_LEADS
from ecg_transformers.signal.wave_intervals import Interval, WaveIntervals
from ecg_transformers.signal.waves import CLASSES, Wave, delineate

NAMES = [name for name in list_methods() if "token_classification" in get_method(name).model_classes]


def checkpoint(folder, name, **options):
    """A model of random weights that is sure of what it says, so that there are waves."""
    method = get_method(name)
    torch.manual_seed(0)
    config = method.config_class(**method.tiny_config, id2label=dict(enumerate(CLASSES)), **options)
    model = method.model_classes["token_classification"](config)
    with torch.no_grad():
        model.classifier.unfold.weight.mul_(30)
    model.save_pretrained(folder)
    return str(folder)


def array(seconds=4.0, rate=100, leads=12):
    """A slow random signal `(T, L)`."""
    noise = np.random.default_rng(0).standard_normal((int(seconds * rate) + 9, leads))
    return np.stack([noise[i : i + 10].mean(axis=0) for i in range(int(seconds * rate))])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("waves"), "st_mem")


@pytest.fixture(scope="module")
def find_waves(model):
    return pipeline("ecg-delineation", model=model)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("resolution", ["samples", "patches"])
def test_every_lead_of_the_model_gets_waves_in_order(tmp_path, name, resolution):
    find = pipeline("ecg-delineation", model=checkpoint(tmp_path, name, label_resolution=resolution))
    found = find(array(), sampling_rate=100, lead_names=list(STANDARD_LEADS))
    assert list(found) == find.model.config.lead_names
    waves = [Wave(**wave) for lead in found.values() for wave in lead]
    assert len(waves) > 10
    assert all(0 <= wave.onset_s <= wave.peak_s <= wave.offset_s <= 4.0 for wave in waves)
    assert {wave.wave for wave in waves} <= set(CLASSES[1:])


def test_a_long_record_is_what_its_overlapping_windows_vote_for(find_waves):
    signal = array(5.0)
    extractor, config = find_waves.feature_extractor, find_waves.model.config
    starts = [*range(0, 500 - config.seq_len + 1, config.seq_len // 2), 500 - config.seq_len]
    starts = list(dict.fromkeys(starts))
    crops = torch.cat(
        [extractor(signal, sampling_rate=100, crop_start=s, return_tensors="pt")["input_values"] for s in starts]
    )
    with torch.no_grad():
        probabilities = find_waves.model(crops).logits.softmax(-1).numpy()
    leads, _ = delineate(probabilities, crops.numpy(), starts, 500, 100.0)
    assert find_waves(signal, sampling_rate=100)["V3"] == [wave.to_dict() for wave in leads[STANDARD_LEADS.index("V3")]]


def test_one_lead_and_some_leads_are_delineated_alone(find_waves):
    some = find_waves(array(leads=2), sampling_rate=100, lead_names=["V5", "II"])
    assert set(some) == {"V5", "II"}
    alone = find_waves(array(leads=1), sampling_rate=100, lead_names=["II"])
    assert list(alone) == ["II"]
    assert alone["II"]


def test_a_lead_that_is_called_ecg_is_the_one_that_the_call_names(find_waves, model, tmp_path, capsys):
    expected = find_waves(array(leads=1), sampling_rate=100, lead_names=["V2"])
    record = ecg.ECGRecord(array(leads=1), 100, ["ECG"], "wearable")
    assert find_waves(record, lead_names=["V2"]) == expected
    with pytest.raises(ValueError, match=r"is among ECG\. Say which lead it is, as lead_names=\['II'\]"):
        find_waves(record)
    with pytest.raises(ValueError, match="leave lead_names out"):
        find_waves(dataclasses.replace(record, lead_names=["V1"]), lead_names=["V2"])
    np.savez(tmp_path / "one.npz", signal=array(leads=1), sampling_rate=100, lead_names=["ECG"], units="mV")
    assert main(["predict", str(tmp_path / "one.npz"), "--model", model, "--waves"]) == 1
    assert "Say which lead it is, as --leads II." in capsys.readouterr().err
    assert main(["predict", str(tmp_path / "one.npz"), "--model", model, "--waves", "--leads", "V2"]) == 0
    assert set(json.loads(capsys.readouterr().out)["waves"]) == {"V2"}


def test_a_data_frame_is_one_record(find_waves):
    frame = pd.DataFrame(array(), columns=list(STANDARD_LEADS))
    assert find_waves(frame, sampling_rate=100) == find_waves(array(), sampling_rate=100)


def test_many_records_at_once_equal_one_by_one(find_waves):
    items = [
        {"signal": array(seconds), "sampling_rate": 100, "lead_names": list(STANDARD_LEADS)} for seconds in (2.0, 5.0)
    ]
    one_by_one = [find_waves(item) for item in items]
    assert find_waves(items, batch_size=3) == one_by_one
    assert [result for _, result in find_waves.run_many(items, 3)] == one_by_one


def test_records_of_different_leads_in_one_batch_equal_one_by_one(find_waves):
    items = [
        {"signal": array(seconds, leads=len(names)), "sampling_rate": 100, "lead_names": names}
        for seconds, names in ((2.0, ["V1"]), (3.0, list(STANDARD_LEADS)), (5.0, ["II", "V5"]), (2.0, ["V6"]))
    ]
    one_by_one = [find_waves(item) for item in items]
    for batch_size in (2, 3, 16):
        assert find_waves(items, batch_size=batch_size) == one_by_one
        assert list(find_waves((item for item in items), batch_size=batch_size)) == one_by_one
    with pytest.raises(ValueError, match="the crop needs"):
        find_waves([*items, {**items[0], "signal": array(1.0, leads=1)}], batch_size=3)


def test_a_record_at_another_rate_has_its_waves_at_the_same_times(find_waves):
    times = np.arange(2000) / 500
    slow = np.sin(2 * np.pi * np.outer(times, np.linspace(0.7, 3.0, 12)))
    fast, plain = find_waves(slow, sampling_rate=500), find_waves(slow[::5], sampling_rate=100)
    near = [wave for wave in fast["I"] if any(abs(wave["onset_s"] - other["onset_s"]) < 0.03 for other in plain["I"])]
    assert len(near) >= 0.7 * len(fast["I"]) > 0


def test_what_cannot_be_asked_is_refused(find_waves, tmp_path):
    with pytest.raises(ValueError, match="cover the whole record"):
        find_waves(array(), sampling_rate=100, num_crops=3)
    with pytest.raises(ValueError, match="the crop needs"):
        find_waves(array(1.0), sampling_rate=100)
    method = get_method("st_mem")
    method.model_classes["base"](method.config_class(**method.tiny_config)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds no head that finds waves"):
        pipeline("ecg-delineation", model=str(tmp_path))


def test_predict_and_plot_show_the_waves(model, tmp_path, capsys):
    record = str(tmp_path / "record.npz")
    np.savez(record, signal=array(6.0), sampling_rate=100, lead_names=list(STANDARD_LEADS))
    assert main(["predict", record, "--model", model, "--waves"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert set(row) == {"file", "waves", "intervals", "refused"}
    assert set(row["waves"]) == set(STANDARD_LEADS)
    assert row["intervals"] or row["refused"]
    assert main(["predict", record, "--model", model, "--waves", "-o", str(tmp_path / "waves.csv")]) == 0
    table = pd.read_csv(tmp_path / "waves.csv")
    assert {"file", "PR_ms", "PR_ms_sd", "PR_beats", "QTcF_ms", "rate_per_min", "refused"} <= set(table)
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    for kind in ("csv", "parquet"):  # nothing to tell of, and the columns all the same
        nothing = tmp_path / f"none.{kind}"
        assert main(["predict", str(tmp_path / "bad.npz"), "--model", model, "--waves", "-o", str(nothing)]) == 1
        read = pd.read_csv(nothing) if kind == "csv" else pd.read_parquet(nothing)
        assert len(read) == 0
        assert list(read) == list(table)
    capsys.readouterr()
    assert main(["predict", record, "--model", model, "--waves", "--top_k", "1"]) == 2
    assert "--top_k has no meaning" in capsys.readouterr().err
    for option in (["--engine", "ray"], ["--num_proc", "2"]):
        assert main(["predict", record, "--model", model, "--waves", *option]) == 2
        assert "leave out --engine and --num_proc" in capsys.readouterr().err
    build_corpus("synthetic", None, tmp_path / "prepared", num_records=12, records_per_shard=4)
    assert main(["predict", str(tmp_path / "prepared"), "--model", model, "--waves"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 12
    assert main(["plot", record, "-o", str(tmp_path / "waves.png"), "--waves", model]) == 0
    assert (tmp_path / "waves.png").stat().st_size > 20_000
    assert ecg.read_record(record).num_leads == 12


def test_what_was_found_in_hum_gives_no_interval_anywhere(model, find_waves, tmp_path, capsys):
    """The sentence stands in the pipeline's answer, in JSON, in the table, before people and under the plot."""
    hum = np.sin(2 * np.pi * 7 * np.arange(900) / 100)[:, None] * np.linspace(0.5, 1.0, 12)
    names = list(STANDARD_LEADS)
    answer = find_waves(hum, sampling_rate=100, lead_names=names, intervals=True)
    assert answer["waves"] == find_waves(hum, sampling_rate=100, lead_names=names)
    assert any(wave["wave"] == "QRS" for lead in answer["waves"].values() for wave in lead)
    assert not answer["intervals"]
    (sentence,) = answer["refused"]
    assert "does not stand out by its slope in any lead" in sentence
    record, table = str(tmp_path / "hum.npz"), tmp_path / "hum.csv"
    np.savez(record, signal=hum, sampling_rate=100, lead_names=names)
    assert main(["predict", record, "--model", model, "--waves"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["intervals"], row["refused"]) == ({}, [sentence])
    assert main(["predict", record, "--model", model, "--waves", "-o", str(table)]) == 0
    assert pd.read_csv(table)["refused"].tolist() == [sentence]
    waves, intervals = delineated(ecg.read_record(record), model)
    texts = [text.get_text() for text in plot_ecg(ecg.read_record(record), waves=waves, intervals=intervals).texts]
    assert any(sentence[:40] in text.replace("\n", " ") for text in texts)
    assert WaveIntervals.from_dict(row) == intervals


def test_the_table_of_intervals_gives_hundredths_and_leaves_empty_what_is_refused():
    row = table_row(WaveIntervals({"PR": Interval(149.99999999999946, 9.244163, 11), "QT": Interval(390.0, None, 1)}))
    assert (row["PR_ms"], row["PR_ms_sd"], row["PR_beats"]) == (150.0, 9.24, 11)
    assert (row["QT_ms"], row["QT_ms_sd"], row["QT_beats"]) == (390.0, None, 1)
    assert row["QRS_ms"] is row["QRS_ms_sd"] is row["QRS_beats"] is None
