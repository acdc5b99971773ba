"""`load_ecg_dataset`: any corpus by name, as a `datasets` dataset in one row schema.

Builds are cached under a key of code version, options and the names, sizes and times of the files, so neither an
edited table nor a new version of the package ever serves old rows. Nothing is downloaded, and the corpus folder is
only read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_transformers.data.building.build import MANIFEST_NAME, MAX_SKIPPED, prepare
from ecg_transformers.data.building.plan import plan_of, say_once
from ecg_transformers.data.building.report import BuildReport, check_skipped, split_files
from ecg_transformers.data.cache import cache_root, root_of_streams
from ecg_transformers.data.corpora import CORPORA, corpus_class, make_corpus
from ecg_transformers.data.corpora.base import Corpus, CorpusPlan
from ecg_transformers.data.errors import ECGDataError, OptionError
from ecg_transformers.data.folds import take_folds
from ecg_transformers.data.options import make_options, refuse_misspelt
from ecg_transformers.data.prepared import is_prepared, load_prepared, manifest_of, shards_by_split
from ecg_transformers.data.record import record_features
from ecg_transformers.data.rows import AnyDataset, RecordTable
from ecg_transformers.data.sheets import corpus_sheet
from ecg_transformers.words import did_you_mean

if TYPE_CHECKING:
    import datasets

DataDir = str | PathLike[str] | Mapping[str, str | PathLike[str]] | Sequence[str | PathLike[str] | None] | None

SPLIT_ORDER = ("train", "validation", "test")
ALL = "all"
"""The parts of a corpus together, for pre-training on a union."""
ARGUMENTS = (
    "data_dir",
    "split",
    "streaming",
    "cache_dir",
    "num_proc",
    "max_skipped",
    "folds",
    "test_folds",
    "validation_folds",
)
"""What `load_ecg_dataset` takes beside the options of a corpus."""


def load_ecg_dataset(
    name: str | Sequence[str],
    data_dir: DataDir = None,
    split: str | None = None,
    streaming: bool = False,
    *,
    cache_dir: str | Path | None = None,
    num_proc: int | None = None,
    max_skipped: float = MAX_SKIPPED,
    **builder_options: Any,
) -> datasets.Dataset | datasets.DatasetDict | datasets.IterableDataset | datasets.IterableDatasetDict:
    """A corpus as a dataset of rows (see `data.record`).

    Args:
        name: a corpus (`describe_corpora` lists them), the folder or address of a prepared corpus (what
            `ecg-transformers build` wrote), or a list of these, whose records alternate until each has given all of its
            own. A list whose corpora have different labels comes without labels, for pre-training;
            leads, rates and lengths may differ, the feature extractor levels them.
        data_dir: the folder in the publisher's layout; for a list of corpora a mapping by name, or a list, one for each
            (None for those that need no folder) or one for each that needs a folder.
        split: "train", "validation" or "test", or "all", these together as one; None gives a dictionary of all parts that
            the corpus has.
        streaming: read record by record, without building files first. Of a prepared corpus shard by shard, in shares
            for many nodes (`datasets.distributed.split_dataset_by_node`), shuffled (`.shuffle(seed=…)`) and with a state
            to go on from (`.state_dict()`).
        cache_dir: where builds are kept (default: `ECG_CACHE_DIR`, or the user's cache folder).
        num_proc: processes that build.
        max_skipped: share of records that may be unreadable before the build fails.
        **builder_options: options of the corpus, such as `task="superclass"`. With a list of corpora each takes those
            it knows. Any corpus takes `folds="FILE.csv"` (published folds in place of its own parts; see `data.folds`),
            `test_folds` and `validation_folds`.

    Returns:
        A dataset (`split` given) or a dictionary of them. With `streaming` the iterable kinds.

    Raises:
        ECGDataError: an unknown name, option or task (the nearest match is named), a missing folder or file, or too
            many unreadable records.

    Example:
        >>> from ecg_transformers import load_ecg_dataset
        >>> dataset = load_ecg_dataset("synthetic", split="train", num_records=100)
        >>> sorted(dataset[0])[:3]
        ['beat_labels', 'beat_samples', 'beat_symbols']
    """
    if split is not None and split not in (*SPLIT_ORDER, ALL):
        raise OptionError(f"there is no split {split!r}{did_you_mean(split, (*SPLIT_ORDER, ALL))}")
    if not isinstance(name, str):
        return _load_several(
            list(name),
            data_dir,
            split,
            streaming,
            builder_options,
            {"cache_dir": cache_dir, "num_proc": num_proc, "max_skipped": max_skipped},
        )
    if _is_prepared(name):
        _check_options(name, data_dir, builder_options)
        return load_prepared(name, split, streaming, cache_root(cache_dir))
    if not isinstance(data_dir, str | PathLike | None):
        raise OptionError(f"data_dir of the one corpus {name!r} is one folder, not a {type(data_dir).__name__}.")
    folds = take_folds(builder_options, _options_of(name))
    refuse_misspelt(builder_options, ARGUMENTS, _options_of(name))
    corpus = make_corpus(name, data_dir, builder_options)
    if streaming:
        return _stream(corpus, plan_of(corpus, folds), split, max_skipped, cache_dir)
    folder = prepare(corpus, cache_dir=cache_dir, num_proc=num_proc, max_skipped=max_skipped, folds=folds)
    return _open(folder, name, split)


def _check_options(name: str, data_dir: Any, options: Mapping[str, Any]) -> None:
    """A prepared corpus is as it was built: options may be repeated, not changed."""
    built = manifest_of(name)["options"]
    given = {**({} if data_dir is None else {"data_dir": data_dir}), **options}
    differing = [key for key, value in given.items() if key not in built or built[key] != value]
    if differing:
        raise OptionError(
            f"{name!r} is a prepared corpus, built with {', '.join(f'{key}={value}' for key, value in built.items())}; "
            f"leave out {', '.join(differing)}, or build it anew."
        )


def _open(folder: Path, name: str, split: str | None) -> datasets.Dataset | datasets.DatasetDict:
    """Memory-map a finished build; nothing is written, so a read-only cache will do."""
    import datasets

    from ecg_transformers.data.printed import printed

    if (folder / MANIFEST_NAME).is_file():  # builds of earlier versions have none
        shards_by_split(str(folder))
    info = datasets.DatasetInfo.from_directory(str(folder))
    parts = {}
    for part in SPLIT_ORDER if split in (None, ALL) else (split,):
        files = split_files(folder, name, part)
        if not files:
            continue
        split_name = datasets.NamedSplit(part)
        pieces = [datasets.Dataset.from_file(str(path), info=info.copy(), split=split_name) for path in files]
        parts[part] = printed(
            pieces[0] if len(pieces) == 1 else datasets.concatenate_datasets(pieces, split=split_name)
        )
    if split is None:
        return datasets.DatasetDict(parts)
    if split == ALL:
        return printed(datasets.concatenate_datasets(list(parts.values()), split=datasets.NamedSplit(ALL)))
    if split not in parts:
        present = [part for part in SPLIT_ORDER if split_files(folder, name, part)]
        raise OptionError(f"{name!r} has no record in the split {split!r} with these options; it has {present}.")
    return parts[split]


def _stream(
    corpus: Corpus, plan: CorpusPlan, split: str | None, max_skipped: float, cache_dir: str | Path | None
) -> datasets.IterableDataset | datasets.IterableDatasetDict:
    from ecg_transformers.data.building.builder import ECGCorpusBuilder

    total = len(plan.items) + len(plan.skipped)
    check_skipped(plan.skipped, total, max_skipped, corpus.facts.name)
    root = root_of_streams(cache_root(cache_dir))
    builder = ECGCorpusBuilder(corpus, plan, max_skipped, cache_dir=str(root / "streaming"))
    if split == ALL:
        import datasets

        parts = builder.as_streaming_dataset(None)
        return datasets.concatenate_datasets([parts[name] for name in SPLIT_ORDER if name in parts])
    if split is not None and not plan.splits.get(split):
        present = [part for part, items in plan.splits.items() if items]
        raise OptionError(
            f"{corpus.facts.name!r} has no record in the split {split!r} with these options; it has {present}."
        )
    return builder.as_streaming_dataset(split)


def _load_several(
    names: list[str],
    data_dir: Any,
    split: str | None,
    streaming: bool,
    options: dict[str, Any],
    settings: dict[str, Any],
) -> Any:
    """Several corpora in turns, split by split."""
    import datasets

    if not names:
        raise OptionError("a list of corpora names each of them once; this list is empty.")
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise OptionError(
            f"a list of corpora names each of them once, and {twice[0]!r} stands in it {names.count(twice[0])} times; for "
            "copies of one corpus in several folders, `ecg-transformers build` each and list the folders of the builds."
        )
    if isinstance(options.get("folds"), str | PathLike):
        raise OptionError("a table of folds goes with one corpus; load each on its own.")
    known = {name: _options_of(name) for name in names}
    every = sorted({option for options_of in known.values() for option in options_of})
    refuse_misspelt(options, ARGUMENTS, every)
    for option in options:
        if option not in every:
            raise OptionError(f"none of the corpora {names} has an option {option!r}{did_you_mean(option, every)}")
    taken = {name: {option: value for option, value in options.items() if option in known[name]} for name in names}
    _say_units(names, taken)
    parts: dict[str, list[Any]] = {}
    for position, name in enumerate(names):
        folder = folder_of(name, position, data_dir, names)
        wanted = ALL if split == ALL else None
        loaded = load_ecg_dataset(name, folder, wanted, streaming, **settings, **taken[name])
        for part, dataset in ({ALL: loaded} if wanted else loaded).items():
            parts.setdefault(part, []).append(dataset)
    joined = _joined(parts)
    if split is not None:
        if split not in joined:
            raise OptionError(f"none of the corpora {names} has a record in the split {split!r}.")
        return joined[split]
    return datasets.IterableDatasetDict(joined) if streaming else datasets.DatasetDict(joined)


def _say_units(names: Sequence[str], options: Mapping[str, dict[str, Any]]) -> None:
    """Log where some corpora of a list give millivolts and others do not."""
    scores = [name for name in names if not _in_millivolts(name, options[name])]
    if scores and len(scores) < len(names):
        others = ", ".join(name for name in names if name not in scores)
        say_once(
            ", ".join(scores),
            "",
            f"its signals are z-scores of each lead and those of {others} are millivolts: normalise each record before a "
            "model sees them together (the presets of most methods do), or take units='mV' for it.",
        )


def _in_millivolts(name: str, options: dict[str, Any]) -> bool:
    if _is_prepared(name):
        return "z_scores" not in BuildReport.load(name).flags
    cls = corpus_class(name)
    return cls.units_of(make_options(cls.options_class, options, name)) == "mV"


def _joined(parts: Mapping[str, list[Any]]) -> dict[str, Any]:
    """The data sets of each split in turns; without labels, where not all have the same."""
    import datasets

    from ecg_transformers.data.printed import printed

    label_sets = {
        (tuple(label_names(dataset)), dataset.features["label_ids"].feature.num_classes)
        for several in parts.values()
        for dataset in several
    }
    joined = {}
    for part, several in parts.items():
        aligned = several if len(label_sets) == 1 else [_without_labels(dataset) for dataset in several]
        joined[part] = aligned[0]
        if len(aligned) > 1:
            joined[part] = printed(
                datasets.interleave_datasets(aligned, stopping_strategy="all_exhausted_without_replacement")
            )
    return joined


def _options_of(name: str) -> list[str]:
    """The options that a corpus takes, or that a prepared one was built with."""
    if _is_prepared(name):
        return list(manifest_of(name)["options"])
    return [option.name for option in dataclasses.fields(corpus_class(name).options_class)]


def _is_prepared(name: str) -> bool:
    return name not in CORPORA and is_prepared(name)


def _needs_folder(name: str) -> bool:
    return not _is_prepared(name) and corpus_class(name).needs_data_dir


def folder_of(name: str, position: int, data_dir: DataDir, names: Sequence[str]) -> str | PathLike[str] | None:
    """The folder of one corpus of a list, from the `data_dir` of all; None for one that needs none."""
    if isinstance(data_dir, Mapping):
        return data_dir.get(name)
    if not isinstance(data_dir, str | PathLike | None):
        if len(data_dir) == len(names):
            return data_dir[position]
        needing = [each for each in names if _needs_folder(each)]
        if len(data_dir) != len(needing):
            raise OptionError(
                f"data_dir names {len(data_dir)} folders for {len(names)} corpora, of which {len(needing)} need one; give a "
                "mapping from corpus name to folder, or as many folders, in the order of the corpora."
            )
        return data_dir[needing.index(name)] if name in needing else None
    if data_dir is not None and sum(map(_needs_folder, names)) > 1:
        raise OptionError(
            "several corpora need a folder each: data_dir as a mapping from corpus name to folder, or a list."
        )
    return data_dir if _needs_folder(name) else None


def _without_labels(dataset: Any) -> Any:
    """The same rows without the label columns' content; the label texts stay."""
    empty = record_features(())
    columns = ["label_ids", "label_vector", "task_kind"]
    if hasattr(dataset, "_data"):
        plain = dataset.remove_columns(columns)
        plain = plain.add_column("label_ids", [[]] * len(dataset), feature=empty["label_ids"])
        plain = plain.add_column("label_vector", [[]] * len(dataset), feature=empty["label_vector"])
        plain = plain.add_column("task_kind", ["unlabelled"] * len(dataset), feature=empty["task_kind"])
        return plain.select_columns(list(empty))
    return dataset.map(
        lambda row: {"label_ids": [], "label_vector": [], "task_kind": "unlabelled"},
        remove_columns=columns,
        features=empty,
    )


def label_names(dataset: AnyDataset) -> list[str]:
    """Class names of a dataset in the order of `label_vector`; a dictionary of datasets is asked at its first part."""
    features = _first(dataset).features
    if features is None or "label_ids" not in features:
        raise ECGDataError("this dataset does not have the row schema of ecg_transformers (no column 'label_ids').")
    return list(features["label_ids"].feature.names)


def task_kind(dataset: AnyDataset) -> str:
    """What the labels are: "multilabel", "multiclass", "beats", "minutes", "delineation" or "unlabelled"."""
    part = _first(dataset)
    names = label_names(part)
    row = next(iter(part.select_columns(["task_kind"])), None)
    return row["task_kind"] if row else ("multilabel" if names else "unlabelled")


def build_report(
    name: str,
    data_dir: str | PathLike[str] | None = None,
    *,
    cache_dir: str | Path | None = None,
    max_skipped: float = MAX_SKIPPED,
    num_proc: int | None = None,
    **builder_options: Any,
) -> BuildReport:
    """The report of the build that `load_ecg_dataset` with the same arguments uses (building it if need be)."""
    if _is_prepared(name):
        _check_options(name, data_dir, builder_options)
        return BuildReport.load(name)
    folds = take_folds(builder_options, _options_of(name))
    refuse_misspelt(builder_options, ARGUMENTS, _options_of(name))
    corpus = make_corpus(name, data_dir, builder_options)
    folder = prepare(corpus, cache_dir=cache_dir, max_skipped=max_skipped, num_proc=num_proc, folds=folds)
    return BuildReport.load(folder)


def describe_corpora() -> list[dict[str, Any]]:
    """The fact sheets of all corpora as plain data; imports nothing heavy."""
    return [corpus_sheet(name) for name in CORPORA]


def _first(dataset: Any) -> Any:
    return next(iter(dataset.values())) if isinstance(dataset, dict) else dataset


__all__ = [
    "BuildReport",
    "RecordTable",
    "build_report",
    "describe_corpora",
    "label_names",
    "load_ecg_dataset",
    "task_kind",
]
