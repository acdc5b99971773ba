"""A build on a Ray cluster of two nodes, one of which is killed in the middle, gives the files of a serial build."""

import threading
import time

import pytest

from ecg_transformers.data.building.build import build_corpus
from ecg_transformers.data.building.shards import FACTS
from ecg_transformers.data.errors import MissingDependencyError

# seconds instead of half a minute until a dead node is known
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


@pytest.fixture
def cluster(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_raylet_start_wait_time_s", "300")  # on a busy machine
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(
        initialize_head=True, head_node_args={**node, "include_dashboard": False, "_system_config": QUICK}
    )
    cluster.other = cluster.add_node(**node)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


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
