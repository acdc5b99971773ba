"""The WFDB reader: bit-equal to wfdb where wfdb is right, an error with a name where it is not."""

import os
from pathlib import Path

import numpy as np
import pytest

from ecg_transformers.data.errors import (
    ChecksumError,
    ECGDataError,
    HeaderError,
    LeadNotFoundError,
    LimitError,
    PointerError,
    RecordNotFoundError,
    SignalError,
    TruncatedError,
    UnitError,
    UnsafePathError,
)
from ecg_transformers.data.readers import Limits, read_digital, read_record
from ecg_transformers.data.readers.wfdb.samples import read_format_212, sums_16_bit


def reference(path: Path) -> np.ndarray:
    import wfdb

    return wfdb.rdrecord(str(path.with_suffix(""))).p_signal.astype(np.float32)


@pytest.mark.parametrize(
    "pattern",
    [
        "ptb-xl/records500/00000/*.hea",
        "mitdb/*.hea",
        "ludb/data/1*.hea",
        "cinc2021/*/*.hea",
        "ptbdb/**/*.hea",
        "odd/derived-nan/*.hea",
    ],
)
def test_real_records_are_bit_equal_to_wfdb(ecg_data_dir, pattern):
    paths = sorted(ecg_data_dir.glob(pattern))[:12]
    assert paths
    for path in paths:
        np.testing.assert_array_equal(read_record(path).signal, reference(path))


def test_all_ways_to_name_a_record_mean_the_same(tmp_path, write_wfdb, digital_ecg):
    header = write_wfdb(tmp_path, "--all", digital_ecg())
    signals = [read_record(p).signal for p in (header, header.with_suffix(""), header.with_suffix(".dat"), str(header))]
    assert all(np.array_equal(signals[0], signal) for signal in signals)
    np.testing.assert_array_equal(signals[0], reference(header))


@pytest.mark.parametrize("fmt", ["80", "16", "24", "32", "508", "516", "524"])
def test_formats_that_wfdb_writes_decode_as_written(tmp_path, fmt):
    import wfdb

    limit = {"80": 100, "508": 100, "16": 20_000, "516": 20_000}.get(fmt, 2**22)
    samples = np.random.default_rng(3).integers(-limit, limit, (301, 2))
    wfdb.wrsamp(
        "r",
        100,
        ["mV"] * 2,
        ["I", "II"],
        d_signal=samples,
        fmt=[fmt] * 2,
        adc_gain=[200.0] * 2,
        baseline=[5] * 2,
        write_dir=str(tmp_path),
    )
    record = read_record(tmp_path / "r")
    np.testing.assert_array_equal(record.signal, ((samples - 5) / 200).astype(np.float32))


@pytest.mark.parametrize(
    ("fmt", "encode"),
    [
        ("61", lambda x: x.astype(">i2")),
        ("160", lambda x: (x + 32768).astype("<u2")),
        ("8", lambda x: np.diff(x, axis=0, prepend=x[:1]).astype("i1")),
    ],
)
def test_formats_of_older_systems_decode_as_written(tmp_path, fmt, encode):
    samples = np.cumsum(np.random.default_rng(3).integers(-9, 10, (301, 2)), axis=0)
    encode(samples).tofile(tmp_path / "r.dat")
    lines = [
        f"r.dat {fmt} 200 12 0 {first} {total} 0 {n}"
        for n, (first, total) in enumerate(zip(samples[0], samples.sum(axis=0)))
    ]
    (tmp_path / "r.hea").write_text("\n".join(["r 2 100 301", *lines]) + "\n")
    np.testing.assert_array_equal(read_record(tmp_path / "r").signal, (samples / 200).astype(np.float32))


def written_in(folder, name, samples, fmt, leads):
    import wfdb

    count = len(leads)
    scale = {"adc_gain": [200.0] * count, "baseline": [0] * count, "fmt": [fmt] * count}
    wfdb.wrsamp(name, 250, ["mV"] * count, leads, d_signal=samples, write_dir=str(folder), **scale)


def test_a_part_is_that_of_the_whole_in_every_layout(tmp_path):
    samples = np.random.default_rng(5).integers(-900, 900, (1001, 3))
    for fmt in ("16", "212", "24"):
        written_in(tmp_path, f"f{fmt}", samples, fmt, ["I", "II", "V1"])
    written_in(tmp_path, "s1", samples[:400, :2], "16", ["I", "II"])
    written_in(tmp_path, "s2", samples[400:, 1:], "212", ["II", "V1"])
    (tmp_path / "m.hea").write_text("m/3 2 250 1101\ns1 400\n~ 100\ns2 601\n")
    for name in ("f16", "f212", "f24", "m"):
        whole = read_record(tmp_path / name).signal
        for start, stop in ((0, 10), (1, 8), (333, 1000), (390, 520), (450, 460), (1000, None), (None, 5), (7, 5000)):
            part = read_record(tmp_path / name, start=start, stop=stop)
            np.testing.assert_array_equal(part.signal, whole[start:stop], err_msg=f"{name} {start} {stop}")
    assert "checksum_not_compared" in read_record(tmp_path / "f16", stop=5).metadata["flags"]
    assert "flags" not in read_record(tmp_path / "f16", start=0, stop=1001).metadata


@pytest.mark.parametrize("fmt", ["16", "212"])
def test_a_part_is_read_of_a_record_longer_than_the_limit(tmp_path, fmt):
    samples = np.random.default_rng(5).integers(-900, 900, (900, 3))
    written_in(tmp_path, "r", samples, fmt, ["I", "II", "V1"])
    (tmp_path / "m.hea").write_text("m/2 3 250 1800\nr 900\nr 900\n")
    limits = Limits(max_samples=500, max_file_bytes=2000)
    for name, start in (("r", 301), ("m", 1201)):
        part = read_record(tmp_path / name, limits=limits, start=start, stop=start + 500)
        np.testing.assert_array_equal(part.signal, (samples[301:801] / 200).astype(np.float32))
        for bounds in ({}, {"start": 1}):
            with pytest.raises(LimitError, match="more than the 500 allowed"):
                read_record(tmp_path / name, limits=limits, **bounds)


def test_format_212_reads_odd_counts_signs_and_missing_values(tmp_path):
    values = np.array([0, -1, 2047, -2047, -2048, 5, 1023], dtype=np.int64)
    bits = [int(v) & 0xFFF for v in values] + [0]
    packed = bytearray()
    for low, high in zip(bits[::2], bits[1::2]):
        packed += bytes([low & 0xFF, (low >> 8) | (high >> 8 << 4), high & 0xFF])
    (tmp_path / "x").write_bytes(bytes(packed[:-1]))  # the last byte belongs to no sample
    expected = np.where(values == -2048, -32768, values)
    with (tmp_path / "x").open("rb") as file:
        np.testing.assert_array_equal(read_format_212(file.fileno(), 7), expected)


def test_a_wrong_checksum_is_an_error_by_default(tmp_path, write_wfdb, digital_ecg):
    path = write_wfdb(tmp_path, "r", digital_ecg())
    content = bytearray((tmp_path / "r.dat").read_bytes())
    content[2 * 12 * 77 + 2 * 7] ^= 1  # one bit of V2
    (tmp_path / "r.dat").write_bytes(bytes(content))
    with pytest.raises(ChecksumError, match=r"lead 'V2'.*damaged"):
        read_record(path)
    assert read_record(path, checksum="warn").metadata["flags"] == ["checksum_mismatch"]
    assert "flags" not in read_record(path, checksum="ignore").metadata


def test_a_short_file_says_both_numbers_and_can_be_read_on_request(tmp_path, write_wfdb, digital_ecg):
    path = write_wfdb(tmp_path, "r", digital_ecg(), num_samples=5000)
    with pytest.raises(TruncatedError, match=r"5000 samples of 12 leads, the file holds 1000"):
        read_record(path)
    record = read_record(path, allow_truncated=True)
    assert record.num_samples == 1000
    assert record.metadata["flags"] == ["truncated"]


def test_a_missing_length_is_inferred_only_when_it_divides(tmp_path, write_wfdb, digital_ecg):
    path = write_wfdb(tmp_path, "r", digital_ecg(), num_samples="")
    record = read_record(path)
    assert record.num_samples == 1000
    assert record.metadata["flags"] == ["length_inferred"]
    (tmp_path / "r.dat").write_bytes((tmp_path / "r.dat").read_bytes()[:-2])
    with pytest.raises(HeaderError, match="no number of samples"):
        read_record(path)


@pytest.mark.parametrize(
    ("gain", "flag"),
    [("0", "gain_defaulted"), ("0/mV", "gain_defaulted"), ("-200", "inverted_gain")],
)
def test_odd_gains_are_flagged(tmp_path, write_wfdb, digital_ecg, gain, flag):
    path = write_wfdb(tmp_path, "r", digital_ecg(), gain=gain)
    assert flag in read_record(path).metadata["flags"]


@pytest.mark.parametrize("gain", ["0", "0/mV"])
def test_a_header_without_a_gain_is_refused_where_asked(tmp_path, write_wfdb, digital_ecg, gain):
    path = write_wfdb(tmp_path, "r", digital_ecg(), gain=gain)
    with pytest.raises(HeaderError, match="no gain"):
        read_record(path, strict=True)


@pytest.mark.parametrize(
    ("unit", "factor"), [("mV", 1), ("mv", 1), ("uV", 1000), ("µV", 1000), ("V", 0.001), ("nV", 1e6)]
)
def test_units_become_millivolts(tmp_path, write_wfdb, digital_ecg, unit, factor):
    samples = digital_ecg()
    path = write_wfdb(tmp_path, "r", samples, gain=f"2.0/{unit}")
    np.testing.assert_allclose(read_record(path).signal, samples / 2.0 / factor, rtol=1e-6)


def test_unknown_units_are_refused_unless_the_lead_is_left_out(tmp_path, write_wfdb, digital_ecg):
    path = write_wfdb(tmp_path, "r", digital_ecg(), gain="1000/furlong")
    with pytest.raises(UnitError, match="furlong"):
        read_record(path)
    assert read_record(path, units="mV").num_leads == 12


def test_only_the_ecg_leads_of_a_mixed_record_on_request(ecg_data_dir):
    path = ecg_data_dir / "odd" / "mixed-signals" / "v102s"
    with pytest.raises(UnitError, match=r"'PLETH'.*'NU'"):
        read_record(path)
    record = read_record(path, lead_names=["V", "II"])
    assert record.lead_names == ["V", "II"]
    with pytest.raises(LeadNotFoundError, match=r"lead 'V9'.*\['II', 'V', 'PLETH', 'RESP'\]"):
        read_record(path, lead_names=["V9"])


def test_two_signals_of_one_name_are_told_apart_and_flagged(tmp_path, write_wfdb, digital_ecg):
    samples = digital_ecg()[:, :2]
    record = read_record(write_wfdb(tmp_path, "r", samples, lead_names=["ECG", "ECG"]))
    assert record.lead_names == ["ECG", "ECG 2"]
    assert "lead_names_numbered" in record.metadata["flags"]
    np.testing.assert_array_equal(record.signal, (samples / 1000).astype(np.float32))


@pytest.mark.parametrize("name", ["../secret/x.dat", "/etc/passwd", "a\\b.dat", "r.hea"])
def test_a_header_cannot_name_files_elsewhere(tmp_path, write_wfdb, digital_ecg, name):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "x.dat").write_bytes(bytes(24000))
    path = write_wfdb(tmp_path / "in", "r", digital_ecg(), file_name=name)
    with pytest.raises(ECGDataError):
        read_record(path)


def test_a_link_that_leaves_the_folder_is_refused_unless_allowed(tmp_path, write_wfdb, digital_ecg):
    path = write_wfdb(tmp_path / "in", "r", digital_ecg())
    os.rename(tmp_path / "in" / "r.dat", tmp_path / "out.dat")
    (tmp_path / "in" / "r.dat").symlink_to(tmp_path / "out.dat")
    with pytest.raises(
        UnsafePathError, match=r"outside its folder.*not followed.*only read_record takes follow_links=True"
    ):
        read_record(path)
    assert read_record(path, follow_links=True).num_leads == 12
    with pytest.raises(UnsafePathError):
        read_record(path, root=tmp_path / "in")


@pytest.mark.parametrize("rate", ["0", "-5", "1e400", "nan", "inf", "100001", "abc", "1_0"])
def test_impossible_rates_are_refused(tmp_path, write_wfdb, digital_ecg, rate):
    with pytest.raises(HeaderError, match="sampling rate"):
        read_record(write_wfdb(tmp_path, "r", digital_ecg(), rate=rate))


@pytest.mark.parametrize("line", ["r 100000000 100 1000", "r 12 100 1000000000000", "r/200000000 12 100 1000"])
def test_absurd_sizes_are_refused_from_the_record_line_alone(tmp_path, line):
    import time

    (tmp_path / "r.hea").write_text(line + "\n")
    started = time.process_time()
    with pytest.raises(LimitError):
        read_record(tmp_path / "r.hea")
    assert time.process_time() - started < 0.5


def test_a_header_with_fewer_lines_than_signals_is_refused(tmp_path):
    (tmp_path / "r.hea").write_text("r 3 100 1000\nr.dat 16\n")
    with pytest.raises(HeaderError, match="promises 3 signals, but 1 signal lines"):
        read_record(tmp_path / "r.hea")


def test_headers_of_other_systems_are_read(tmp_path, write_wfdb, digital_ecg):
    path = write_wfdb(tmp_path, "r", digital_ecg(), comments="#Größe: 1\n")
    text = path.read_text(encoding="utf-8")
    expected = read_record(path).signal
    for content in (
        text.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + text.encode(),
        b"\n# first\n\n" + text.encode(),
        text.encode("latin-1"),
    ):
        path.write_bytes(content)
        record = read_record(path)
        np.testing.assert_array_equal(record.signal, expected)
        assert "Größe: 1" in record.metadata["comments"]


def test_missing_files_and_pointers_are_named(tmp_path, write_wfdb, digital_ecg):
    with pytest.raises(RecordNotFoundError, match="nichts"):
        read_record(tmp_path / "nichts")
    with pytest.raises(RecordNotFoundError, match=r"nichts\.hea"):
        read_record(tmp_path / "nichts.hea")
    path = write_wfdb(tmp_path, "r", digital_ecg())
    (tmp_path / "r.dat").unlink()
    with pytest.raises(RecordNotFoundError, match=r"r\.dat"):
        read_record(path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(PointerError, match="Git LFS"):
        read_record(path)


def test_limits_can_be_tightened(tmp_path, write_wfdb, digital_ecg):
    path = write_wfdb(tmp_path, "r", digital_ecg())
    for limits in (
        Limits(max_leads=8),
        Limits(max_samples=999),
        Limits(max_header_bytes=50),
        Limits(max_file_bytes=1000),
    ):
        with pytest.raises(LimitError):
            read_record(path, limits=limits)


def test_multi_segment_records_are_read_with_their_gaps(tmp_path, write_wfdb, digital_ecg):
    samples = digital_ecg()[:, :2]
    write_wfdb(tmp_path, "s1", samples[:400])
    write_wfdb(tmp_path, "s2", samples[400:])
    (tmp_path / "m.hea").write_text("m/3 2 100 1050\ns1 400\n~ 50\ns2 600\n")
    record = read_record(tmp_path / "m")
    assert record.signal.shape == (1050, 2)
    assert np.isnan(record.signal[400:450]).all()
    np.testing.assert_array_equal(record.signal[450:], (samples[400:] / 1000).astype(np.float32))
    (tmp_path / "m.hea").write_text("m/2 2 100 1000\ns1 400\n../s2 600\n")
    with pytest.raises(ECGDataError):
        read_record(tmp_path / "m")


def test_gaps_cannot_fill_the_memory(tmp_path, write_wfdb, digital_ecg):
    """A header of 40 bytes may claim a gap of any length; found by `tests/soak/readers.py`."""
    write_wfdb(tmp_path, "a", digital_ecg()[:20])
    (tmp_path / "m.hea").write_text("m/2 12 100\na 20\n~ 40000000\n")
    with pytest.raises(LimitError, match="gaps are too long"):
        read_record(tmp_path / "m")


def test_a_file_that_became_shorter_while_it_was_read_is_truncated(tmp_path, write_wfdb, digital_ecg, monkeypatch):
    from ecg_transformers.data.readers.wfdb import samples

    path = write_wfdb(tmp_path, "r", digital_ecg())
    opened = samples.open_file

    def shrink(*arguments, **options):
        found = opened(*arguments, **options)
        (tmp_path / "r.dat").write_bytes(b"\0" * 48)
        return found

    monkeypatch.setattr(samples, "open_file", shrink)
    with pytest.raises(TruncatedError, match="promises 1000 samples of 12 leads, the file holds 2"):
        read_record(path)


def test_a_layout_header_names_leads_that_come_and_go(tmp_path, write_wfdb, digital_ecg):
    samples = digital_ecg()[:, :2]
    write_wfdb(tmp_path, "s1", samples[:400, :1], lead_names=["II"])
    write_wfdb(tmp_path, "s2", samples[400:], lead_names=["V1", "II"])
    (tmp_path / "m_layout.hea").write_text("m_layout 2 100 0\n~ 0 1000 0 0 0 0 0 II\n~ 0 1000 0 0 0 0 0 V1\n")
    (tmp_path / "m.hea").write_text("m/3 2 100 1000\nm_layout 0\ns1 400\ns2 600\n")
    record = read_record(tmp_path / "m")
    assert record.lead_names == ["II", "V1"]
    assert np.isnan(record.signal[:400, 1]).all()
    np.testing.assert_array_equal(record.signal[400:, 0], (samples[400:, 1] / 1000).astype(np.float32))
    only = read_record(tmp_path / "m", lead_names=["V1"])
    np.testing.assert_array_equal(only.signal[:, 0], record.signal[:, 1])


def test_several_files_and_byte_offsets_are_read(tmp_path):
    a, b = np.arange(100, dtype="<i2"), -np.arange(100, dtype="<i2")
    (tmp_path / "a.dat").write_bytes(b"\0" * 24 + a.tobytes())
    (tmp_path / "b.dat").write_bytes(b.tobytes())
    (tmp_path / "r.hea").write_text("r 2 100 100\na.dat 16+24 100 16 0 0 4950 0 I\nb.dat 16 100 16 0 0 -4950 0 II\n")
    np.testing.assert_array_equal(read_record(tmp_path / "r").signal, np.column_stack([a, b]).astype(np.float32) / 100)
    (tmp_path / "r.hea").write_text("r 2 100 100\na.dat 16+99999 100 16 0 0 1 0 I\nb.dat 16 100 16 0 0 1 0 II\n")
    with pytest.raises(TruncatedError):
        read_record(tmp_path / "r")


def test_digital_records_keep_the_samples_of_the_file(tmp_path, write_wfdb, digital_ecg):
    samples = digital_ecg()
    samples[5, 3] = -32768
    digital = read_digital(write_wfdb(tmp_path, "r", samples))
    np.testing.assert_array_equal(digital.samples, samples)
    assert np.isnan(digital.to_record().signal).sum() == 1


def _frames(path, name, rate, counts, columns, fmt="16", names=("II", "V1"), checksums=None):
    """A record whose frames hold `counts` samples of the signals `columns`, each of them already long enough."""
    frames = len(columns[0]) // counts[0]
    parts = [np.asarray(column).reshape(frames, count) for column, count in zip(columns, counts)]
    (path / f"{name}.dat").write_bytes(np.concatenate(parts, axis=1).astype("<i2").tobytes())
    sums = checksums or [int(np.asarray(column).sum()) for column in columns]
    lines = [
        f"{name}.dat {fmt}x{count} 200(0)/mV 16 0 0 {total} 0 {lead}" for count, total, lead in zip(counts, sums, names)
    ]
    (path / f"{name}.hea").write_text("\n".join([f"{name} {len(columns)} {rate} {frames}", *lines, ""]))
    return path / f"{name}.hea"


def test_a_lead_of_several_samples_a_frame_keeps_every_sample_and_its_own_rate(tmp_path):
    ecg, slow = np.arange(-600, 600), np.arange(300)
    path = _frames(tmp_path, "r", 125, (4, 1), (ecg, slow), names=("II", "RESP"))
    record = read_record(path, lead_names=["II"])
    assert record.sampling_rate == 500
    np.testing.assert_array_equal(record.signal[:, 0], (ecg / 200).astype(np.float32))
    with pytest.raises(SignalError, match=r"II at 500 Hz; RESP at 125 Hz"):
        read_record(path)


def test_frames_may_be_rarer_than_one_a_second(tmp_path):
    ecg = np.arange(1000)
    record = read_record(_frames(tmp_path, "r", 0.5, (500,), (ecg,), names=("II",)))
    assert (record.sampling_rate, record.num_samples) == (250, 1000)


def test_checksums_of_frames_are_verified(tmp_path):
    path = _frames(tmp_path, "r", 125, (2,), (np.arange(1000),), names=("II",), checksums=[1])
    with pytest.raises(ChecksumError, match="lead 'II'"):
        read_record(path)


def test_checksums_of_a_shifted_lead_are_said_not_to_be_compared(tmp_path):
    path = _frames(tmp_path, "r", 125, (1,), (np.arange(1000),), names=("II",))
    path.write_text(path.read_text().replace("16x1", "16:3"))
    assert "checksum_not_compared" in read_record(path).metadata["flags"]


def test_segments_of_frames_have_the_rate_of_the_lead(tmp_path):
    ecg = np.arange(1000)
    _frames(tmp_path, "s1", 125, (2,), (ecg[:400],), names=("II",))
    _frames(tmp_path, "s2", 125, (2,), (ecg[400:],), names=("II",))
    (tmp_path / "m.hea").write_text("m/2 1 125 500\ns1 200\ns2 300\n")
    record = read_record(tmp_path / "m.hea")
    assert record.sampling_rate == 250
    np.testing.assert_array_equal(record.signal[:, 0], (ecg / 200).astype(np.float32))


@pytest.mark.parametrize("cut", ["s1", "s2"])
def test_segments_that_end_early_are_read_on_request(tmp_path, write_wfdb, digital_ecg, cut):
    samples = digital_ecg()[:, :2]
    write_wfdb(tmp_path, "s1", samples[:400])
    write_wfdb(tmp_path, "s2", samples[400:])
    (tmp_path / "m.hea").write_text("m/2 2 100 1000\ns1 400\ns2 600\n")
    os.truncate(tmp_path / f"{cut}.dat", 300 * 4)
    with pytest.raises(TruncatedError, match="allow_truncated"):
        read_record(tmp_path / "m")
    record = read_record(tmp_path / "m", allow_truncated=True)
    there = np.r_[0:300, 400:1000] if cut == "s1" else np.r_[0:700]
    assert "truncated" in record.metadata["flags"]
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(record.signal[:, 0])), there)
    np.testing.assert_array_equal(record.signal[there], (samples[there] / 1000).astype(np.float32))
    for start, stop in ((0, 1000), (200, 800), (320, 390), (750, 900)):
        part = read_record(tmp_path / "m", allow_truncated=True, start=start, stop=stop)
        np.testing.assert_array_equal(part.signal, record.signal[start:stop])


def test_a_lead_that_only_one_segment_has_is_no_value_elsewhere(tmp_path, write_wfdb, digital_ecg):
    samples = digital_ecg()[:, :2]
    write_wfdb(tmp_path, "s1", samples[:400, :1], lead_names=["II"])
    write_wfdb(tmp_path, "s2", samples[400:], lead_names=["II", "V"])
    (tmp_path / "m.hea").write_text("m/2 1 100 1000\ns1 400\ns2 600\n")
    record = read_record(tmp_path / "m.hea")
    assert record.lead_names == ["II", "V"]
    assert "segment_leads_differ" in record.metadata["flags"]
    assert np.isnan(record.signal[:400, 1]).all()
    assert np.isfinite(record.signal[400:]).all()


def test_a_folder_in_a_header_means_the_file_beside_it(tmp_path, write_wfdb, digital_ecg):
    samples = digital_ecg()[:, :1]
    path = write_wfdb(tmp_path, "r", samples, lead_names=["I"])
    path.write_text(path.read_text().replace("r 1", "beats/r 1", 1).replace("r.dat", "beats/r.dat"))
    record = read_record(path)
    assert "header_folder_ignored" in record.metadata["flags"]
    np.testing.assert_array_equal(record.signal, (samples / 1000).astype(np.float32))


def test_a_signal_file_under_another_name_is_named_with_what_is_there(tmp_path):
    (tmp_path / "a.hea").write_text("a 1 100 100\na 16 100 16 0 0 0 0 II\n")
    (tmp_path / "a.mat").write_bytes(bytes(224))
    with pytest.raises(RecordNotFoundError, match=r"a\.hea names the signal file 'a', which is not there.*a\.mat"):
        read_record(tmp_path / "a.hea")


def test_a_signal_file_in_another_letter_case_is_named(tmp_path, write_wfdb, digital_ecg):
    header = write_wfdb(tmp_path, "a", digital_ecg()).with_suffix(".hea")
    header.write_text(header.read_text().replace("a.dat", "A.DAT"))
    with pytest.raises(RecordNotFoundError, match=r"'A\.DAT'.*there is a\.dat: letter case matters"):
        read_record(header)


def test_a_signal_file_in_a_folder_of_its_own_is_named(tmp_path, write_wfdb, digital_ecg):
    header = write_wfdb(tmp_path, "a", digital_ecg())
    (tmp_path / "beats").mkdir()
    header.with_suffix(".dat").rename(tmp_path / "beats" / "a.dat")
    with pytest.raises(RecordNotFoundError, match=r"there is beats/a\.dat in a folder: put it beside its header"):
        read_record(header)


def test_a_segment_that_is_not_there_is_named_with_its_record(tmp_path):
    (tmp_path / "m.hea").write_text("m/1 2 100 400\nlost 400\n")
    with pytest.raises(
        RecordNotFoundError, match=r"m\.hea names the segment 'lost', whose header lost\.hea is not there"
    ):
        read_record(tmp_path / "m")


@pytest.mark.parametrize("date", ["10:15:00 2006", "9:04:07 0/0/0", "25:99:00"])
@pytest.mark.parametrize("fmt", ["16", "61"])
def test_dates_that_are_none_hinder_nobody(tmp_path, date, fmt):
    values = np.arange(100)
    (tmp_path / "a.dat").write_bytes(values.astype("<i2" if fmt == "16" else ">i2").tobytes())
    (tmp_path / "a.hea").write_text(f"a 1 100 100 {date}\na.dat {fmt} 100 16 0 0 0 0 II\n")
    np.testing.assert_array_equal(read_record(tmp_path / "a").signal[:, 0], (values / 100).astype(np.float32))


def test_any_format_can_be_read_as_far_as_it_goes(tmp_path):
    (tmp_path / "a.dat").write_bytes(np.arange(80).astype(">i2").tobytes())
    (tmp_path / "a.hea").write_text("a 1 100 100\na.dat 61 100 16 0 0 0 0 II\n")
    with pytest.raises(TruncatedError):
        read_record(tmp_path / "a")
    record = read_record(tmp_path / "a", allow_truncated=True)
    assert record.num_samples == 80
    assert "truncated" in record.metadata["flags"]


def test_leads_of_a_file_that_is_there_are_read_without_the_others(tmp_path):
    values = np.arange(100)
    (tmp_path / "r.dat").write_bytes(values.astype("<i2").tobytes())
    (tmp_path / "r.hea").write_text("r 2 100 100\nr.dat 16 100 16 0 0 4950 0 I\nr.xyz 16 100 16 0 0 1 0 vx\n")
    with pytest.raises(RecordNotFoundError, match=r"r\.xyz.*lead_names"):
        read_record(tmp_path / "r")
    np.testing.assert_array_equal(
        read_record(tmp_path / "r", lead_names=["I"]).signal[:, 0], (values / 100).astype(np.float32)
    )


@pytest.mark.parametrize("length", [1, 15, 16, 17, 100, 1000, 1999, 2001, 5000, 5003])
def test_sums_are_those_modulo_65536_at_every_length(length):
    samples = np.random.default_rng(length).integers(-32768, 32768, (length, 3)).astype(np.int16)
    assert (sums_16_bit(samples) % 65536 == samples.sum(axis=0, dtype=np.int64) % 65536).all()


def test_a_record_is_the_same_however_its_path_is_spelt(tmp_path, monkeypatch):
    samples = np.random.default_rng(0).integers(-900, 900, (50, 2)).astype("<i2")
    (tmp_path / "ward").mkdir()
    samples.tofile(tmp_path / "ward" / "r1.dat")
    lines = [
        f"r1.dat 16 1000/mV 16 0 {samples[0, n]} {samples[:, n].sum(dtype=np.int64) % 65536} 0 {lead}"
        for n, lead in enumerate(("I", "II"))
    ]
    (tmp_path / "ward" / "r1.hea").write_text("\n".join(["r1 2 100 50", *lines]) + "\n")
    monkeypatch.chdir(tmp_path)
    plain = read_record("ward/r1.hea")
    for spelling in (
        "ward/r1",
        "./ward/r1.hea",
        "ward//r1.hea",
        "ward/./r1",
        Path("ward/r1.hea"),
        Path("ward") / "r1",
        "ward/r1.dat",
    ):
        other = read_record(spelling)
        assert np.array_equal(other.signal, plain.signal)
        assert (other.record_id, other.lead_names) == (plain.record_id, plain.lead_names)
        assert other.source == str(Path(spelling))
    for spelling in ("ward/.hea", "ward/r2", "ward/r2.hea", "ward", "", "ward/r1\0.hea"):
        with pytest.raises(ECGDataError):
            read_record(spelling)


def stored_as(fmt, values, path):
    """Write values `(T, L)` in a format of whole bytes, or FLAC."""
    if fmt == "516":
        soundfile = pytest.importorskip("soundfile")
        soundfile.write(path.with_suffix(".flac"), values.astype("<i2"), 250, format="FLAC", subtype="PCM_16")
        path.with_suffix(".flac").rename(path)
    elif fmt == "24":
        path.write_bytes(values.astype("<i4").reshape(-1, 1).view("u1")[:, :3].tobytes())
    else:
        dtype, shift = {"16": ("<i2", 0), "32": ("<i4", 0), "61": (">i2", 0), "80": ("u1", 128), "160": ("<u2", 32768)}[
            fmt
        ]
        path.write_bytes((values + shift).astype(dtype).tobytes())


@pytest.mark.parametrize("fmt", ["16", "24", "32", "61", "80", "160", "516"])
@pytest.mark.parametrize(("per_frame", "skew"), [(2, 0), (1, 7), (4, 3)])
def test_a_part_of_a_file_is_the_whole_cut(fmt, per_frame, skew, tmp_path):
    values = np.random.default_rng(0).integers(-100, 100, (8000, 2))
    stored = values if fmt == "516" else values.reshape(-1, per_frame, 2).transpose(0, 2, 1)
    stored_as(fmt, stored, tmp_path / "r.dat")
    sums = (values.sum(axis=0) % 65536).tolist()
    lines = [
        f"r.dat {fmt}x{per_frame}:{skew * k} 200 16 0 0 {sums[k]} 0 {lead}\n" for k, lead in enumerate(("II", "V5"))
    ]
    (tmp_path / "r.hea").write_text(f"r 2 {250 / per_frame:g} {8000 // per_frame}\n{''.join(lines)}")
    whole = read_record(tmp_path / "r.hea")
    np.testing.assert_allclose(whole.signal[:, 0], values[:, 0] / 200, rtol=1e-6)
    for start, stop in ((0, 10), (5, 7999), (101, 333), (7990, None)):
        part = read_record(tmp_path / "r.hea", start=start, stop=stop, lead_names=["V5"])
        np.testing.assert_array_equal(part.signal, whole.signal[start:stop, 1:])
        assert part.metadata["flags"] == ["checksum_not_compared"]
    content = (tmp_path / "r.dat").read_bytes()
    (tmp_path / "r.dat").write_bytes(content[: len(content) // 2])
    with pytest.raises(TruncatedError, match="allow_truncated=True" if fmt != "516" else "holds"):
        read_record(tmp_path / "r.hea", start=7000 if fmt == "516" else 0, stop=7010)


def test_a_flat_day_in_flac_is_read_in_parts(tmp_path):
    """Packed to a few kilobytes it is out of all proportion as a whole, and the sentence says what to do."""
    soundfile = pytest.importorskip("soundfile")
    length = 2**24
    with soundfile.SoundFile(tmp_path / "z.flac", "w", 250, 1, "PCM_16", format="FLAC") as stream:
        for _ in range(16):
            stream.write(np.zeros(length // 16, "<i2"))
    (tmp_path / "z.flac").rename(tmp_path / "z.dat")
    (tmp_path / "z.hea").write_text(f"z 1 250 {length}\nz.dat 516 200 16 0 0 0 0 II\n")
    with pytest.raises(LimitError, match="start=… and stop=… read a part"):
        read_record(tmp_path / "z.hea")
    assert not read_record(tmp_path / "z.hea", start=length // 2, stop=length // 2 + 500).signal.any()


def test_a_flac_file_that_ends_early_gives_its_whole_blocks(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    values = np.random.default_rng(0).integers(-500, 500, 20_000).astype("<i2")
    soundfile.write(tmp_path / "r.flac", values, 250, format="FLAC", subtype="PCM_16")
    whole = (tmp_path / "r.flac").read_bytes()
    (tmp_path / "r.hea").write_text("r 1 250 20000\nr.dat 516 200 16 0 0 0 0 II\n")
    (tmp_path / "r.dat").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TruncatedError, match="allow_truncated=True"):
        read_record(tmp_path / "r.hea")
    record = read_record(tmp_path / "r.hea", allow_truncated=True)
    assert record.metadata["flags"] == ["truncated"]
    assert 8_000 < record.num_samples < 10_500
    np.testing.assert_allclose(record.signal[:, 0], values[: record.num_samples] / 200, rtol=1e-6)
    (tmp_path / "r.dat").write_bytes(whole[:200])
    for allowed in (False, True):  # nothing is left: no way out is named
        with pytest.raises(TruncatedError, match=r"holds 0\."):
            read_record(tmp_path / "r.hea", allow_truncated=allowed)
    with pytest.raises(TruncatedError, match=r"10 frames from 12000 on .* holds 0\."):
        read_record(tmp_path / "r.hea", start=12_000, stop=12_010)


@pytest.mark.parametrize("part", [{}, {"start": 1, "stop": 2}])
@pytest.mark.parametrize("fmt", ["16", "24", "516"])
def test_a_signal_file_that_is_a_folder_is_an_error_of_ours(fmt, part, tmp_path):
    (tmp_path / "r.hea").write_text(f"r 1 100 1000\n. {fmt} 200 16 0 0 0 0 II\n")
    with pytest.raises(UnsafePathError, match="regular file"):
        read_record(tmp_path / "r.hea", **part)
