"""ECGSLFeatureExtractor: what it accepts, what it gives, and that beats keep their peaks and labels."""

import warnings

import numpy as np
import pytest
import torch
import wfdb

from ecg_transformers.data.record import ECGRecord
from ecg_transformers.features.feature_extraction_beats import ECGSLFeatureExtractor
from ecg_transformers.signal.beats import detect_r_peaks


def lead(seconds=10, rate=250, bpm=72, seed=0):
    rng = np.random.default_rng(seed)
    time = np.arange(seconds * rate) / rate
    signal = 0.01 * rng.standard_normal(time.size)
    for peak in np.arange(0.5, seconds - 0.5, 60 / bpm):
        signal += np.exp(-0.5 * ((time - peak) / 0.012) ** 2) + 0.25 * np.exp(-0.5 * ((time - peak - 0.28) / 0.05) ** 2)
    return signal


@pytest.fixture
def record():
    signal = np.stack([0.5 * lead(), lead(), -lead()], axis=1)
    return ECGRecord(signal, 250, ["I", "II", "V1"], "r1")


@pytest.fixture
def extractor():
    return ECGSLFeatureExtractor()


def test_shapes_and_types_for_one_lead(extractor, record):
    features = extractor(record)
    count = len(detect_r_peaks(record.signal[:, 1], 250))
    assert features["beats"].shape == (1, count, 128)
    assert features["beats"].dtype == np.float32
    assert features["beat_mask"].shape == (1, count)
    assert features["beat_mask"].all()
    assert features["rr"].shape == (1, count, 2)
    assert features["beat_samples"].dtype == np.int64


def test_several_leads_have_an_axis_of_their_own(record):
    features = ECGSLFeatureExtractor(lead_names=["V1", "I"])(record, return_tensors="pt")
    assert features["beats"].shape[2:] == (2, 128)
    assert isinstance(features["beats"], torch.Tensor)
    assert features["beat_mask"].dtype == torch.bool
    single = ECGSLFeatureExtractor(lead_names=["I"])(record, rpeaks=features["beat_samples"][0].numpy())
    np.testing.assert_array_equal(features["beats"][0, :, 1].numpy(), single["beats"][0])


def test_all_kinds_of_input_give_the_same_beats(extractor, record, tmp_path):
    expected = extractor(record)["beats"]
    np.testing.assert_array_equal(extractor(record.signal, 250, record.lead_names)["beats"], expected)
    np.testing.assert_array_equal(extractor(record.signal[:, 1], 250)["beats"], expected)
    np.testing.assert_array_equal(extractor([record])["beats"], expected)
    np.testing.assert_allclose(extractor(record.to_row())["beats"], expected, atol=0.02)
    microvolts = extractor(1000 * record.signal.astype(np.float64), 250, record.lead_names, units="uV")["beats"]
    np.testing.assert_allclose(microvolts, expected, atol=1e-3)


def test_a_path_is_read(extractor, ecg_data_dir):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        features = extractor(ecg_data_dir / "mitdb" / "100", crop_start=3600, crop_length=3600)
    assert 10 <= features["beat_mask"].sum() <= 15
    assert (features["beat_samples"] >= 3600).all()
    assert (features["beat_samples"] < 7200).all()


def test_a_batch_is_padded_and_equals_its_records_alone(extractor, record):
    short = ECGRecord(record.signal[:1000], 250, record.lead_names, "short")
    flat = ECGRecord(np.zeros((2500, 3)), 250, record.lead_names, "flat")
    features = extractor([record, short, flat])
    counts = features["beat_mask"].sum(axis=1)
    assert counts[0] > counts[1] > counts[2] == 0
    for index, one in enumerate((record, short, flat)):
        alone = extractor(one)
        count = max(int(counts[index]), 1)
        for name in ("beats", "rr", "beat_samples", "beat_mask"):
            np.testing.assert_array_equal(features[name][index, :count], alone[name][0])
    padding = ~features["beat_mask"]
    assert not features["beats"][padding].any()
    assert (features["beat_samples"][padding] == -1).all()


def test_a_record_without_beats_is_one_invalid_zero_beat(extractor):
    features = extractor(np.zeros(2500), 250)
    assert features["beats"].shape == (1, 1, 128)
    assert not features["beats"].any()
    assert not features["beat_mask"].any()
    assert extractor(np.full(2500, np.nan), 250)["beat_mask"].sum() == 0
    assert extractor(np.zeros(10), 250)["beat_mask"].sum() == 0


def test_given_peaks_are_used_as_they_are(extractor, record):
    peaks = [200, 333, 2400]
    features = extractor(record, rpeaks=peaks)
    np.testing.assert_array_equal(features["beat_samples"], [peaks])
    two = extractor([record, record], rpeaks=[peaks, [50]])
    np.testing.assert_array_equal(two["beat_samples"], [peaks, [50, -1, -1]])
    with pytest.raises(ValueError, match=r"r1.*R peaks"):
        extractor(record, rpeaks=[2500])


def test_labels_stay_with_their_beats_through_truncation_padding_and_dropped_edges(record):
    peaks = np.arange(20, 2500, 130)
    labels = np.arange(len(peaks)) % 5
    by_peak = dict(zip(peaks.tolist(), labels.tolist()))
    short = ECGRecord(record.signal[:700], 250, record.lead_names, "short")
    for settings in ({}, {"max_beats": 7}, {"drop_edge": True}, {"drop_edge": True, "max_beats": 4}):
        extractor = ECGSLFeatureExtractor(**settings)
        few = peaks[peaks < 700]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            features = extractor([record, short], rpeaks=[peaks, few], beat_labels=[labels, labels[: len(few)]])
        valid = features["beat_mask"]
        assert (features["labels"][~valid] == -100).all()
        pairs = zip(features["beat_samples"][valid].tolist(), features["labels"][valid].tolist())
        assert all(by_peak[sample] == label for sample, label in pairs)
        assert valid.sum() > 0
    with pytest.raises(ValueError, match="beat labels"):
        ECGSLFeatureExtractor()(record, rpeaks=peaks, beat_labels=[1, 2])


def test_annotated_beats_and_their_classes_are_used_on_request(record):
    record.annotations = {"beat_samples": np.asarray([300, 600, 900]), "beat_labels": np.asarray(["N", "V", "Q"])}
    extractor = ECGSLFeatureExtractor(peak_source="annotations", beat_label_names=["N", "S", "V"])
    for item in (record, record.to_row()):
        features = extractor(item)
        np.testing.assert_array_equal(features["beat_samples"], [[300, 600, 900]])
        np.testing.assert_array_equal(features["labels"], [[0, 2, -100]])
    np.testing.assert_array_equal(extractor.finish(extractor.prepare(record))["labels"], [0, 2, -100])
    with pytest.raises(ValueError, match="no beat annotations"):
        extractor(record.signal, 250, record.lead_names)


def test_edge_beats_are_dropped_only_on_request(record):
    peaks = [10, 500, 2490]
    assert ECGSLFeatureExtractor()(record, rpeaks=peaks)["beats"].shape[1] == 3
    np.testing.assert_array_equal(ECGSLFeatureExtractor(drop_edge=True)(record, rpeaks=peaks)["beat_samples"], [[500]])


def test_too_many_beats_are_cut_with_a_warning(record):
    extractor = ECGSLFeatureExtractor(max_beats=4)
    with pytest.warns(UserWarning, match="first 4 are kept"):
        features = extractor(record)
    assert features["beats"].shape[1] == 4


def test_random_runs_are_neighbouring_beats_and_follow_the_generator(record):
    extractor = ECGSLFeatureExtractor(max_beats=4)
    prepared = extractor.prepare(record)
    runs = [extractor.finish(prepared, generator=np.random.default_rng(seed)) for seed in range(8)]
    again = extractor.finish(prepared, generator=np.random.default_rng(3))
    np.testing.assert_array_equal(runs[3]["beats"], again["beats"])
    starts = set()
    for run in runs:
        matches = [i for i in range(len(prepared)) if np.array_equal(prepared.segments.beats[i, 0], run["beats"][0])]
        starts.add(matches[0])
        np.testing.assert_array_equal(run["beats"], prepared.segments.beats[matches[0] : matches[0] + 4, 0])
        np.testing.assert_array_equal(run["rr"], prepared.segments.rr[matches[0] : matches[0] + 4])
    assert len(starts) > 2
    assert set(runs[0]) == {"beats", "beat_mask", "rr"}


def test_a_call_is_finish_of_prepare(extractor, record):
    features, sample = extractor(record), extractor.finish(extractor.prepare(record))
    for name, values in sample.items():
        np.testing.assert_array_equal(features[name][0], values)


def test_crops_of_a_record_are_runs_spread_over_it(record):
    extractor = ECGSLFeatureExtractor(max_beats=4)
    features = extractor(record, num_crops=3)
    assert features["beats"].shape == (1, 3, 4, 1, 128)
    assert features["beat_mask"].shape == (1, 3, 4)
    assert features["beat_samples"][0, 0, 0] == detect_r_peaks(record.signal[:, 1], 250)[0]
    assert features["beat_samples"][0, 2, -1] == detect_r_peaks(record.signal[:, 1], 250)[-1]


def test_padding_to_the_longest_allowed_sequence(extractor, record):
    features = extractor(record, padding="max_length")
    assert features["beats"].shape == (1, 64, 128)


def test_rows_by_column_may_be_put_together_anew(extractor, record):
    rows = [record.to_row(), ECGRecord(record.signal[:1500], 250, record.lead_names, "short").to_row()]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    part = ECGSLFeatureExtractor(lead_names=["V1", "II"], lead_table=["I", "II", "V1"])(columns)
    assert part["beats"].shape[:2] == (2, 64)
    np.testing.assert_array_equal(part["lead_indices"], [[2, 1], [2, 1]])
    assert extractor(columns, padding="longest")["beats"].shape[1] < 64


def test_a_single_lead_recorder_may_name_its_lead_anything(extractor):
    unnamed = ECGRecord(lead()[:, None], 250, ["ECG"], "holter")
    assert extractor(unnamed)["beat_mask"].sum() > 8
    with pytest.raises(ValueError, match="holter"):
        ECGSLFeatureExtractor(missing_leads="derive")(unnamed)


def test_leads_as_they_come_and_a_table_of_more_leads(record):
    features = ECGSLFeatureExtractor(lead_names=None)(record)
    assert features["beats"].shape[2:] == (3, 128)
    part = ECGSLFeatureExtractor(lead_names=["V1", "II"], lead_table=["I", "II", "V1"])(record)
    np.testing.assert_array_equal(part["lead_indices"], [2, 1])
    np.testing.assert_array_equal(part["beats"], features["beats"][:, :, [2, 1]])
    with pytest.raises(ValueError, match="V6"):
        ECGSLFeatureExtractor(lead_names=["V6"], lead_table=["I", "II"])


def test_missing_limb_leads_are_derived(record):
    both = ECGRecord(record.signal[:, :2], 250, ["I", "II"], "two")
    derived = ECGSLFeatureExtractor(lead_names=["III"])(both, rpeaks=[500, 700])["beats"]
    direct = ECGSLFeatureExtractor(lead_names=["III"])(
        record.signal[:, 1:2] - record.signal[:, :1], 250, ["III"], rpeaks=[500, 700]
    )
    np.testing.assert_allclose(derived, direct["beats"], atol=1e-4)


def test_saved_settings_come_back(record, tmp_path):
    from transformers import AutoFeatureExtractor

    extractor = ECGSLFeatureExtractor(lead_names=["II", "V1"], beat_mode="cycle", beat_len=64, max_beats=5)
    extractor.save_pretrained(tmp_path)
    assert (tmp_path / "hub_shim.py").exists()
    for again in (ECGSLFeatureExtractor.from_pretrained(tmp_path), AutoFeatureExtractor.from_pretrained(tmp_path)):
        assert type(again) is ECGSLFeatureExtractor
        assert again.to_dict() == extractor.to_dict()
        np.testing.assert_array_equal(
            again(record, rpeaks=[300, 600])["beats"], extractor(record, rpeaks=[300, 600])["beats"]
        )
    text = (tmp_path / "preprocessor_config.json").read_text()
    assert '"hub_shim.ECGSLFeatureExtractor"' in text


def test_the_preset_is_the_default():
    assert ECGSLFeatureExtractor.for_method("ecg_sl").to_dict() == ECGSLFeatureExtractor().to_dict()
    assert ECGSLFeatureExtractor.for_method("ecg_sl", lead_names=["V2"]).lead_names == ["V2"]
    with pytest.raises(ValueError, match="does not work on beats"):
        ECGSLFeatureExtractor.for_method("st_mem")


@pytest.mark.parametrize(
    "wrong",
    [
        {"beat_mode": "x"},
        {"peak_method": "x"},
        {"beat_norm": "x"},
        {"max_beats": 0},
        {"peak_lead": "V6"},
        {"sampling_rate": 250},
        {"x": 1},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must be|not among|no setting|leave sampling_rate|at least"):
        ECGSLFeatureExtractor(**wrong)


def test_mitbih_labels_follow_every_annotated_beat(ecg_data_dir):
    path = str(ecg_data_dir / "mitdb" / "208")
    signal, marks = wfdb.rdrecord(path), wfdb.rdann(path, "atr")
    beats = [(sample, symbol) for sample, symbol in zip(marks.sample, marks.symbol) if symbol in "NLRejAaJSVEF/fQ"]
    samples, symbols = np.asarray([b[0] for b in beats]), [b[1] for b in beats]
    labels = np.asarray([{"N": 0, "V": 2, "F": 3}.get(symbol, 1) for symbol in symbols])
    extractor = ECGSLFeatureExtractor(max_beats=4000)
    features = extractor(signal.p_signal, signal.fs, signal.sig_name, rpeaks=samples, beat_labels=labels)
    np.testing.assert_array_equal(features["beat_samples"][0], samples)
    np.testing.assert_array_equal(features["labels"][0], labels)


def test_the_same_beats_whatever_the_batch_size_and_number_of_processes(record):
    import datasets

    records = [ECGRecord(record.signal * (1 + index), 250, record.lead_names, f"r{index}") for index in range(6)]
    dataset = datasets.Dataset.from_list([{"signal": r.signal[:, 1].tolist()} for r in records])
    extractor = ECGSLFeatureExtractor()

    def cut(rows):
        features = extractor([np.asarray(signal) for signal in rows["signal"]], 250, padding="max_length")
        return {"beats": features["beats"].reshape(len(rows["signal"]), -1), "samples": features["beat_samples"]}

    results = [
        dataset.map(cut, batched=True, batch_size=size, num_proc=processes, remove_columns=["signal"]).with_format(
            "numpy"
        )[:]
        for size, processes in ((1, None), (4, None), (3, 2))
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(other["samples"], results[0]["samples"])
        np.testing.assert_array_equal(other["beats"], results[0]["beats"])


def test_classes_are_the_same_whichever_module_is_imported_first():
    import subprocess
    import sys

    program = (
        "from ecg_transformers.features.feature_extraction_beats import ECGSLFeatureExtractor as first\n"
        "import ecg_transformers\n"
        "from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING as known\n"
        "assert ecg_transformers.ECGSLFeatureExtractor is first\n"
        "assert any(known[config] is first for config in known if config.__name__ == 'ECGSLConfig')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
