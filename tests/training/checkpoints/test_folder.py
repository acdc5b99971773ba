import hashlib
import json
import os
import resource
import shutil
from pathlib import Path

import pytest
import torch
from support.faults import events_of, fails_at, watched

from ecg_transformers.models.registry import get_method
from ecg_transformers.training.checkpoints.folder import (
    DamagedCheckpoint,
    debris,
    find_checkpoint,
    list_checkpoints,
    prune,
    verify,
    write_checkpoint,
)
from ecg_transformers.training.errors import CheckpointWriteError, UsageError


def save(folder: Path, step: int, keep: int | None = None, **state: object) -> Path:
    weights = {"weight": torch.full((100,), float(step)), "counter": torch.tensor(step)}
    return write_checkpoint(
        folder, step, {"model.safetensors": weights}, {"trainer_state.json": {"step": step, **state}}, keep=keep
    )


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    checkpoint = verify(save(tmp_path, 7))
    assert checkpoint.step == 7
    assert checkpoint.json() == {"step": 7}
    assert torch.equal(checkpoint.tensors("model.safetensors")["weight"], torch.full((100,), 7.0))
    assert debris(tmp_path) == []


def test_tensors_that_share_memory_are_saved_apart(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    path = write_checkpoint(tmp_path, 1, {"model.safetensors": {"a": shared, "b": shared, "c": shared[2:]}}, {})
    loaded = verify(path).tensors("model.safetensors")
    assert torch.equal(loaded["a"], loaded["b"])
    assert torch.equal(loaded["c"], shared[2:])


def test_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    for step in (1, 2, 10, 30):
        save(tmp_path, step, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-30", "step-10"]


def test_pruning_counts_valid_checkpoints_only(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    (tmp_path / "step-2" / "manifest.json").write_text("{")
    prune(tmp_path, keep=1)
    assert verify(tmp_path / "step-1").step == 1


def test_a_death_at_any_point_of_a_save_leaves_a_valid_checkpoint(tmp_path: Path) -> None:
    """The process dies (by `os._exit`, so nothing is cleaned up) at each write, flush and rename in turn."""
    save(tmp_path / "rehearsal", 1)
    events = events_of(lambda: save(tmp_path / "rehearsal", 2, keep=1))
    in_place = events.index(("rename", "step-2"))
    assert len(events) > in_place > 4
    for number in range(len(events)):
        folder = tmp_path / str(number)
        save(folder, 1)
        pid = os.fork()
        if pid == 0:
            with watched(fails_at(number, lambda: os._exit(9))):
                save(folder, 2, keep=1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
        found = find_checkpoint("latest", folder)
        assert found is not None
        assert found.step == (2 if number > in_place else 1), events[number]
        save(folder, 3, keep=1)
        assert verify(folder / "step-3").step == 3


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")])
def test_a_failed_save_changes_nothing_and_cleans_up(tmp_path: Path, error: Exception) -> None:
    def fail() -> None:
        raise error

    save(tmp_path / "rehearsal", 1)
    events = events_of(lambda: save(tmp_path / "rehearsal", 2))
    for number in range(events.index(("rename", "step-2")) + 1):
        folder = tmp_path / str(number)
        save(folder, 1)
        with pytest.raises(CheckpointWriteError, match="step 2"), watched(fails_at(number, fail)):
            save(folder, 2, keep=1)
        assert verify(folder / "step-1").step == 1
        assert [path.name for path in folder.iterdir()] == ["step-1"]


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << (position % 8)
    path.write_bytes(bytes(content))


DAMAGES = {
    "truncated": lambda path: (path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes()[:-1]),
    "empty": lambda path: (path / "trainer_state.json").write_bytes(b""),
    "deleted": lambda path: (path / "model.safetensors").unlink(),
    "extra": lambda path: (path / "more.json").write_text("{}"),
    "no manifest": lambda path: (path / "manifest.json").unlink(),
    "truncated manifest": lambda path: (path / "manifest.json").write_bytes(
        (path / "manifest.json").read_bytes()[:-20]
    ),
    "nested manifest": lambda path: (path / "manifest.json").write_text("[" * 200_000),
    "folder": lambda path: ((path / "model.safetensors").unlink(), (path / "model.safetensors").mkdir()),
    "symlink": lambda path: (
        (path / "model.safetensors").rename(path.parent / "elsewhere"),
        (path / "model.safetensors").symlink_to(path.parent / "elsewhere"),
    ),
    "other step": lambda path: (shutil.rmtree(path), shutil.copytree(path.parent / "step-1", path)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path: Path, caplog, damage: str) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    DAMAGES[damage](newest)
    with pytest.raises(DamagedCheckpoint):
        verify(newest)
    found = find_checkpoint("latest", tmp_path)
    assert found is not None
    assert found.step == 1
    assert "step-2" in caplog.text
    with pytest.raises(UsageError, match="step-2"):
        find_checkpoint(str(newest), tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "trainer_state.json", "manifest.json"])
def test_every_flipped_bit_is_noticed(tmp_path: Path, name: str) -> None:
    pristine = save(tmp_path / "pristine", 1)
    size = (pristine / name).stat().st_size
    for position in range(0, size, max(1, size // 60)):
        copy = tmp_path / "copy" / "step-1"
        shutil.copytree(pristine, copy)
        flip(copy / name, position)
        with pytest.raises(DamagedCheckpoint):
            verify(copy)
        shutil.rmtree(copy)


def rewrite_manifest(path: Path, **changes: object) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    manifest.pop("sha256")
    manifest.update(changes)
    manifest["sha256"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_a_manifest_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    files = json.loads((path / "manifest.json").read_text())["files"]
    rewrite_manifest(path, files={**files, "../latest": {"size": 7, "sha256": ""}})
    with pytest.raises(DamagedCheckpoint, match="not a file of the folder"):
        verify(path)


def test_a_newer_schema_is_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    rewrite_manifest(path, schema=99)
    with pytest.raises(DamagedCheckpoint, match="newer version"):
        verify(path)


def test_no_checkpoint_yet_is_not_an_error_but_none_valid_is(tmp_path: Path) -> None:
    assert find_checkpoint("latest", tmp_path / "nothing") is None
    shutil.rmtree(save(tmp_path, 1) / "nothing", ignore_errors=True)
    (tmp_path / "step-1" / "manifest.json").unlink()
    with pytest.raises(UsageError, match="None of the 1 checkpoints"):
        find_checkpoint("latest", tmp_path)


def test_names_that_only_look_like_checkpoints_are_not_trusted(tmp_path: Path) -> None:
    valid = save(tmp_path, 1)
    for name in ("step-2.tmp-1-ab", "step--3", "step-4x", "9"):
        shutil.copytree(valid, tmp_path / name)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-1"]


def test_a_step_that_is_there_and_valid_is_not_written_again(tmp_path: Path) -> None:
    before = (save(tmp_path, 1) / "manifest.json").stat().st_mtime_ns
    assert (save(tmp_path, 1) / "manifest.json").stat().st_mtime_ns == before
    flip(tmp_path / "step-1" / "model.safetensors", 300)
    save(tmp_path, 1)
    assert verify(tmp_path / "step-1").step == 1


def test_a_rolled_back_run_takes_the_place_of_the_later_steps_of_the_old_one(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step, identity={"total_steps": 3})
    save(tmp_path, 2, identity={"total_steps": 9})
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-2", "step-1"]
    found = find_checkpoint("latest", tmp_path)
    assert found is not None
    assert found.json()["identity"] == {"total_steps": 9}
    assert sorted(path.name[:12] for path in debris(tmp_path)) == ["stale-step-2", "stale-step-3"]


def test_a_failed_save_leaves_the_checkpoint_of_the_other_run(tmp_path: Path) -> None:
    save(tmp_path, 2, identity={"total_steps": 3})

    def fail() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointWriteError), watched(fails_at(1, fail)):
        save(tmp_path, 2, identity={"total_steps": 9})
    assert verify(tmp_path / "step-2").json()["identity"] == {"total_steps": 3}


def test_the_pointer_that_earlier_versions_wrote_is_no_debris(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "latest").write_text("step-1\n")
    assert debris(tmp_path) == []


def test_a_checkpoint_without_what_resuming_needs_is_damaged(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    assert verify(path, needed=["model.safetensors"]).step == 1
    with pytest.raises(UsageError, match=r"does not name optimizer\.safetensors"):
        find_checkpoint(str(path), tmp_path, needed=["model.safetensors", "optimizer.safetensors"])


def test_a_file_size_limit_is_reported_as_a_failed_save(tmp_path: Path) -> None:
    """`RLIMIT_FSIZE` in a child: the library's own exception type must not reach the user."""
    save(tmp_path, 1)
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
        try:
            save(tmp_path, 2)
        except CheckpointWriteError:
            os._exit(5)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def test_weights_are_as_readable_as_any_other_file(tmp_path: Path) -> None:
    method, before = get_method("st_mem"), os.umask(0o027)
    try:
        save(tmp_path, 1)
        method.model_classes["base"](method.config_class(**method.tiny_config)).save_pretrained(tmp_path / "model")
    finally:
        os.umask(before)
    modes = [file.stat().st_mode & 0o777 for file in tmp_path.rglob("*.safetensors")]
    assert modes == [0o640, 0o640]
