"""Builds and long runs over prepared corpora: killed at random, on a Ray cluster that loses a machine, and memory over minutes.

python tests/soak/builds.py [--kills 10] [--minutes 10] [--seed 0] [--only NAME]        (or: make soak)
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SAMPLES_APART = 2.0  # seconds
WARM_UP = 3000  # records, over ten epochs: the caches of a run are full
MOST_GROWTH = 250  # bytes a record
LEAST_SEEN = 2000  # records between the two looks: half a megabyte may come and go


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def kills(folder: Path, number: int) -> bool:
    """A build that is killed again and again: no finished record is read twice, and the end is that of a serial build."""
    from support.builds import build_and_log, ended, finished_records, forked

    from ecg_transformers.data.building.build import build_corpus
    from ecg_transformers.data.fingerprint import dataset_fingerprint
    from ecg_transformers.data.loading import load_ecg_dataset

    options = {"num_records": 2000, "records_per_shard": 20}
    build_corpus("synthetic", None, folder / "serial", **options)
    wanted = dataset_fingerprint(load_ecg_dataset(str(folder / "serial")))
    good = True
    for num_proc in (1, 2, 4):
        out, hits, kept = folder / f"killed {num_proc}", 0, []
        while not (out / "build_report.json").exists():
            before, log = finished_records(out), folder / f"log {num_proc} {len(kept)}"
            pid = forked(lambda: build_and_log(out, log, num_proc=num_proc, **options))  # noqa: B023
            if hits < number:  # by records and not by the clock, so that a busy machine kills as often as an idle one
                left = options["num_records"] - len(before)
                moment = random.randint(1, min(left - 1, 2 * left // (number - hits + 1)))
                while not log.exists() or log.read_bytes().count(b"\n") < moment:
                    time.sleep(0.005)
                    if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                        break  # of an error, which is on the terminal
                os.kill(pid, signal.SIGKILL)
                hits += 1
            if ended(pid) not in (0, -signal.SIGKILL):
                return False
            time.sleep(0.3)  # workers follow their parent
            kept.append(len(before))
            good &= not log.exists() or not before & set(log.read_text().split())
        good &= hits == number
        found = dataset_fingerprint(load_ecg_dataset(str(out)))
        good &= files_of(out) == files_of(folder / "serial") and found == wanted
        print(f"  {num_proc} processes: {hits} kills, finished records before each run {kept}", flush=True)
        print(f"  fingerprint {found}, serial {wanted}", flush=True)
    return good


def ray(folder: Path) -> bool:
    """A machine dies in the middle of a build; then embeddings and predictions on the cluster are those of one process."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "300"}
    import pyarrow.parquet as pq
    import ray as ray_module
    from ray.cluster_utils import Cluster
    from support.small_runs import small_finetuning, small_pretraining

    from ecg_transformers.data.building.build import build_corpus
    from ecg_transformers.pipelines.embed_table import embed_to_table, named_records
    from ecg_transformers.pipelines.on_ray import embed_on_ray, predict_on_ray
    from ecg_transformers.training.finetuning import finetune
    from ecg_transformers.training.pretraining import pretrain

    build_corpus("synthetic", None, folder / "serial", num_records=200, records_per_shard=10)
    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    other = cluster.add_node(**node)
    os.environ["RAY_ADDRESS"] = cluster.address

    def kill_in_the_middle() -> None:
        while len(list((folder / "out" / ".building").glob("*.parquet.json"))) < 4:
            time.sleep(0.05)
        cluster.remove_node(other, allow_graceful=False)

    killer = threading.Thread(target=kill_in_the_middle)
    killer.start()
    build_corpus("synthetic", None, folder / "out", engine="ray", num_records=200, records_per_shard=10)
    killer.join()
    good = files_of(folder / "out") == files_of(folder / "serial")
    print(f"  a build whose second machine died: {'the same files' if good else 'OTHER FILES'}", flush=True)
    cluster.add_node(**node)
    pretrain(small_pretraining(folder / "encoder", max_steps=2))
    finetune(small_finetuning(folder / "classifier", folder / "encoder", max_steps=2))
    prepared = str(folder / "serial")
    embed_on_ray(prepared, str(folder / "encoder"), folder / "ray.parquet", num_workers=2)
    embed_to_table(named_records([prepared]), str(folder / "encoder"), folder / "local.parquet")
    there, here = (pq.read_table(folder / name) for name in ("ray.parquet", "local.parquet"))
    gap = np.abs(np.stack(there["embedding"].to_pylist()) - np.stack(here["embedding"].to_pylist())).max()
    names = there.drop_columns(["embedding"]).equals(here.drop_columns(["embedding"]))
    print(
        f"  embed: {len(there)} rows, names {'equal' if names else 'DIFFER'}, largest difference {gap:.1e}", flush=True
    )
    from transformers import pipeline

    from ecg_transformers.data.loading import load_ecg_dataset

    classify = pipeline("ecg-classification", model=str(folder / "classifier"), device="cpu")
    rows = [row for split in load_ecg_dataset(prepared, streaming=True).values() for row in split]
    local = {row["record_id"]: result for row, result in classify.run_many(rows)}
    remote = dict(predict_on_ray(prepared, str(folder / "classifier"), num_workers=2))

    def score(result: list[dict]) -> dict[str, float]:
        return {entry["label"]: entry["score"] for entry in result}

    far = max(abs(score(remote[name])[label] - value) for name in local for label, value in score(local[name]).items())
    print(f"  predict: {len(remote)} records, largest difference {far:.1e}", flush=True)
    ray_module.shutdown()
    cluster.shutdown()
    return bool(good and names and gap < 1e-5 and list(remote) == list(local) and far < 1e-5)


def memory(folder: Path, minutes: float, streaming: bool) -> bool:
    """The memory that a long training run and its data workers have to themselves stays flat, record for record."""
    from support.builds import forked
    from support.small_runs import small_pretraining

    from ecg_transformers.data.building.build import build_corpus
    from ecg_transformers.training.pretraining import pretrain

    prepared = folder / "prepared"
    build_corpus("synthetic", None, prepared, num_records=300)  # an epoch, and with it the caches, is soon through
    run = small_pretraining(
        folder / "run",
        dataset=str(prepared),
        dataset_options="",
        streaming=streaming,
        num_workers=2,
        max_steps=10**6,
        save_steps=500,
        cache_mb=64,
    )

    def train() -> None:
        with open(folder / "log", "a") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        pretrain(run)

    pid = forked(train)
    steps, held = watched(pid, Path(run.output_dir) / "train_log.jsonl", 60 * minutes)
    if os.waitpid(pid, os.WNOHANG)[0] or not len(held):  # it has come to an end by itself
        print((folder / "log").read_text()[-2000:])
        return False
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)
    records = steps * run.per_device_batch_size
    seen = int(records[-1] - WARM_UP) // 2
    if seen < LEAST_SEEN:
        print(f"  {records[-1]} records are too few to tell a leak from a warm-up: give it more minutes", flush=True)
        return False
    halves = held[(records >= WARM_UP) & (records < WARM_UP + seen)], held[records >= WARM_UP + seen]
    early, late = (half.min(axis=0) for half in halves)  # a checkpoint is a bump, no growth
    growth = (late - early).sum() / seen
    figures = ", ".join(f"{before / 2**20:.1f} -> {after / 2**20:.1f} MiB" for before, after in zip(early, late))
    how = "streamed" if streaming else "memory-mapped"
    print(f"  {how}, {records[-1]} records: the run and its workers {figures}", flush=True)
    print(f"  {growth:.0f} bytes a record in {seen} records, at most {MOST_GROWTH} are noise", flush=True)
    return bool(growth < MOST_GROWTH)


def watched(pid: int, log: Path, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Steps done, and the anonymous memory in bytes of a run and of its two data workers `(samples, 3)`, over some time.

    Anonymous memory is what a process has allocated. Unique memory (USS) will not do: it holds pages of libraries as
    soon as no other process has them open, and grows without an allocation while the pages of a fork are written to.
    """
    import psutil

    process, steps, held = psutil.Process(pid), [], []
    end = None
    while (end is None or time.monotonic() < end) and process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(SAMPLES_APART)
        if log.exists():  # it trains: the time begins
            end = end or time.monotonic() + seconds
            # the two that lived longest are the workers; a checkpoint has children of its own now and then
            workers = sorted(process.children(), key=lambda child: child.create_time())[:2]
            if len(workers) == 2:
                steps.append(log.read_bytes().count(b"\n"))
                held.append([anonymous(each.pid) for each in (process, *workers)])
    return np.array(steps), np.array(held, dtype=float)


def anonymous(pid: int) -> int:
    """Bytes of resident anonymous memory of a process, shared with its children or not."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="kills of each build")
    parser.add_argument(
        "--minutes", type=float, default=10, help="length of the runs whose memory is looked at, together"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="what holds this text in its name")
    options = parser.parse_args()
    random.seed(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="builds, ü "))
    os.environ.setdefault("ECG_CACHE_DIR", str(folder / "cache"))
    parts: dict[str, Callable[[Path], bool]] = {
        "kills": lambda where: kills(where, options.kills),
        "memory, streamed": lambda where: memory(where, options.minutes / 2, True),
        "memory, memory-mapped": lambda where: memory(where, options.minutes / 2, False),
        "ray": ray,
    }
    results = []
    for name, part in parts.items():
        if options.only is None or options.only in name:
            (folder / name).mkdir()
            results.append(part(folder / name))
            print(f"{'pass' if results[-1] else 'FAIL'}  {name}", flush=True)
    shutil.rmtree(folder)
    return 0 if all(results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
