"""A model over a prepared corpus on the machines of a Ray cluster: `map_batches` of Ray Data, one model a worker."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
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
    settings = {"checkpoint": checkpoint, "windows": windows, "batch_size": batch_size, "device": device}
    report = TableReport()
    with replacing(output) as beside, QuietFile(beside) as file, closing(_Table(file, windows)) as table:
        for row in _mapped(address, _Embedding, settings, num_workers):
            problem = row.pop("problem")
            if problem is None:
                table.add(row)
                continue
            if on_error == "raise":
                raise ValueError(problem)
            report.failed.append(problem)
        if not table.is_begun:
            raise ValueError(f"no record of {address} could be embedded: {'; '.join(report.failed[:3])}")
        report.rows = table.finish()
    return report


class _Table:
    """Rows written as parquet, many at once; how wide an embedding is, the first row tells."""

    def __init__(self, file: QuietFile, windows: bool) -> None:
        self._file, self._windows = file, windows
        self._writer: Any = None
        self._waiting: list[dict[str, Any]] = []
        self._rows = 0

    @property
    def is_begun(self) -> bool:
        return self._writer is not None

    def add(self, row: dict[str, Any]) -> None:
        import pyarrow.parquet as pq

        self._waiting.append(row)
        if self._writer is None:
            schema = table_schema(len(row["embedding"]), self._windows, True)
            self._writer = pq.ParquetWriter(self._file, schema.remove(schema.get_field_index("key")))
        if len(self._waiting) == 1024:
            self._write()
            self._file.check()

    def _write(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._waiting, self._writer.schema))
        self._rows, self._waiting = self._rows + len(self._waiting), []

    def finish(self) -> int:
        """Write what waits; the number of rows."""
        self._write()
        return self._rows

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


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
