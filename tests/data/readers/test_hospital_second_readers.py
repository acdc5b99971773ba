"""Every reader of a hospital format against a second one on the same file: equal to one count, differences explained."""

import csv
import re
import shutil
import subprocess

import numpy as np
import pytest

from ecg_transformers.data.readers import read_record

ecgdatakit = pytest.importorskip("ecgdatakit", reason="the second reader, in the extra [dev]")

PARSERS = {
    "a.dcm": ("dicom_waveform", "DICOMWaveformParser"),
    "b.xml": ("hl7_aecg", "HL7aECGParser"),
    "c.xml": ("sierra_xml", "SierraXMLParser"),
    "d.xml": ("ge_muse_xml", "MUSEXMLParser"),
    "e.scp": ("scp_ecg", "SCPECGParser"),
    "f.ecg": ("ishne_holter", "ISHNEHolterParser"),
}


def by_ecgdatakit(path):
    """Millivolts by lead. The second reader gives each lead in the unit that it names."""
    record = ecgdatakit.FileParser().parse(path)
    factor = {"mV": 1.0, "uV": 1e-3, "µV": 1e-3, "nV": 1e-6, "V": 1e3}
    return {lead.label: np.asarray(lead.samples, float) * factor[lead.units] for lead in record.leads}


@pytest.mark.parametrize("name", PARSERS)
def test_ecgdatakit_reads_the_same(name, hospital, tmp_path):
    made = {file[0]: file for file in hospital.every_format()}[name]
    (tmp_path / name).write_bytes(made[1])
    own, second = read_record(tmp_path / name), by_ecgdatakit(tmp_path / name)
    steps = np.broadcast_to(np.asarray(made[3]) / 1000, (own.num_leads,))
    assert set(own.lead_names) <= set(second)
    for place, lead in enumerate(own.lead_names):
        np.testing.assert_allclose(own.signal[:, place], second[lead], rtol=0, atol=1.01 * steps[place], err_msg=lead)


def test_scp_reference_beats_as_ecgdatakit_adds_them(hospital, tmp_path):
    counts = hospital.ecg_counts(600)
    content = hospital.scp(counts, beat=(counts[100:200] // 2, 10_000, [(101, 151, 200), (301, 351, 399)]))
    (tmp_path / "r.scp").write_bytes(content)
    own, second = read_record(tmp_path / "r.scp"), by_ecgdatakit(tmp_path / "r.scp")
    for place, lead in enumerate(own.lead_names):
        np.testing.assert_allclose(own.signal[:, place], second[lead], rtol=0, atol=1e-5, err_msg=lead)


def test_sierraecg_unpacks_the_same_counts(hospital, tmp_path):
    sierraecg = pytest.importorskip("sierraecg", reason="a second reader of Philips XML, in the extra [dev]")
    (tmp_path / "c.xml").write_bytes(hospital.philips(hospital.ecg_counts(500)))
    leads = {lead.label: np.asarray(lead.samples) for lead in sierraecg.read_file(str(tmp_path / "c.xml")).leads}
    own = read_record(tmp_path / "c.xml")
    for place, lead in enumerate(own.lead_names):
        np.testing.assert_array_equal(np.rint(own.signal[:, place] / 0.005), leads[lead], err_msg=lead)


@pytest.mark.parametrize("width", [2, 3])
def test_edfio_reads_the_same(width, hospital, tmp_path):
    edfio = pytest.importorskip("edfio", reason="the second reader of EDF and BDF, in the extra [edf]")
    path = tmp_path / "r.edf"
    path.write_bytes(hospital.edf(hospital.ecg_counts(500, ["II", "V5"]), width=width))
    file = (edfio.read_edf if width == 2 else edfio.read_bdf)(path)
    own = read_record(path)
    for place, signal in enumerate(file.signals):
        np.testing.assert_allclose(own.signal[:, place], signal.data / 1000, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["a.dcm", "e.scp", "g.edf", "h.bdf"])
def test_biosig_reads_the_same(name, hospital, tmp_path):
    """Of our ISHNE files it finds four samples, and it opens none of our XML: it calls the first an experiment."""
    program = shutil.which("save2gdf")
    if program is None:
        pytest.skip("no save2gdf here: biosig-tools is a system package")
    made = {file[0]: file for file in [*hospital.every_format(), *hospital.cart_files()]}[name]
    (tmp_path / name).write_bytes(made[1])
    subprocess.run([program, "-CSV", name, "biosig.csv"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    with open(tmp_path / "biosig.csv", newline="", encoding="utf-8", errors="replace") as table:
        head, *rows = csv.reader(table)
    own = read_record(tmp_path / name)
    factors = [{"uV": 1e-3, "nV": 1e-6, "mV": 1.0}[re.search(r"\[(.*)\]", column)[1]] for column in head]
    np.testing.assert_allclose(own.signal, np.asarray(rows, float) * factors, rtol=1e-5, atol=1e-5)


def test_pydicoms_own_waveform_file():
    """The one waveform that ships with pydicom: 12 leads of 10 s at 1000 Hz, 1.25 microvolts a count."""
    pydicom = pytest.importorskip("pydicom", reason="hospital formats need the extra [clinical]")
    from pydicom.data import get_testdata_file

    path = get_testdata_file("waveform_ecg.dcm", download=False)
    if path is None:
        pytest.skip("this pydicom ships no waveform")
    own = read_record(path)
    truth = pydicom.dcmread(path).waveform_array(0) / 1000  # microvolts
    assert own.signal.shape == (10000, 12)
    np.testing.assert_allclose(own.signal, truth, rtol=0, atol=1e-4)
