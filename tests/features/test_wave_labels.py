"""Labels follow the signal: whatever moves a sample moves its mark to the same place."""

import numpy as np
import pytest

import ecg_transformers as ecg
from ecg_transformers.features.wave_labels import marked_waves, sample_map, wave_labels
from ecg_transformers.signal.augmentation import bind_augmentation
from ecg_transformers.signal.leads import STANDARD_LEADS
from ecg_transformers.signal.waves import CLASSES, IGNORED

pytestmark = pytest.mark.filterwarnings("ignore::ecg_transformers.features.inputs.ECGSignalWarning")

LEAD = "V2"
QRS = CLASSES.index("QRS")


def marked_record(rate, seconds, at):
    """A narrow bump in one lead at time `at`, and its mark; the other leads are noise."""
    count = round(seconds * rate)
    times = np.arange(count) / rate
    signal = 1e-3 * np.random.default_rng(0).standard_normal((count, 12))
    sample = round(at * rate)
    signal[:, STANDARD_LEADS.index(LEAD)] += np.exp(-(((times - sample / rate) / 0.012) ** 2))
    marks = {
        "wave_leads": [LEAD] * 3,
        "wave_samples": [sample - round(0.04 * rate), sample, sample + round(0.04 * rate)],
        "wave_symbols": ["(", "N", ")"],
    }
    return signal, marks, sample


def places_of(extractor, rate, signal, marks, sample, start):
    """Where the bump lies in the crop, where the map puts its sample, and the middle of its labels."""
    crop = extractor.finish(extractor.prepare(signal, sampling_rate=rate, lead_names=STANDARD_LEADS), crop_start=start)
    row = extractor.lead_names.index(LEAD)
    places = sample_map(extractor, len(signal), rate, start)
    labels = wave_labels(marked_waves(marks, rate), extractor.lead_names, places, rate)
    assert labels.shape == crop.shape
    here = np.flatnonzero(labels[row] == QRS)
    assert (np.delete(labels, row, axis=0) == IGNORED).all()
    return int(crop[row].argmax()), round(places.scale * sample + places.shift), (here[0] + here[-1]) / 2


@pytest.mark.parametrize("rate", [250, 500, 360, 257])
@pytest.mark.parametrize("start", [0, 137])
@pytest.mark.parametrize("method", ["st_mem", "ecg_jepa"])
def test_resampling_and_crops_move_a_mark_with_its_sample(method, rate, start):
    """ECG-JEPA cuts at 500 Hz and resamples the crop."""
    extractor = ecg.ECGFeatureExtractor.for_method(method, seq_len=2250 if method == "st_mem" else 2000)
    record = marked_record(rate, 10.4, 4.2)
    bump, mapped, labelled = places_of(extractor, rate, *record, start)
    assert bump == mapped
    assert abs(labelled - bump) <= 0.5  # the borders are rounded one by one


@pytest.mark.parametrize("pad", ["zero", "edge", "both"])
def test_padding_moves_a_mark_with_its_sample(pad):
    extractor = ecg.ECGFeatureExtractor.for_method("st_mem", pad=pad)
    bump, mapped, labelled = places_of(extractor, 500, *marked_record(500, 6.0, 2.5), 0)
    assert bump == mapped == round(labelled)


@pytest.mark.parametrize("resample", ["fourier", "polyphase", "linear"])
def test_every_way_of_resampling_has_its_own_stretch(resample):
    extractor = ecg.ECGFeatureExtractor.for_method("st_mem", resample=resample, sampling_rate=100, seq_len=900)
    bump, mapped, _ = places_of(extractor, 360, *marked_record(360, 10.0, 8.1), 60)
    assert bump == mapped


def test_leads_that_are_chosen_in_another_order_keep_their_own_marks():
    extractor = ecg.ECGFeatureExtractor.for_method("st_mem", lead_names=["V5", LEAD, "II"])
    bump, mapped, labelled = places_of(extractor, 500, *marked_record(500, 10.0, 5.0), 100)
    assert bump == mapped == round(labelled)


def test_a_mask_of_leads_leaves_the_places_of_the_others():
    extractor = ecg.ECGFeatureExtractor.for_method("st_mem")
    signal, _, sample = marked_record(500, 10.0, 5.0)
    mask = bind_augmentation("rlm", mask_ratio=0.5, rescale=False)
    crop = extractor.finish(extractor.prepare(signal, sampling_rate=500, lead_names=STANDARD_LEADS), crop_start=20)
    row, place = extractor.lead_names.index(LEAD), round(sample / 2) - 20
    masked = [mask(crop, np.random.default_rng(seed)) for seed in range(8)]
    kept = [one for one in masked if one[row].any()]
    assert 0 < len(kept) < 8
    assert {int(one[row].argmax()) for one in kept} == {place}


def test_a_step_that_mixes_leads_is_refused():
    extractor = ecg.ECGFeatureExtractor.for_method("hubert_ecg")
    with pytest.raises(ValueError, match="labels cannot follow"):
        sample_map(extractor, 5000, 500)


def test_the_marks_of_a_real_record_lie_on_its_waves(ecg_data_dir, own_cache):
    """LUDB: the peaks of QRS that the experts marked are the largest deflections of their neighbourhood in most beats."""
    dataset = ecg.load_ecg_dataset("ludb", ecg_data_dir / "ludb", split="test")
    record = ecg.ECGRecord.from_row(dataset[0])
    waves = marked_waves(record.annotations, record.sampling_rate)
    assert set(waves) == set(STANDARD_LEADS)
    extractor = ecg.ECGFeatureExtractor.for_method("st_mem", normalize="per_lead")
    places = sample_map(extractor, record.num_samples, record.sampling_rate, 125)
    crop = extractor(record, crop_start=125)["input_values"][0]
    labels = wave_labels(waves, extractor.lead_names, places, record.sampling_rate)
    assert labels.shape == crop.shape
    inside = np.abs(crop)[labels == QRS].mean()
    assert inside > 2 * np.abs(crop)[labels == 0].mean()
    assert (labels[:, 0] == IGNORED).all()  # the first beat is not annotated
