"""Classify every record of a folder with a trained classifier and write one table.

    python examples/predict_folder.py MODEL RECORDS_FOLDER scores.csv

MODEL is a folder that `finetune_classification.py` wrote, or a Hub repository. A file that cannot be read is named and left
out. For research only: this is not a medical device.
"""

import csv
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is loaded: waiting threads leave the cores to others

from transformers import pipeline

import ecg_transformers  # noqa: F401  (registers the task)

ENDINGS = (".hea", ".mat", ".npz", ".csv", ".edf")


def main(model: str, folder: str, table: str) -> None:
    classify = pipeline("ecg-classification", model=model)
    rows, failed = [], 0
    for path in sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in ENDINGS):
        try:
            scores = classify(str(path), top_k=None)
        except (ValueError, OSError) as error:
            failed += 1
            print(f"left out: {error}", file=sys.stderr)
            continue
        rows.append({"file": str(path.relative_to(folder)), **{entry["label"]: entry["score"] for entry in scores}})
    names = list(dict.fromkeys(name for row in rows for name in sorted(row, key=lambda name: name != "file")))
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} records in {table}, {failed} left out")


if __name__ == "__main__":
    main(*sys.argv[1:])
