"""Copies of a recording are found under another rate, unit, gain and lead order; different recordings are not."""

import json

import numpy as np
import pytest

from ecg_transformers.cli import main
from ecg_transformers.data.content import ContentFingerprints, content_fingerprints, lead_fingerprint
from ecg_transformers.data.corpora import make_corpus
from ecg_transformers.data.errors import ECGDataError, OptionError, RecordNotFoundError
from ecg_transformers.data.loading import load_ecg_dataset
from ecg_transformers.data.overlap import compare, find_overlap, fingerprints_of, overlap
from ecg_transformers.data.record import ECGRecord
from ecg_transformers.signal.resampling import resample
from ecg_transformers.signal.synthesis import LEAD_NAMES, synthesize_ecg

pytestmark = pytest.mark.usefixtures("own_cache")


def recordings(numbers, rate=500.0):
    return [
        ECGRecord(synthesize_ecg(3, n, sampling_rate=rate, duration=10).signal, rate, list(LEAD_NAMES), f"R{n}")
        for n in numbers
    ]


def changed(record, seed, rate=100, method="fourier", **others):
    """The same recording at another rate, with a gain for each lead, and the leads in another order."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(record.num_leads)
    signal = resample(np.nan_to_num(record.signal), record.sampling_rate, rate, method=method)
    signal = np.round(signal * 1000 * rng.uniform(0.5, 4, record.num_leads))[:, order] / 1000
    return ECGRecord(signal, rate, [record.lead_names[k] for k in order], f"copy of {record.record_id}", **others)


@pytest.mark.parametrize("method", ["fourier", "polyphase"])
def test_a_copy_is_found_at_another_rate_scale_and_lead_order(method):
    originals = recordings(range(30))
    copies = [changed(record, n, method=method) for n, record in enumerate(originals[::2])]
    pairs = find_overlap(content_fingerprints(originals), content_fingerprints(copies))
    assert {(pair.record_a, pair.record_b) for pair in pairs} == {(f"R{n}", f"copy of R{n}") for n in range(0, 30, 2)}


def test_different_recordings_are_no_copies():
    prints = content_fingerprints(recordings(range(60), rate=250.0))
    assert len(prints) == 60
    assert all(pair.record_a == pair.record_b for pair in find_overlap(prints, prints))


@pytest.mark.parametrize("leads", [["II"], ["V2", "aVR"], ["V5", "V6"]])
def test_a_part_of_the_leads_is_enough_where_both_have_it(leads):
    record = recordings([5])[0]
    columns = [record.lead_names.index(name) for name in leads]
    part = ECGRecord(record.signal[:, columns], 500, leads, "part")
    reduced = ECGRecord(record.signal[:, columns[::-1]] * 2, 500, leads[::-1], "other")
    assert len(find_overlap(content_fingerprints([part]), content_fingerprints([reduced]))) == 1


def test_a_fingerprint_does_not_see_gain_and_offset():
    lead = recordings([1])[0].signal[:, 1]
    assert (lead_fingerprint(lead, 500) == lead_fingerprint(lead * 4880 + 17, 500)).all()


def test_flat_and_short_records_have_no_fingerprint_and_are_counted():
    flat = ECGRecord(np.full((1000, 2), 0.3), 100, ["I", "II"], "flat")
    short = ECGRecord(recordings([1])[0].signal[:300], 500, list(LEAD_NAMES), "short")
    prints = content_fingerprints([flat, short])
    assert (len(prints), prints.without) == (0, 2)


def test_zero_padding_does_not_hide_a_copy():
    record = recordings([2])[0]
    padded = ECGRecord(
        np.concatenate([np.zeros((250, 12)), record.signal, np.zeros((99, 12))]), 500, record.lead_names, "p"
    )
    assert len(find_overlap(content_fingerprints([record]), content_fingerprints([padded]))) == 1


def test_fingerprints_are_saved_and_read(tmp_path):
    prints = content_fingerprints(recordings(range(3)), "train")
    prints.save(tmp_path / "prints.npz")
    again = ContentFingerprints.load(tmp_path / "prints.npz")
    assert (again.record_ids, again.splits) == (prints.record_ids, ["train"] * 3)
    assert (again.codes == prints.codes).all()
    (tmp_path / "prints.npz").write_bytes(b"no archive")
    with pytest.raises(ECGDataError, match="no file of content fingerprints"):
        ContentFingerprints.load(tmp_path / "prints.npz")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder with five records, and one with two of them changed and one other."""
    root = tmp_path_factory.mktemp("sets")
    for name in ("a", "b"):
        (root / name).mkdir()
    originals = recordings(range(5))
    others = [changed(originals[1], 1), changed(originals[3], 2), recordings([50])[0]]
    for name, records in (("a", originals), ("b", others)):
        for record in records:
            np.savez(
                root / name / f"{record.record_id.replace(' ', '_')}.npz",
                signal=record.signal,
                sampling_rate=record.sampling_rate,
                lead_names=np.array(record.lead_names),
            )
    return root


def test_folders_corpora_and_builds_are_compared(folders, tmp_path):
    result = overlap(str(folders / "a"), str(folders / "b"))
    assert (result.records_a, result.records_b, result.found()) == (5, 3, 2)
    from ecg_transformers.data.building.build import build_corpus

    build_corpus("folder", folders / "a", tmp_path / "build")
    again = overlap(str(tmp_path / "build"), f"folder={folders / 'b'}")
    assert {(p.record_a, p.record_b) for p in again.pairs} == {(p.record_a, p.record_b) for p in result.pairs}
    prints = content_fingerprints(load_ecg_dataset("folder", folders / "a"))
    prints.save(tmp_path / "content_fingerprints.npz")
    assert overlap(str(tmp_path), str(folders / "b")).found() == 2


def test_the_verb_exits_with_1_where_records_overlap(folders, capsys, tmp_path):
    assert main(["overlap", str(folders / "a"), str(folders / "b")]) == 1
    assert json.loads(capsys.readouterr().out)["found"] == 2
    other = tmp_path / "other"
    other.mkdir()
    (other / "r.npz").write_bytes(next((folders / "b").glob("R50.npz")).read_bytes())
    assert main(["overlap", str(folders / "a"), str(other)]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == []
    assert main(["overlap", str(folders / "a"), str(tmp_path / "nothing")]) == 2


def test_what_is_no_set_is_named(tmp_path):
    with pytest.raises(RecordNotFoundError, match="NAME=DIR"):
        fingerprints_of(str(tmp_path / "nothing"))
    with pytest.raises(OptionError, match="did you mean 'ptb_xl'"):
        fingerprints_of(f"ptbxl={tmp_path}")


def test_the_sentence_counts_each_split(folders):
    a = content_fingerprints(load_ecg_dataset("folder", folders / "a"))
    b = content_fingerprints({"train": recordings([1, 9]), "test": [changed(recordings([2])[0], 4)]})
    result = compare(a, b, "A", "B")
    assert "train 1 of 2, test 1 of 1" in result.sentence()


def test_recordings_at_hand_are_found_again_and_no_others(ecg_data_dir):
    corpora = {
        "cinc2021": "cinc2021",
        "cinc2020": "cinc2020",
        "cpsc2018": "cpsc2018",
        "cinc2017": "cinc2017",
        "ptb": "ptbdb",
    }
    for name, folder in corpora.items():
        corpus = make_corpus(name, ecg_data_dir / folder, {})
        plan = corpus.plan()
        records = [ECGRecord.from_row(row) for item in plan.each_item() for row in corpus.rows(item, plan)]
        copies = [changed(record, k, source="copy") for k, record in enumerate(records)]
        pairs = find_overlap(content_fingerprints(records), content_fingerprints(copies))
        assert {pair.record_a for pair in pairs} == {record.record_id for record in records}
        assert all(pair.record_b == f"copy of {pair.record_a}" for pair in pairs)


def test_the_doubles_that_are_known_are_found(ecg_data_dir):
    twins = [
        (f"cinc2021={ecg_data_dir / 'cinc2021'}", f"cinc2020={ecg_data_dir / 'cinc2020'}", [("Q0001", "Q0001")]),
        (f"ptb={ecg_data_dir / 'ptbdb'}", f"cinc2020={ecg_data_dir / 'cinc2020'}", [("s0010_re", "S0001")]),
        (f"ptb_xl={ecg_data_dir / 'ptb-xl'}", f"cinc2020={ecg_data_dir / 'cinc2020'}", [("599", "HR00599")]),
    ]
    for a, b, expected in twins:
        assert [(pair.record_a, pair.record_b) for pair in overlap(a, b).pairs] == expected
