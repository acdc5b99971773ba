"""On a Ray cluster of two nodes: predictions as in one process, and a build one of whose nodes is killed in the middle."""

import json
import threading
import time

import pytest

from ecg_transformers.cli import main
from ecg_transformers.data.building.build import build_corpus
from ecg_transformers.data.building.shards import FACTS
from ecg_transformers.data.errors import MissingDependencyError
from ecg_transformers.models.registry import get_method

# seconds instead of half a minute until a dead node is known
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray")
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_raylet_start_wait_time_s", "300")  # on a busy machine
        cluster = Cluster(
            initialize_head=True, head_node_args={**node, "include_dashboard": False, "_system_config": QUICK}
        )
        cluster.other = cluster.add_node(**node)
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.ray
def test_predict_on_ray_prints_what_one_process_does(cluster, tmp_path, capsys):
    build_corpus("synthetic", None, tmp_path / "prepared", num_records=30, records_per_shard=10)
    method = get_method("st_mem")
    method.model_classes["classification"](method.config_class(**method.tiny_config)).save_pretrained(
        tmp_path / "model"
    )
    command = ["predict", str(tmp_path / "prepared"), "--model", str(tmp_path / "model"), "--json"]
    printed = []
    for engine in (["--engine", "local"], ["--engine", "ray", "--num_proc", "1"]):
        assert main([*command, *engine]) == 0
        printed.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    local, remote = printed
    assert len(local) == 30
    assert [one["file"] for one in remote] == [one["file"] for one in local]
    for here, there in zip(local, remote, strict=True):
        assert [one["label"] for one in there["predictions"]] == [one["label"] for one in here["predictions"]]
        expected = [one["score"] for one in here["predictions"]]
        assert [one["score"] for one in there["predictions"]] == pytest.approx(expected, abs=1e-6)


@pytest.mark.ray
def test_a_node_that_is_killed_costs_only_its_shards(cluster, tmp_path):
    options = {"num_records": 200, "duration": 20.0, "records_per_shard": 10}
    build_corpus("synthetic", None, tmp_path / "serial", **options)
    out, finished = tmp_path / "out", []

    def kill_in_the_middle():
        while len(finished) < 3:
            time.sleep(0.02)
            finished[:] = (out / FACTS).glob("*.parquet.json")
        cluster.remove_node(cluster.other, allow_graceful=False)

    killer = threading.Thread(target=kill_in_the_middle)
    killer.start()
    report = build_corpus("synthetic", None, out, engine="ray", **options)
    killer.join()
    assert 3 <= len(finished) < 20
    assert report.read == 200
    serial = {path.name: path.read_bytes() for path in (tmp_path / "serial").glob("*.parquet")}
    assert {path.name: path.read_bytes() for path in out.glob("*.parquet")} == serial


def test_without_ray_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "ecg_transformers\[ray\]"'):
        build_corpus("synthetic", None, tmp_path / "out", engine="ray", num_records=20)
    assert not (tmp_path / "out").exists()
