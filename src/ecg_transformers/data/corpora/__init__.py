"""The corpora, one file each. Modules are imported when a corpus is asked for."""

from __future__ import annotations

import importlib
from typing import Any

from ecg_transformers.data.corpora.base import Corpus, CorpusFacts
from ecg_transformers.data.errors import OptionError
from ecg_transformers.data.options import make_options
from ecg_transformers.words import did_you_mean

CORPORA = {
    "synthetic": "synthetic:SyntheticCorpus",
    "folder": "folder.corpus:FolderCorpus",
    "ptb_xl": "ptb_xl:PTBXLCorpus",
    "mitdb": "mitdb:MITDBCorpus",
    "apnea_ecg": "apnea_ecg:ApneaECGCorpus",
    "ludb": "ludb:LUDBCorpus",
}
PLANNED = (
    "cpsc2018",
    "cinc2017",
    "cinc2020",
    "cinc2021",
    "chapman",
    "ningbo",
    "georgia",
    "ptb",
    "incart",
    "cpsc_extra",
    "code15",
    "sph",
    "mimic_iv_ecg",
    "brugada_huca",
)


def corpus_class(name: str) -> type[Corpus]:
    """The class of a corpus by name; an unknown name is an error with the nearest match."""
    if name in PLANNED:
        raise OptionError(
            f"the corpus {name!r} is known but not yet available in this version; available: {', '.join(CORPORA)} "
            "('folder' reads any folder of records with a table of labels)."
        )
    if name not in CORPORA:
        raise OptionError(f"there is no corpus {name!r}{did_you_mean(name, list(CORPORA))}")
    module, _, attribute = CORPORA[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def make_corpus(name: str, data_dir: Any = None, options: dict[str, Any] | None = None) -> Corpus:
    """A corpus with options given as keyword arguments."""
    cls = corpus_class(name)
    return cls(data_dir, make_options(cls.options_class, options or {}, name))


__all__ = ["CORPORA", "PLANNED", "Corpus", "CorpusFacts", "corpus_class", "make_corpus"]
