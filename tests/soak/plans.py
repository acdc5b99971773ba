"""A layout of MIMIC-IV-ECG with hundreds of thousands of tiny records: planned and built in time that grows with it.

python tests/soak/plans.py [--records 200000] [--only NAME]        (or: make soak)
"""

import argparse
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

MOST_TIMES = 12  # for ten times the records
MOST_BYTES = 2**30  # of the peak of a process, imports included
LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
SAMPLES = 10
FINDINGS = (
    "Sinus rhythm",
    "ATRIAL FIBRILLATION.",
    "Probable inferior infarct - age undetermined",
    "Left bundle branch block",
    "Normal ECG",
    "--- Warning: Data quality may affect interpretation ---",
    "",
)


def write_layout(root: Path, records: int) -> None:
    """Two records a patient, all of them there, with both tables."""
    draw = random.Random(0)
    signal_lines = "".join(f"%d.dat 16 200.0(0)/mV 16 0 0 0 0 {lead}\n" for lead in LEADS)
    root.mkdir()
    listed = ["subject_id,study_id,file_name,ecg_time,path\n"]
    reports = ",".join(f"report_{number}" for number in range(18))
    numbers = "rr_interval,p_onset,p_end,qrs_onset,qrs_end,t_end,p_axis,qrs_axis,t_axis"
    rows = []
    for number in range(records):
        subject, study = 10_000_000 + number // 2 * 37, 40_000_000 + number
        path = f"files/p{str(subject)[:4]}/p{subject}/s{study}/{study}"
        (root / path).parent.mkdir(parents=True)
        head = f"{study} 12 500 {SAMPLES} 08:00:00 01/05/2180\n" + signal_lines.replace("%d", str(study))
        (root / f"{path}.hea").write_text(f"{head}# {subject}: 2180\n")
        (root / f"{path}.dat").write_bytes(bytes(2 * SAMPLES * len(LEADS)))
        when = f"21{draw.randrange(10, 99)}-05-01 08:00:00"
        listed.append(f"{subject},{study},{study},{when},{path}\n")
        said = ",".join([*draw.choices(FINDINGS, k=5), f"rate {number}"])
        rows.append(
            f"{subject},{study},1,{when},{said},{',' * 12}0.005-150 Hz,60 Hz notch,{number},29999,1,2,3,4,5,6,7\n"
        )
    draw.shuffle(rows)
    (root / "record_list.csv").write_text("".join(listed))
    columns = f"subject_id,study_id,cart_id,ecg_time,{reports},bandwidth,filtering,{numbers}\n"
    (root / "machine_measurements.csv").write_text("".join([columns, *rows]))


def plan(root: Path) -> int:
    from ecg_transformers.data.corpora import make_corpus

    return make_corpus("mimic_iv_ecg", root, {}).plan().num_items


def key(root: Path) -> int:
    from ecg_transformers.data.building.build import cache_key
    from ecg_transformers.data.building.plan import plan_of
    from ecg_transformers.data.corpora import make_corpus

    corpus = make_corpus("mimic_iv_ecg", root, {})
    whole = plan_of(corpus)
    cache_key(corpus, whole, 0.01)
    return whole.num_items


def streamed(root: Path) -> int:
    """The first record; the plan alone counts them all."""
    from ecg_transformers.data.loading import load_ecg_dataset

    rows = load_ecg_dataset("mimic_iv_ecg", root, split="train", streaming=True)
    return len(next(iter(rows))["lead_names"]) // len(LEADS)


def built(root: Path) -> int:
    from ecg_transformers.data.loading import load_ecg_dataset

    return sum(map(len, load_ecg_dataset("mimic_iv_ecg", root).values()))


def built_again(root: Path) -> int:
    return built(root)


PARTS: tuple[Callable[[Path], int], ...] = (plan, key, streamed, built, built_again)


def measured(part: Callable[[Path], int], root: Path, records: int) -> tuple[float, float, int]:
    """Seconds, CPU seconds and peak bytes of a part in a process of its own, which finds every record."""
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        found = -1
        try:
            found = part(root)
        finally:
            os._exit(0 if found in (records, 1) else 1)
    _, status, usage = os.wait4(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, f"{part.__name__} of {records} records failed"
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--only", choices=[part.__name__ for part in PARTS])
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="plans-"))
    os.environ["ECG_CACHE_DIR"] = str(folder / "cache")
    sizes = (options.records // 10, options.records)
    for size in sizes:
        write_layout(folder / str(size), size)
    import datasets  # noqa: F401  what is imported once is no part of the times

    import ecg_transformers.data.building.builder
    import ecg_transformers.data.loading  # noqa: F401

    good = True
    for part in PARTS:
        if options.only not in (None, part.__name__):
            continue
        few, many = (measured(part, folder / str(size), size) for size in sizes)
        times = many[1] / few[1]  # of the CPU: the clock also measures what else the machine does
        passed = times <= MOST_TIMES and many[2] <= MOST_BYTES
        good &= passed
        print(
            f"{'pass' if passed else 'FAIL'}  {part.__name__}: {sizes[0]:,} records {few[0]:.1f} s, {few[1]:.1f} s CPU, "
            f"{few[2] / 2**20:.0f} MiB; {sizes[1]:,} records {many[0]:.1f} s, {many[1]:.1f} s CPU, "
            f"{many[2] / 2**20:.0f} MiB; {times:.1f} times",
            flush=True,
        )
    shutil.rmtree(folder)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
