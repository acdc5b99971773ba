"""Labels follow the signal: whatever moves a sample moves its mark to the same place."""

import numpy as np
import pytest

import ecg_transformers as ecg
from ecg_transformers.features.wave_labels import marked_waves, sample_map, wave_labels, window_places
from ecg_transformers.signal.augmentation import bind_augmentation
from ecg_transformers.signal.leads import STANDARD_LEADS
from ecg_transformers.signal.waves import CLASSES, IGNORED, delineate
from ecg_transformers.training.delineation.view import WavesView

pytestmark = pytest.mark.filterwarnings("ignore::ecg_transformers.features.inputs.ECGSignalWarning")

LEAD = "V2"
QRS = CLASSES.index("QRS")


def marked_record(rate, seconds, at, width=0.012):
    """A narrow bump in one lead at time `at`, and its mark; the other leads are noise."""
    count = round(seconds * rate)
    times = np.arange(count) / rate
    signal = 1e-3 * np.random.default_rng(0).standard_normal((count, 12))
    sample = round(at * rate)
    signal[:, STANDARD_LEADS.index(LEAD)] += np.exp(-(((times - sample / rate) / width) ** 2))
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


def any_extractor(draw, crop_rate):
    """An extractor with random resampling, padding, rounding and leads, which cuts crops of 3 s at `crop_rate`."""
    target, pad = float(draw.choice([100, 125, 250])), draw.choice([None, "zero", "edge", "both", "keep"])
    changes = {"sampling_rate": target, "seq_len": int(3 * target), "pad": pad, "crop_sampling_rate": crop_rate}
    changes |= {"resample": str(draw.choice(["fourier", "polyphase", "linear"])), "normalize": None}
    changes |= {"resample_rounding": draw.choice([None, "truncate", "round", "ratio_first"])}
    changes |= {"patch_size": 25 if pad == "keep" else None}
    chosen = [LEAD, *draw.permutation(["I", "V1", "V5"])[: draw.integers(1, 4)]]
    return ecg.ECGFeatureExtractor.for_method("ecg_jepa", lead_names=draw.permutation(chosen), **changes)


@pytest.mark.parametrize("seed", range(12))
def test_a_mark_stays_with_its_sample_whatever_the_settings(seed):
    """To a tenth of a sample in every window, by its own map and by the place of the window in the whole record."""
    draw, seen = np.random.default_rng(seed), 0
    for _ in range(8):
        extractor = any_extractor(draw, draw.choice([None, 200, 360, 500, 1000]) if seed % 2 else None)
        target, pad = extractor.sampling_rate, extractor.pad_short
        rate = float(draw.choice([128, 250, 257, 333.3, 1000]))
        seconds = draw.uniform(1.5 if pad else 3.5, 12.0)
        signal, _, sample = marked_record(rate, seconds, draw.uniform(0.3, seconds - 0.3), width=0.03)
        prepared = extractor.prepare(signal, sampling_rate=rate, lead_names=STANDARD_LEADS)
        starts = extractor.sliding_crop_starts(prepared, stride=extractor.seq_len // 2)
        whole, row = sample_map(extractor, len(signal), rate), extractor.lead_names.index(LEAD)
        own_places, stretch = window_places(extractor, len(signal), rate, starts)
        crops = extractor.finish(prepared, crop_start=starts)
        for start, own_place, crop in zip(starts, own_places, crops, strict=True):
            places = sample_map(extractor, len(signal), rate, start)
            assert places.length == crop.shape[-1]
            place = places.scale * sample + places.shift
            if not 0.15 * target < place < places.length - 0.15 * target:
                continue
            high = np.maximum(crop[row] - 0.2, 0)
            middle = (high * np.arange(len(high))).sum() / high.sum()
            assert place == pytest.approx(middle, abs=0.1)
            assert whole.scale * sample + whole.shift == pytest.approx(own_place + stretch * middle, abs=0.1)
            seen += 1
    assert seen > 8


@pytest.mark.parametrize("seed", range(8))
def test_a_mark_is_found_again_in_the_vote_whatever_mask_crop_resampling_and_leads(seed):
    """Windows in which a model sees the bump as it is, and windows of labels, vote for the marked sample.

    Within half a place, the rounding to places that no vote can avoid, and a tenth for what resampling does to the bump.
    Labels are rounded in their crop before: half a place more where its places are not those of the record.
    """
    draw, in_all = np.random.default_rng(seed), []
    for _ in range(6):
        extractor = any_extractor(draw, draw.choice([None, 200, 360, 500, 1000]))
        rate = float(draw.choice([128, 250, 257, 333.3, 1000]))
        seconds = draw.uniform(1.5 if extractor.pad_short else 3.5, 12.0)
        signal, marks, sample = marked_record(rate, seconds, draw.uniform(0.4, seconds - 0.4), width=0.03)
        record = ecg.ECGRecord(signal, rate, list(STANDARD_LEADS), "made", annotations=marks)
        view, row = WavesView(extractor), extractor.lead_names.index(LEAD)
        prepared = view.prepare(record)
        windows = view.evaluation_sample(prepared, 1)["input_values"]  # (k, L, T)
        mask = bind_augmentation("rlm", mask_ratio=0.3, rescale=False)
        same = int(draw.integers(1000))
        windows = np.stack([mask(window, np.random.default_rng(same)) for window in windows])
        kept = windows.any(axis=(0, 2))
        labels = np.stack([view.crop_labels(prepared, start) for start in view.starts(prepared)])
        places = sample_map(extractor, len(signal), rate)
        starts, stretch = window_places(extractor, len(signal), rate, view.starts(prepared))
        where = (starts, places.length, places.scale * rate, places.shift, (len(signal) - 1) / rate, stretch)
        on_places = stretch == 1 and all(start == int(start) for start in starts)
        for high, bound in ((np.clip(windows, 0, 1), 0.6), (labels == QRS, 0.6 if on_places else 1.1)):
            probabilities = np.stack([1.0 - high, 0.0 * high, 1.0 * high, 0.0 * high], axis=-1)
            found = delineate(probabilities, windows, *where)[0]
            assert [len(waves) for waves in found] == [int(kept[row] and lead == LEAD) for lead in extractor.lead_names]
            for wave in found[row]:
                in_all.append((wave.onset_s + wave.offset_s) / 2 - sample / rate)
                assert abs(in_all[-1]) * extractor.sampling_rate <= bound
    assert len(in_all) >= 4


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
