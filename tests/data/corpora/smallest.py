"""The smallest copy of every corpus, in each of its layouts: two records or three, for what holds of all of them."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

MIMIC_LEADS = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]
EXAM = {"age": 54, "is_male": "True", "nn_predicted_age": 51.2, "death": "", "timey": "", "normal_ecg": "False"}
EXAM |= dict.fromkeys(["1dAVb", "RBBB", "LBBB", "SB", "ST", "AF"], "False")


def challenge(names: list[str], folder: str = "training/g1") -> Callable:
    def write(root: Path, layouts: ModuleType) -> None:
        for name in names:
            layouts.write_challenge(root / folder, name)

    return write


def records(names: list[str], num_leads: int = 12, rate: float = 500, marks: str = "") -> Callable:
    """WFDB records of format 16, with annotations of a suffix."""

    def write(root: Path, layouts: ModuleType) -> None:
        import wfdb

        for number, name in enumerate(names):
            leads = ["MLII", "V1"][:num_leads] if num_leads < 12 else None
            samples = layouts.microvolts(number, int(125 * rate) if marks == "apn" else 1000, num_leads)
            layouts.write_wfdb16(root / name, samples, rate=rate, leads=leads)
            if marks:
                places = np.arange(2) * int(60 * rate) if marks == "apn" else np.array([100, 400])
                symbols = ["N", "A"] if marks == "apn" else ["N", "V"]
                wfdb.wrann(name, marks, places, symbols, write_dir=str(root))

    return write


def ludb(root: Path, layouts: ModuleType) -> None:
    for number in (1, 2, 101):  # the last is called as one of MIT-BIH
        layouts.write_wfdb16(root / "data" / str(number), layouts.microvolts(number))
        for lead in layouts.LEADS:
            marks = np.array([39 << 10 | 100, 1 << 10 | 10, 40 << 10 | 10, 0], dtype="<u2")  # the words of ( N )
            marks.tofile(root / "data" / f"{number}.{lead.lower()}")
    layouts.write_table(root / "ludb.csv", [{"ID": number, "Rhythms": "Sinus rhythm"} for number in (1, 2, 101)])


def cinc2017(root: Path, layouts: ModuleType) -> None:
    for name in ("A00001", "A00002", "A00003"):
        layouts.write_challenge(root, name, samples=layouts.microvolts(1, 900, 1), rate=300, leads=["ECG"])
    (root / "REFERENCE-v3.csv").write_text("A00001,N\nA00002,A\nA00003,O\n")


def cpsc2018(root: Path, layouts: ModuleType) -> None:
    import scipy.io

    for number in (1, 2, 3):
        data = {"sex": "Female", "age": 60, "data": layouts.microvolts(number, 600).T / 1000.0}
        scipy.io.savemat(root / f"A000{number}.mat", {"ECG": data})
    (root / "REFERENCE.csv").write_text("Recording,First_label\nA0001,5\nA0002,3\nA0003,7\n")


def chapman(root: Path, layouts: ModuleType) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["FileName", "Rhythm", "Beat", "PatientAge", "Gender"])
    for number in (1, 2, 3):
        name = f"MUSE_20180101_10101{number}_11000"
        book.active.append([name, "SB", "NONE", "66", "FEMALE"])
        lines = [",".join(map(str, row)) for row in layouts.microvolts(number, 500)]
        (root / "ECGData").mkdir(exist_ok=True)
        (root / "ECGData" / f"{name}.csv").write_text("\n".join([",".join(layouts.LEADS), *lines]) + "\n")
    book.save(root / "Diagnostics.xlsx")


def ptb(root: Path, layouts: ModuleType) -> None:
    for number, name in enumerate(["s0010_re", "s0014lre", "s0306lre"]):
        path = root / f"patient00{number + 1}" / name
        layouts.write_wfdb16(path, layouts.microvolts(number), rate=1000, comments="# Reason for admission: n/a\n")


def incart(root: Path, layouts: ModuleType) -> None:
    records(["I01", "I02", "I03"], rate=257, marks="atr")(root, layouts)


def code15(root: Path, layouts: ModuleType) -> None:
    import h5py

    with h5py.File(root / "exams_part0.hdf5", "w") as file:
        file["exam_id"] = np.array([10, 20, 30], dtype=np.int64)
        file["tracings"] = np.array([layouts.microvolts(n, 400) / np.float32(1000) for n in (1, 2, 3)])
    rows = [{"exam_id": exam, "patient_id": exam, "trace_file": "exams_part0.hdf5"} | EXAM for exam in (10, 20, 30)]
    layouts.write_table(root / "exams.csv", rows)


def code15_wfdb(root: Path, layouts: ModuleType) -> None:
    for exam in (10, 20, 30):
        layouts.write_wfdb16(root / str(exam), layouts.microvolts(exam), rate=400, comments=f"# Exam ID: {exam}\n")
    rows = [{"exam_id": exam, "patient_id": exam, "trace_file": "exams_part0.hdf5"} | EXAM for exam in (10, 20, 30)]
    layouts.write_table(root / "exams.csv", rows)


def sph(root: Path, layouts: ModuleType) -> None:
    import h5py

    rows = []
    for number in (1, 2, 3):
        with h5py.File(root / f"A0000{number}.h5", "w") as file:
            file["ecg"] = (layouts.microvolts(number, 800) / 1000).T.astype(np.float16)
        rows.append({"ECG_ID": f"A0000{number}", "AHA_Code": "22", "Patient_ID": f"S{number}", "N": 800})
    layouts.write_table(root / "metadata.csv", rows)


def mimic_iv_ecg(root: Path, layouts: ModuleType) -> None:
    rows = []
    for number in (1, 2, 3):
        subject, study = 10000000 + number, 40000000 + number
        path = f"files/p1000/p{subject}/s{study}/{study}"
        layouts.write_wfdb16(root / path, layouts.microvolts(number), leads=MIMIC_LEADS)
        rows.append({"subject_id": subject, "study_id": study, "ecg_time": "2180-05-01 08:00:00", "path": path})
    layouts.write_table(root / "record_list.csv", rows)
    reports = [{**row, "report_0": "Sinus rhythm"} for row in rows]
    layouts.write_table(root / "machine_measurements.csv", reports)


def brugada_huca(root: Path, layouts: ModuleType) -> None:
    people = (188981, 251972, 267630)
    for patient in people:
        layouts.write_wfdb16(root / f"files/{patient}/{patient}", layouts.microvolts(patient, 1200), rate=100)
    rows = [{"patient_id": p, "basal_pattern": 0, "sudden_death": 0, "brugada": p % 2} for p in people]
    layouts.write_table(root / "metadata.csv", rows)


def echonext(root: Path, layouts: ModuleType) -> None:
    from ecg_transformers.data.corpora.echonext import FLAGS

    rows = []
    for number, part in enumerate(["train", "val", "test"]):
        rows.append({"ecg_key": f"E{number}", "patient_key": number, "split": part} | dict.fromkeys(FLAGS, 0))
        np.save(root / f"EchoNext_{part}_waveforms.npy", layouts.microvolts(number, 2500)[None, None] / 1000.0)
    layouts.write_table(root / "echonext_metadata_100k.csv", rows)


def folder(root: Path, layouts: ModuleType) -> None:
    records(["a", "b", "c"])(root, layouts)
    (root / "labels.csv").write_text("file,label\na,x\nb,y\nc,x\n")


def ptb_xl(root: Path, layouts: ModuleType) -> None:
    rows = []
    for number in (1, 2, 3):
        file = f"records100/00000/0000{number}_lr"
        layouts.write_wfdb16(root / file, layouts.microvolts(number), rate=100)
        row = {"ecg_id": number, "patient_id": number, "scp_codes": "{'NORM': 100.0}", "strat_fold": 7 + number}
        rows.append({**row, "filename_lr": file, "filename_hr": f"records500/00000/0000{number}_hr"})
    layouts.write_table(root / "ptbxl_database.csv", rows)
    statement = {"": "NORM", "diagnostic": 1.0, "form": "", "rhythm": "", "diagnostic_class": "NORM"}
    layouts.write_table(root / "scp_statements.csv", [{**statement, "diagnostic_subclass": "NORM"}])


SMALLEST: dict[str, tuple[str, Callable]] = {
    "folder": ("folder", folder),
    "ptb_xl": ("ptb_xl", ptb_xl),
    "mitdb": ("mitdb", records(["100", "101", "106"], 2, 360, "atr")),
    "apnea_ecg": ("apnea_ecg", records(["a01", "a02", "x01"], 1, 100, "apn")),
    "ludb": ("ludb", ludb),
    "cpsc2018": ("cpsc2018", cpsc2018),
    "cpsc2018 of the Challenges": ("cpsc2018", challenge(["A0001", "A0002", "A0003"])),
    "cinc2017": ("cinc2017", cinc2017),
    "cinc2020": ("cinc2020", challenge(["A0001", "Q0001", "HR00001"])),
    "cinc2021": ("cinc2021", challenge(["A0001", "JS00001", "JS10647"])),
    "chapman": ("chapman", chapman),
    "chapman of the Challenges": ("chapman", challenge(["JS00001", "JS00002", "JS00004"])),
    "ningbo": ("ningbo", challenge(["JS10647", "JS10648", "JS10649"])),
    "georgia": ("georgia", challenge(["E00001", "E00002", "E00003"])),
    "ptb": ("ptb", ptb),
    "ptb of the Challenges": ("ptb", challenge(["S0001", "S0002", "S0003"])),
    "incart": ("incart", incart),
    "incart of the Challenges": ("incart", challenge(["I0001", "I0002", "I0003"])),
    "cpsc_extra": ("cpsc_extra", challenge(["Q0001", "Q0002", "Q0003"])),
    "code15": ("code15", code15),
    "code15 of the Challenge 2025": ("code15", code15_wfdb),
    "sph": ("sph", sph),
    "mimic_iv_ecg": ("mimic_iv_ecg", mimic_iv_ecg),
    "brugada_huca": ("brugada_huca", brugada_huca),
    "echonext": ("echonext", echonext),
}
"""By layout: the corpus and what writes its files below a folder."""
