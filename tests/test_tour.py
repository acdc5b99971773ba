"""The tour in pictures: its code runs, makes the pictures that it shows, and they are small."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from ecg_transformers.models.registry import get_method

ROOT = Path(__file__).resolve().parents[1]
TOUR = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
PICTURES = re.findall(r"\]\((images/tour_\w+\.png)\)", TOUR)


def test_the_code_of_the_tour_makes_its_pictures(tmp_path: Path) -> None:
    """On untrained models in place of those that the tour trains first."""
    method = get_method("st_mem")
    for folder, role in (("pretrained", "pretraining"), ("tuned", "classification")):
        config = method.config_class(**{**method.tiny_config, "num_labels": 3})
        method.model_classes[role](config).save_pretrained(tmp_path / folder)
    rng = np.random.default_rng(0)
    table = {"patient_id": [str(number) for number in range(40)]}
    for name in ("AF", "PVC"):
        table |= {f"y_true_{name}": rng.integers(0, 2, 40), f"y_score_{name}": rng.random(40)}
    pd.DataFrame(table).to_parquet(tmp_path / "tuned" / "predictions.parquet")
    code = "\n".join(re.findall(r"```python\n(.*?)```", TOUR, re.DOTALL)).replace("num_records=1000", "num_records=240")
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "95 % interval" in result.stdout
    assert len(PICTURES) >= 5
    assert all((tmp_path / Path(name).name).stat().st_size > 5000 for name in PICTURES)


def test_the_pictures_of_the_tour_are_small() -> None:
    assert all((ROOT / "docs" / name).stat().st_size < 150_000 for name in PICTURES)
