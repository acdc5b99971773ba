import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ecg_transformers.training.classifier import results
from ecg_transformers.training.report import log
from ecg_transformers.training.report.log import Reporter


class FullDisk:
    """A TensorBoard writer on a full disk."""

    def __init__(self, *, fails_at_once: bool) -> None:
        self.fails_at_once = fails_at_once

    def add_scalar(self, *arguments: object) -> None:
        if self.fails_at_once:
            raise OSError(28, "No space left on device")

    def close(self) -> None:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("fails_at_once", [True, False])
def test_tensorboard_on_a_full_disk_is_dropped_with_one_warning(
    tmp_path: Path, monkeypatch, caplog, fails_at_once: bool
) -> None:
    monkeypatch.setattr(log, "_tensorboard_writer", lambda *_: FullDisk(fails_at_once=fails_at_once))
    reporter = Reporter(tmp_path, first_step=0, total_steps=3, progress=False)
    for step in (1, 2, 3):
        reporter.step({"step": step, "loss": 1.0, "lr": 0.1}, 4)
    reporter.close()
    assert caplog.text.count("TensorBoard gets no further figures") == 1
    assert len((tmp_path / "train_log.jsonl").read_text().splitlines()) == 3


def test_closing_hides_no_error_of_the_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(log, "_tensorboard_writer", lambda *_: FullDisk(fails_at_once=False))
    reporter = Reporter(tmp_path, first_step=0, total_steps=3, progress=False)
    reporter.step({"step": 1, "loss": 1.0, "lr": 0.1}, 4)

    def fail() -> None:
        try:
            raise KeyError("the error of the run")
        finally:
            reporter.close()

    with pytest.raises(KeyError, match="the error of the run"):
        fail()


def test_a_test_split_without_a_defined_class_has_no_number_but_a_result() -> None:
    target = np.zeros((6, 2), dtype=np.int8)
    split = SimpleNamespace(
        multi_hot=lambda: target, task_kind="multilabel", label_names=["A", "B"], patient_ids=list("abcdef")
    )
    scores = {0: np.linspace(0.1, 0.9, 12).reshape(6, 2)}
    figures = results.test_metrics(split, scores, {0: [0.5, 0.5]}, n_boot=10)
    assert figures["macro_auroc"]["mean"] is None
    assert figures["n_defined"] == 0
    json.dumps(figures)
