"""Embeddings of many records as a parquet table, whose finished rows outlive an interruption.

While it runs, finished rows lie beside the table in `NAME.parts`: parquet files, and the settings they were made with.
The next run with the same settings takes them over and computes the rest; when all is done they become the table and
the folder goes.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ecg_transformers._version import __version__
from ecg_transformers.data.corpora import CORPORA
from ecg_transformers.data.corpora.folder.files import records_of
from ecg_transformers.data.loading import load_ecg_dataset
from ecg_transformers.data.prepared import is_prepared
from ecg_transformers.files import QuietFile, as_json, replacing, write_json
from ecg_transformers.pipelines.embed import Encoder, Prepared, mean_vector

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

# finished rows are written down at least this often
SECONDS_OF_A_PART = 20.0
RECORDS_OF_A_PART = 512
SETTINGS = "settings.json"

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Item:
    """One record to embed.

    Attributes:
        key: tells it from all others, and from an earlier state of the same file.
        name: what it is called in messages.
        file: its path, or for a corpus its file within the corpus.
        record: a path or a dataset row.
        split: the part of the corpus that it belongs to.
    """

    key: str
    name: str
    file: str | None
    record: Any
    split: str | None = None


@dataclass(frozen=True)
class Records:
    """What is to be embedded.

    Attributes:
        keys: of all records, in order.
        item: gives the record at a position.
        has_splits: they are the parts of a corpus.
    """

    keys: Sequence[str]
    item: Callable[[int], Item]
    has_splits: bool = False


@dataclass
class TableReport:
    """What became of the records.

    Attributes:
        rows: of the table.
        kept: records whose rows were taken over from an interrupted run.
        failed: a sentence for each record that could not be used; it has no row.
    """

    rows: int = 0
    kept: int = 0
    failed: list[str] = field(default_factory=list)


def named_records(words: Sequence[str], data_dir: str | None = None, **options: Any) -> Records:
    """The records that words mean: one corpus by name, a prepared one, or files and folders in any number.

    Args:
        words: paths of files and folders, or the name of a corpus (a file or folder of that name comes first), or the
            folder or address of a prepared one.
        data_dir: folder of the corpus; with it the word is a corpus.
        options: builder options of the corpus.

    Raises:
        ValueError: no word, an empty folder, a corpus among other words, or options without a corpus.
    """
    is_corpus = len(words) == 1 and words[0] in CORPORA and not Path(words[0]).exists()
    if len(words) == 1 and (data_dir is not None or is_corpus or is_prepared(words[0])):
        return _of_corpus(words[0], data_dir, options)
    if data_dir is not None or options:
        raise ValueError("data_dir and options belong to a corpus: name one corpus and nothing else.")
    if mixed := [word for word in words if word in CORPORA and not Path(word).exists()]:
        raise ValueError(f"{mixed[0]} is a corpus: embed it alone, not among other records.")
    paths = [path for word in words for path in (records_of(word) if Path(word).is_dir() else [Path(word)])]
    if not paths:
        raise ValueError("there is no record to embed: name files, a folder or a corpus.")
    keys = list(dict.fromkeys(map(_key_of_file, paths)))  # a file that is named twice is one record
    named = dict(zip(map(_key_of_file, paths), paths, strict=True))
    return Records(keys, lambda index: _of_file(named[keys[index]], keys[index]))


def _key_of_file(path: Path) -> str:
    try:
        status = path.stat()
        return f"{path.absolute()} {status.st_size} {status.st_mtime_ns}"
    except OSError:  # whoever reads it says what is wrong
        return str(path.absolute())


def _of_file(path: Path, key: str) -> Item:
    return Item(key, str(path), str(path), path)


def _of_corpus(name: str, data_dir: str | None, options: Mapping[str, Any]) -> Records:
    splits = load_ecg_dataset(name, data_dir, **options)
    parts = [(str(split), rows) for split, rows in splits.items()]
    places = [(split, rows, index) for split, rows in parts for index in range(len(rows))]
    # a build that changes has another fingerprint
    keys = [
        f"{split} {index} {record_id} {rows._fingerprint}"
        for split, rows in parts
        for index, record_id in enumerate(rows["record_id"])
    ]

    def item(position: int) -> Item:
        split, rows, index = places[position]
        row = rows[index]
        file = json.loads(row.get("metadata") or "{}").get("file")
        return Item(keys[position], f"{name}: record {row['record_id']}", file, row, split)

    return Records(keys, item, has_splits=True)


def embed_to_table(
    records: Records,
    checkpoint: str,
    output: str | Path,
    *,
    windows: bool = False,
    on_error: Literal["skip", "raise"] = "skip",
    num_proc: int | None = None,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
    tell: Callable[[str], None] = lambda sentence: None,
    **hints: Any,
) -> TableReport:
    """Write a parquet table: `record_id`, `file`, `patient_id`, for a corpus `split`, and `embedding`, float32 of fixed size.

    Args:
        records: see `named_records`.
        checkpoint: as for `load_checkpoint`.
        output: the table; rows of an interrupted run are looked for beside it.
        windows: one row a window, counted in a column `window`, instead of the mean.
        on_error: "raise" stops at a record that cannot be used; what is finished is kept.
        num_proc, batch_size, device: see `embed`.
        progress: is given the positions of the records that are left to do, and gives them on one by one.
        tell: is given a sentence for each record that cannot be used, and for rows that were taken over.
        hints: `sampling_rate`, `lead_names`, `units` of files that do not say them.

    Raises:
        ValueError: what is wrong with the checkpoint, or (`on_error="raise"`) with a record; or rows of an interrupted run
            with other settings lie beside the table.
    """
    encoder = Encoder.load(checkpoint, device=device, batch_size=batch_size)
    settings = {"checkpoint": checkpoint, "weights": _weights(encoder.model), "windows": windows}
    schema = table_schema(encoder.width, windows, records.has_splits)
    parts = Parts(Path(output), {**settings, "version": __version__, **hints}, schema)
    report = TableReport()
    done = parts.open()
    left = [position for position, key in enumerate(records.keys) if key not in done]
    report.kept = len(records.keys) - len(left)
    if report.kept:
        tell(f"{report.kept} finished records of an interrupted run are kept.")
    try:
        for item, record, vectors in _embedded(encoder, map(records.item, progress(left)), num_proc=num_proc, **hints):
            if record.problem is None and vectors is not None:
                parts.add(_rows(item, record, vectors, windows))
                continue
            if on_error == "raise":
                raise ValueError(record.problem)
            report.failed.append(str(record.problem))
            tell(str(record.problem))
    finally:
        parts.close()
    report.rows = parts.publish(records.keys)
    return report


def _embedded(encoder: Encoder, items: Iterable[Item], **options: Any) -> Iterator[tuple[Item, Prepared, Any]]:
    """Each item, without what was read of it, and what `embed_each` gives for it."""
    under_way: deque[Item] = deque()

    def named() -> Iterator[tuple[str, Any]]:
        for item in items:
            under_way.append(replace(item, record=None))
            yield item.name, item.record

    for record, vectors in encoder.embed_each(named(), **options):
        yield under_way.popleft(), record, vectors


def _rows(item: Item, record: Prepared, vectors: Any, windows: bool) -> Rows:
    facts = {
        "key": item.key,
        "record_id": record.record_id,
        "file": item.file,
        "patient_id": record.patient_id,
        "split": item.split,
    }
    if not windows:
        return [{**facts, "embedding": mean_vector(vectors)}]
    return [{**facts, "window": index, "embedding": vector} for index, vector in enumerate(vectors)]


def table_schema(width: int, windows: bool, has_splits: bool) -> pa.Schema:
    """The columns of a table of embeddings of this width, and `key`, by which rows are told apart while it is made."""
    import pyarrow as pa

    names = ["key", "record_id", "file", "patient_id", *(["split"] if has_splits else [])]
    fields = [pa.field(name, pa.string()) for name in names]
    fields += [pa.field("window", pa.int32())] if windows else []
    return pa.schema([*fields, pa.field("embedding", pa.list_(pa.float32(), width))])


def _weights(model: Any) -> list[Any]:
    """Which weights a model was loaded from: changes with the file, or with the commit of a repository."""
    folder = Path(str(model.name_or_path))
    states = [path.stat() for path in sorted(folder.glob("*.safetensors"))] if folder.is_dir() else []
    commit = getattr(model.config, "_commit_hash", None)
    return [str(model.name_or_path), commit, [[state.st_size, state.st_mtime_ns] for state in states]]


class Parts:
    """Finished rows beside a table that is not finished.

    Args:
        table: what they become.
        settings: what they are made with.
        schema: of the rows; `key` is for us and not in the table.
    """

    def __init__(self, table: Path, settings: Mapping[str, Any], schema: pa.Schema) -> None:
        self.table = table
        self.folder = table.with_name(f"{table.name}.parts")
        self.settings = as_json(dict(settings))
        self.schema = schema
        self._rows: Rows = []
        self._records = 0
        self._flushed = time.monotonic()

    def open(self) -> set[str]:
        """The keys of the records that are finished.

        Raises:
            ValueError: there are rows that were made with other settings.
        """
        path = self.folder / SETTINGS
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            differing = sorted(key for key in {*before, *self.settings} if before.get(key) != self.settings.get(key))
            if differing:
                raise ValueError(
                    f"{self.folder} holds rows of an interrupted run that had another {' and '.join(differing)}: name "
                    "another output, or delete that folder."
                )
        else:
            self.folder.mkdir(exist_ok=True)
            write_json(path, self.settings)
        return {key for name in self._files() for key in self._read(name, ["key"]).column("key").to_pylist()}

    def add(self, rows: Rows) -> None:
        """Take the rows of one record; now and then they are written down."""
        self._rows += rows
        self._records += 1
        if self._records >= RECORDS_OF_A_PART or time.monotonic() - self._flushed > SECONDS_OF_A_PART:
            self.flush()

    def flush(self) -> None:
        """Write down what is finished."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._rows:
            columns = {name: [row[name] for row in self._rows] for name in self.schema.names}
            part = self.folder / f"part-{len(self._files()):06d}.parquet"
            with replacing(part) as beside, QuietFile(beside) as file:
                pq.write_table(pa.table(columns, schema=self.schema), file)
        self._rows, self._records, self._flushed = [], 0, time.monotonic()

    def close(self) -> None:
        """Write down what is finished; where there is nothing, nothing stays."""
        self.flush()
        if not self._files():
            shutil.rmtree(self.folder, ignore_errors=True)

    def publish(self, order: Sequence[str]) -> int:
        """Make all parts the table, its records in this order; the number of rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        tables = [self._read(name) for name in self._files()]
        whole = pa.concat_tables(tables) if tables else self.schema.empty_table()
        rows_of: dict[str, list[int]] = {}
        for row, key in enumerate(whole.column("key").to_pylist()):
            rows_of.setdefault(key, []).append(row)
        wanted = [row for key in order for row in rows_of.get(key, ())]
        whole = whole.take(pa.array(wanted, pa.int64())).drop_columns(["key"])
        with replacing(self.table) as beside, QuietFile(beside) as file:
            pq.write_table(whole, file)
        shutil.rmtree(self.folder, ignore_errors=True)
        return int(whole.num_rows)

    def _files(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("part-*.parquet"))

    def _read(self, name: str, columns: list[str] | None = None) -> Any:
        import pyarrow.parquet as pq

        return pq.read_table(self.folder / name, columns=columns)
