from pathlib import Path

import pytest
import torch.utils.tensorboard

from ecg_transformers.training.report.log import Reporter, time_in_words


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
    monkeypatch.setattr(
        torch.utils.tensorboard, "SummaryWriter", lambda *_, **__: FullDisk(fails_at_once=fails_at_once)
    )
    reporter = Reporter(tmp_path, first_step=0, total_steps=3)
    for step in (1, 2, 3):
        reporter.step({"step": step, "loss": 1.0, "lr": 0.1}, 4)
    reporter.close()
    assert caplog.text.count("TensorBoard gets no further figures") == 1
    assert len((tmp_path / "train_log.jsonl").read_text().splitlines()) == 3


def test_closing_hides_no_error_of_the_run(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.utils.tensorboard, "SummaryWriter", lambda *_, **__: FullDisk(fails_at_once=False))
    reporter = Reporter(tmp_path, first_step=0, total_steps=3)
    reporter.step({"step": 1, "loss": 1.0, "lr": 0.1}, 4)

    def fail() -> None:
        try:
            raise KeyError("the error of the run")
        finally:
            reporter.close()

    with pytest.raises(KeyError, match="the error of the run"):
        fail()


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (99, "99 s"), (754, "13 min"), (12_000, "3 h 20 min")])
def test_the_time_left_is_told_as_people_say_it(seconds, words):
    assert time_in_words(seconds) == words
