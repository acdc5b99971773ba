"""A model over a prepared corpus on the machines of a Ray cluster: `map_batches` of Ray Data, one model a worker."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ecg_transformers.data.building.engines import start_ray
from ecg_transformers.data.prepared import ShardRecords, read_group, shards_by_split
from ecg_transformers.files import QuietFile, replacing
from ecg_transformers.pipelines.embed import Encoder, mean_vector
from ecg_transformers.pipelines.embed_table import TableReport, table_schema


def embed_on_ray(
    address: str,
    checkpoint: str,
    output: str | Path,
    *,
    windows: bool = False,
    on_error: Literal["skip", "raise"] = "skip",
    num_workers: int | None = None,
    batch_size: int = 32,
    device: str | None = None,
) -> TableReport:
    """Embed a prepared corpus; the table is that of `embed_to_table`, in the order of the corpus.

    Args:
        address: the prepared corpus; all machines see it, and the checkpoint.
        num_workers: models at once; default one a GPU, or one a machine where there are none.
        checkpoint, output, windows, on_error, batch_size, device: see `embed_to_table`.

    Raises:
        MissingDependencyError: Ray is not installed.
        ValueError: see `embed_to_table`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    settings = {"checkpoint": checkpoint, "windows": windows, "batch_size": batch_size, "device": device}
    report, writer, waiting = TableReport(), None, []
    with replacing(output) as beside, QuietFile(beside) as file:
        try:
            for row in _mapped(address, _Embedding, settings, num_workers):
                problem = row.pop("problem")
                if problem is not None:
                    if on_error == "raise":
                        raise ValueError(problem)
                    report.failed.append(problem)
                    continue
                waiting.append(row)
                if writer is None:
                    schema = table_schema(len(row["embedding"]), windows, True)
                    schema = schema.remove(schema.get_field_index("key"))
                    writer = pq.ParquetWriter(file, schema)
                if len(waiting) == 1024:
                    writer.write_table(pa.Table.from_pylist(waiting, schema))
                    file.check()
                    report.rows, waiting = report.rows + len(waiting), []
            if writer is None:
                raise ValueError(f"no record of {address} could be embedded: {'; '.join(report.failed[:3])}")
            writer.write_table(pa.Table.from_pylist(waiting, schema))
            report.rows += len(waiting)
        finally:
            if writer is not None:
                writer.close()
    return report


def predict_on_ray(
    address: str,
    model: str,
    *,
    num_workers: int | None = None,
    batch_size: int = 32,
    device: str = "cpu",
    **parameters: Any,
) -> Iterator[tuple[str, Any]]:
    """`(record_id, result)` of a prepared corpus in its order; the result of a record that cannot be used is a ValueError.

    Args:
        parameters: of the pipeline `ecg-classification`.
        address, num_workers: see `embed_on_ray`.
    """
    settings = {"model": model, "batch_size": batch_size, "device": device, "parameters": parameters}
    for row in _mapped(address, _Classification, settings, num_workers):
        result = json.loads(row["result"])
        yield row["record_id"], ValueError(result) if isinstance(result, str) else result


def _mapped(
    address: str, worker: type, settings: Mapping[str, Any], num_workers: int | None
) -> Iterator[dict[str, Any]]:
    """The rows that the workers make of the corpus's, in order.

    What is handed out are row groups by name: each worker reads its own, so no signal travels between machines.
    """
    ray = start_ray()
    from ray.data import ActorPoolStrategy, DataContext, from_items

    groups = [
        {"split": split, "url": url, "group": group}
        for split in shards_by_split(address)
        for url, group in ShardRecords(address, split).places
    ]
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    gpus = int(ray.cluster_resources().get("GPU", 0))
    size = num_workers or gpus or len([node for node in ray.nodes() if node["Alive"]])
    done = from_items(groups, override_num_blocks=len(groups)).map_batches(
        worker,
        fn_constructor_kwargs=dict(settings),
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=min(size, len(groups))),
        num_gpus=1 if gpus else None,
    )
    yield from done.iter_rows()


def _rows(groups: Any) -> Iterator[dict[str, Any]]:
    """The rows of some row groups, each with its `split`."""
    for place in groups.to_pylist():
        for row in read_group(place["url"], place["group"]).to_pylist():
            yield {**row, "split": place["split"]}


class _Embedding:
    """One encoder, and what it makes of a batch of rows."""

    def __init__(self, checkpoint: str, windows: bool, batch_size: int, device: Any) -> None:
        self.encoder = Encoder.load(checkpoint, device=device, batch_size=batch_size)
        self.windows = windows

    def __call__(self, groups: Any) -> Any:
        import pyarrow as pa

        rows = list(_rows(groups))
        found: list[dict[str, Any]] = []
        named = ((f"record {row['record_id']}", row) for row in rows)
        for row, (record, vectors) in zip(rows, self.encoder.embed_each(named), strict=True):
            facts = {
                "record_id": row["record_id"],
                "file": json.loads(row["metadata"] or "{}").get("file"),
                "patient_id": row["patient_id"],
                "split": row["split"],
                "problem": record.problem,
            }
            if vectors is None:
                vectors = np.zeros((1, self.encoder.width), dtype=np.float32)
            elif not self.windows:
                vectors = mean_vector(vectors)[None]
            extra = [{"window": number} if self.windows else {} for number in range(len(vectors))]
            found += [{**facts, **more, "embedding": vector} for more, vector in zip(extra, vectors, strict=True)]
        schema = table_schema(self.encoder.width, self.windows, True)
        schema = schema.remove(schema.get_field_index("key")).append(pa.field("problem", pa.string()))
        return pa.Table.from_pylist(found, schema)


class _Classification:
    """One classifier, and what it makes of a batch of rows."""

    def __init__(self, model: str, batch_size: int, device: Any, parameters: dict[str, Any]) -> None:
        from transformers import pipeline  # this package, imported before, has the task registered with it

        self.classify = pipeline("ecg-classification", model=model, device=device)
        self.batch_size, self.parameters = batch_size, parameters

    def __call__(self, groups: Any) -> Any:
        import pyarrow as pa

        results = self.classify.run_many(_rows(groups), self.batch_size, **self.parameters)
        found = [
            (row["record_id"], str(result) if isinstance(result, Exception) else result) for row, result in results
        ]
        return pa.table(
            {
                "record_id": [name for name, _ in found],
                "result": [json.dumps(result, ensure_ascii=False) for _, result in found],
            }
        )
