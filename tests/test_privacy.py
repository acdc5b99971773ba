"""Nothing that identifies a patient is in what any verb writes or says by default, training and its cache included."""

import importlib.util
import io
import json
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ecg_transformers.cli import main
from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.data.loading import load_ecg_dataset
from ecg_transformers.data.readers import read_record
from ecg_transformers.data.readers.clinical.identity import Patient
from ecg_transformers.data.readers.clinical.record import MAX_OF_ALL
from ecg_transformers.models.registry import get_method
from tests.support.small_runs import overrides
from tests.support.xecg_files import small_model

PATIENTS = 12


@pytest.fixture
def hospital(monkeypatch, tmp_path):
    """The writers of small hospital files; a patient is given by `of_patient`."""
    pytest.importorskip("pydicom", reason="hospital formats need the extra [clinical]")
    pytest.importorskip("defusedxml", reason="hospital formats need the extra [clinical]")
    monkeypatch.setenv("ECG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ECG_IDENTITY_KEY", raising=False)
    place = Path(__file__).resolve().parent / "data" / "readers" / "hospital_files.py"
    spec = importlib.util.spec_from_file_location("hospital_files_of_many", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_patient(hospital, number):
    """Let the writers write for another invented patient; the words that identify this one."""
    hospital.ID, hospital.LAST, hospital.FIRST = (
        f"Zx-809{number:02d}",
        f"Brombach{number:02d}",
        f"Wendeline{number:02d}",
    )
    hospital.BIRTH = f"1943{number:02d}11"
    hospital.STATEMENTS = ["Sinus rhythm", f"Old infarct of {hospital.LAST}"]
    dates = [f"1943-{number:02d}-11", f"{number:02d}-11-1943", f"11.{number:02d}.1943", f"{number:02d}/11/1943"]
    return [hospital.ID, hospital.LAST, hospital.FIRST, hospital.BIRTH, *dates, "Dr. Kasimir"]


@pytest.fixture
def folder(hospital, tmp_path):
    """A folder of mixed formats with a table of labels, and every word that must not appear anywhere."""
    target, words, rows = tmp_path / "records", [], ["file,label"]
    target.mkdir()
    for number in range(1, PATIENTS + 1):
        words += of_patient(hospital, number)
        files = hospital.cart_files(1000)
        for name, content, *_ in [files[number % len(files)], files[(number + 1) % len(files)]]:
            (target / f"{number:02d}_{name}").write_bytes(content)
            rows.append(f"{number:02d}_{name},{'sinus' if number % 2 else 'other'}")
    (target / "labels.csv").write_text("\n".join(rows) + "\n")
    return target, sorted(set(words))


def written_under(root):
    """Everything that lies in a folder as text, tables opened (parquet is compressed); the records themselves left out."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and "records" not in path.relative_to(root).parts:
            text = path.read_bytes().decode("utf-8", "replace")
            yield (
                path,
                text + (json.dumps(pq.read_table(path).to_pylist(), default=str) if path.suffix == ".parquet" else ""),
            )


def test_no_verb_writes_or_says_who_the_patient_is(folder, hospital, tmp_path, capfd, caplog):
    records, words = folder
    one = sorted(map(str, records.glob("01_*")))
    broken = records / "12_broken.dcm"
    broken.write_bytes(hospital.dicom(hospital.ecg_counts(1000))[:-5000])
    encoder, tuned, out = tmp_path / "encoder", tmp_path / "tuned", tmp_path / "out"
    small_model(patch_size=25).save_pretrained(encoder)
    caplog.set_level("INFO")

    assert main(["info", str(broken)]) == 2
    assert main(["predict", str(broken), "--model", str(encoder)]) != 0
    broken.unlink()
    assert main(["check", str(records), "--json"]) == 0
    common = ["--dataset", "folder", "--data_dir", str(records), "--max_steps", "2", "--per_device_batch_size", "4"]
    common += ["--no_tensorboard", "--threads", "1", "--cpu"]
    tuning = ["finetune", "--model_name_or_path", str(encoder), *common, "--output_dir", str(tuned), "--n_boot", "10"]
    assert main([*tuning, "--evaluations", "1"]) == 0
    tiny = ["--config_overrides", overrides(dict(get_method("st_mem").tiny_config))]
    assert main(["pretrain", "--method", "st_mem", *common, *tiny, "--output_dir", str(tmp_path / "learned")]) == 0
    assert main(["info", one[0], "--json"]) == 0
    for index, path in enumerate(one):
        assert main(["plot", path, "-o", str(tmp_path / f"{index}.svg")]) == 0
    assert main(["predict", *one, "--model", str(tuned), "-o", str(tmp_path / "answers.csv")]) == 0
    assert main(["predict", *one, "--model", str(tuned), "--json"]) == 0
    assert main(["embed", str(records), "--model", str(encoder), "-o", str(tmp_path / "features.parquet")]) == 0
    assert main(["convert-record", *one, "-o", str(out)]) == 0
    parts = load_ecg_dataset("folder", records)
    rows = [dict(row) for part in parts.values() for row in part]
    said = json.dumps(rows, default=str) + caplog.text + "".join(capfd.readouterr())

    found = {word for word in words if word in said}
    found |= {
        (str(path.relative_to(tmp_path)), word)
        for path, text in written_under(tmp_path)
        for word in words
        if word in text
    }
    assert found == set()
    assert {"run.json", "README.md", "train_log.jsonl"} <= {path.name for path in (tmp_path / "learned").iterdir()}
    names = {path.name for path, _ in written_under(tmp_path)}
    assert {"predictions.parquet", "run.json", "README.md", "train_log.jsonl", "metrics.json", "0.svg"} <= names
    assert main(["convert-record", *one, "-o", str(tmp_path / "kept"), "--keep_identity"]) == 0
    kept = "".join(text for _, text in written_under(tmp_path / "kept"))
    assert "Brombach01" in kept  # it is found where it is
    stand_ins = {
        name: set(part["patient_id"]) for name, part in parts.items()
    }  # hidden, and still one patient in one part
    assert sum(map(len, stand_ins.values())) == PATIENTS
    assert set(pq.read_table(tuned / "predictions.parquet").column("patient_id").to_pylist()) == stand_ins["test"]


SPELLINGS = {
    "dates": "11.7.1943|7/11/1943|11 Jul 1943|July 11, 1943|11th of July 1943|1943.07.11|11.07.43|1943-07-11T06:30:00|19430711|"
    "19430711063000|11. Juli 43|11-JUL-1943|11JUL1943|11.VII.1943|11 juillet 1943|11 de julio de 1943|1943年7月11|11. 7. 1943|"
    "430711|Jul 1943|07/1943",
    "names": "Brömbach|BROMBACH|Broembach|Brombachs|Brömbach's|Brombach_Wendeline|WendelineBroembach|wbrombach|Bro\u0308mbach",
    "ids": "Zx-80917|ZX80917|zx 80917|Zx-0080917|80917|0080917|Zx.80917|ACC-2019-000123|acc2019123|OLD 55512",
    "others": "Dr. Kasimir|KASIMIR, Ada|Kowalski|von Tellheim|Klinikum Musterstadt|Musterstadt|Seestraße 7|SEESTRASSE 7|Aylin",
}
SAID = (
    "Sinus rhythm, left bundle branch block, QT 400 ms, 12 leads, 22.08.2019, anterior ST elevation in V1-V6, 76 years"
)


@pytest.mark.parametrize("kind", SPELLINGS)
def test_free_text_hides_every_spelling_of_what_identifies(kind):
    patient = Patient(
        id="Zx-0080917",
        names=["Brömbach", "Wendeline"],
        birth_date="1943-07-11",
        others={"AccessionNumber": "ACC-2019-000123", "OtherPatientIDs": "OLD-55512", "tech": "kowalski01"}
        | {"ReferringPhysicianName": "Kasimir^Ada", "ResponsiblePerson": "Freifrau von Tellheim^Aylin"},
        places={"InstitutionName": "St. Elisabeth Klinikum Musterstadt", "PatientAddress": "Seestraße 7"},
    )
    for spelling in SPELLINGS[kind].split("|"):
        hidden = patient.hide_in(f"Old infarct ({spelling}) of 2019")
        left = hidden.replace("Old infarct (", "").replace(") of 2019", "").replace("[hidden]", "")
        assert left.strip(" _'’s.日7") in ("", "Dr", "von", "Klinikum", "-01"), spelling
    assert patient.hide_in(SAID) == SAID


def test_names_that_texts_are_full_of_are_hidden_beside_others_of_the_same_name():
    patient = Patient(id="12-abc-1990", names=["Low", "Van", "May"])
    said = patient.hide_in(["Mr. Van Low, May: low voltage of the wall, may be old. Low P wave", "May"])
    assert said == ["Mr. [hidden], [hidden]: low voltage of the wall, may be old. Low P wave", "[hidden]"]


REPORT = (
    "Normal sinus rhythm. Nonspecific ST changes. No acute ST elevation, ANTERIOR OR LATERAL ischemia may be an old finding, "
    "first degree AV block, P-R-T axes 60 5 30, QRS 120 ms, QT/QTc 372/419, T wave 1.20 s, coronary disease, pacemaker ECG"
)


@pytest.mark.parametrize(
    "who",
    [
        *(
            {"names": [name, "Quellmann"]}
            for name in ("Norma", "Chang", "No", "Or", "May", "An", "Av", "Wav", "Te Ch", "S Inus")
        ),
        *({"id": name, "names": [name]} for name in ("May", "Or")),
        *(
            {"places": {"at": place}}
            for place in ("Acute Medical Unit", "12 First Avenue", "Coronary Care Unit", "120")
        ),
        *({"others": {"by": name}} for name in ("ECG TECH", "Pacemaker Clinic 2")),
        *({"id": number} for number in ("372", "120", "0000120", "372419", "20", "00372")),
        {"birth_date": "1960-05-30"},
    ],
    ids=str,
)
def test_no_name_number_or_date_costs_a_report_its_words(who):
    assert Patient(**who).hide_in([REPORT, {"QTInterval": "372", "QRSDuration": "120 ms"}]) == [
        REPORT,
        {"QTInterval": "372", "QRSDuration": "120 ms"},
    ]


@pytest.mark.parametrize(
    ("who", "said"),
    [
        ({"names": ["No", "Brombach"]}, "Brombach No|No, Brombach|Brombachs"),
        ({"names": ["No", "Ji-won"]}, "No, Ji-won|Ji-won No|Mr. No"),
        ({"id": "0000120"}, "0000120|Patient 120|#120|Pat.-Nr. 120"),
        ({"id": "372419"}, "372419|372-419|0372419"),
        ({"id": "372/419"}, "372/419"),
        ({"places": {"at": "12 First Avenue"}}, "12 First Avenue|12, first avenue"),
        ({"birth_date": "1960-05-30"}, "30.5.60|1960 5 30|30 5 1960|May, 30th of 1960|Mai 60|30. 5. 60|600530"),
    ],
    ids=str,
)
def test_the_same_are_hidden_where_they_tell_who_it_is(who, said):
    patient = Patient(**who)
    for text in said.split("|"):
        hidden = patient.hide_in(f"told of {text} by all")
        assert hidden.replace("Mr. ", "").replace("Patient ", "").replace("#", "").replace("Pat.-Nr. ", "") == (
            "told of [hidden] by all"
        ), text


@pytest.mark.parametrize(
    ("who", "text"),
    [
        ({"names": [" ".join("李" * size + "伟" for size in range(2, 700))]}, "李" * 4000),
        ({"names": ["a-" * 60_000 + "b"]}, "a-" * 40_000),
        ({"birth_date": "1960-05-30"}, "1 1 1 60 " * 10_000),
        ({"names": ["No " * 20_000 + "b"]}, "No " * 10_000),
        ({"id": "1 " * 5000 + "2", "birth_date": "1960-05-30"}, "1 " * (MAX_OF_ALL // 2)),
    ],
    ids=["without case", "pieces", "numbers", "ordinary", "beginnings"],
)
def test_hiding_takes_no_longer_for_texts_that_nearly_fit(who, text):
    started = time.process_time()
    Patient(**who).hide_in(text)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("count", [1000, 200_000])
def test_hiding_is_linear_in_names_and_text_and_too_many_names_withhold_the_text(count):
    patient = Patient(names=["Quellmann " + " ".join(f"Na{number:06}x" for number in range(count))])
    started = time.process_time()
    hidden = patient.hide_in(["Sinus rhythm at V1, some words here, Quellmann "] * 1000)
    assert time.process_time() - started < 3
    assert len(set(hidden)) == 1
    assert ("Sinus" in hidden[0], "Quellmann" in hidden[0]) == (count == 1000, False)


FURTHER_IDS = """
StudyID AdmissionID ServiceEpisodeID MedicalRecordLocator InsurancePlanIdentification ReferringPhysicianTelephoneNumbers
OrderCallbackPhoneNumber RequestedProcedureID ScheduledProcedureStepID PerformedProcedureStepID ClinicalTrialSubjectID
PlacerOrderNumberImagingServiceRequest FillerOrderNumberImagingServiceRequest ClinicalTrialSubjectReadingID
SpecimenAccessionNumber
"""
FURTHER_PLACES = """
InstitutionAddress ReferringPhysicianAddress RegionOfResidence CountryOfResidence CurrentPatientLocation
PatientInstitutionResidence ScheduledPatientInstitutionResidence StationName PerformedStationName ScheduledStationName
PerformedLocation ScheduledProcedureStepLocation RequestedProcedureLocation RequestingService IssuerOfPatientID
OrderEntererLocation ClinicalTrialSiteName
"""


def test_who_is_named_anywhere_in_a_dicom_file_is_hidden_in_its_texts(hospital, tmp_path):
    """The attributes of the basic profile of DICOM PS3.15, of persons (PN) all, nested ones too."""
    pydicom = pytest.importorskip("pydicom", reason="hospital formats need the extra [clinical]")
    told = {
        "OtherPatientNames": "Vorname^Otilie",
        "OtherPatientIDs": "OLD-55512",
        "ResponsiblePerson": "Tellheim^Minna",
        "PatientMotherBirthName": "Quellmann",
        "InstitutionName": "Klinikum Musterstadt",
        "InstitutionalDepartmentName": "Abteilung Zwiebelturm",
        "AccessionNumber": "ACC2019000123",
        "PatientAddress": "Seestrasse 7",
        "PatientTelephoneNumbers": "07531 445566",
        "NameOfPhysiciansReadingStudy": "Wolkenstein^Oswald",
        "DeviceSerialNumber": "SN98765",
    }
    told |= {keyword: f"OTHER-{number:03}-ID" for number, keyword in enumerate(FURTHER_IDS.split())}
    told |= {keyword: f"Haus {number:03} Weiher" for number, keyword in enumerate(FURTHER_PLACES.split())}
    item = pydicom.Dataset()
    item.PatientID, item.PersonName = "NESTED-4242", "Hohenfels^Burkhart"
    texts = [text.replace("^", " ") for text in (*told.values(), item.PatientID, str(item.PersonName))]
    hospital.STATEMENTS = ["Sinus rhythm", *(f"told by {text}, seen" for text in texts)]
    file = pydicom.dcmread(io.BytesIO(hospital.dicom(hospital.ecg_counts(40))))
    for keyword, value in told.items():
        setattr(file, keyword, value)
    file.OtherPatientIDsSequence = [item]
    file.save_as(tmp_path / "r.dcm")
    statements = read_record(tmp_path / "r.dcm").metadata["statements"]
    assert statements == ["Sinus rhythm", *["told by [hidden], seen"] * len(texts)]


def test_lead_names_of_an_edf_file_hide_the_patient(hospital, tmp_path):
    content = hospital.edf(hospital.ecg_counts(200, ["II", "V5"]))
    content = content.replace(b"II".ljust(16), b"ECG Brombach II".ljust(16)[:16], 1)
    (tmp_path / "r.edf").write_bytes(content)
    record = read_record(tmp_path / "r.edf")
    assert "Brombach" not in json.dumps([record.lead_names, record.metadata])
    assert record.lead_names[1] == "V5"


@pytest.mark.parametrize(
    ("writer", "old", "new"),
    [
        ("edf", b"uV      ", b"Zx-80917"),
        ("edf", b"ECG II          ", b"Brombach Zx-8091"),
        ("aecg", b'code="RHYTHM"', b'code="of Brombach and Wendeline Zx"'),
        ("aecg", b'unit="s"', b'unit="Brombach"'),
        ("aecg", b'<scale value="5" unit="uV"', b'<scale value="Wendeline" unit="uV"'),
        ("muse", b"<WaveformType>Rhythm", b"<WaveformType>of Frau Brombach Wendeline"),
        ("muse", b"MICROVOLTS", b"Brombach"),
        ("philips", "sion>1.04".encode("utf-16-le"), "sion>9 Wendeline Brombach".encode("utf-16-le")),
    ],
)
def test_error_sentences_hide_what_they_quote(hospital, tmp_path, writer, old, new):
    hospital.STATEMENTS = ["Sinus rhythm"]
    content = getattr(hospital, writer)(hospital.ecg_counts(200, ["II", "V5"] if writer == "edf" else hospital.LEADS))
    assert old in content
    content = content.replace(old, new).replace(b"uV      ", b"        ")
    (tmp_path / "r").write_bytes(content)
    with pytest.raises(ECGDataError) as caught:
        read_record(tmp_path / "r")
    said = str(caught.value).partition(": ")[2] + repr(caught.value.lead) + caught.value.reason
    assert "[hidden]" in said
    assert not [word for word in ("Bromb", "Wen", "8091") if word in said]
    assert caught.value.__cause__ is None
    with pytest.raises(ECGDataError) as caught:
        read_record(tmp_path / "r", keep_identity=True)
    assert "[hidden]" not in str(caught.value)


def test_channel_labels_of_a_dicom_file_are_hidden_in_errors(hospital, tmp_path):
    pydicom = pytest.importorskip("pydicom", reason="hospital formats need the extra [clinical]")
    file = pydicom.dcmread(io.BytesIO(hospital.dicom(hospital.ecg_counts(40))))
    channel = file.WaveformSequence[0].ChannelDefinitionSequence[0]
    del channel.ChannelSourceSequence, channel.ChannelSensitivityUnitsSequence
    channel.ChannelLabel = "Brombach Zx-8091"
    file.save_as(tmp_path / "r.dcm")
    with pytest.raises(ECGDataError, match=r"lead '\[hidden\]") as caught:
        read_record(tmp_path / "r.dcm")
    assert "Brombach" not in str(caught.value)
