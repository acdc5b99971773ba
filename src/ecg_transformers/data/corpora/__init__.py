"""The corpora, one file each. Modules are imported when a corpus is asked for."""

from __future__ import annotations

import importlib
from os import PathLike
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
    "cpsc2018": "cpsc2018:CPSC2018Corpus",
    "cinc2017": "cinc2017:CinC2017Corpus",
    "cinc2020": "cinc2020:CinC2020Corpus",
    "cinc2021": "cinc2021:CinC2021Corpus",
    "chapman": "chapman:ChapmanCorpus",
    "ningbo": "ningbo:NingboCorpus",
    "georgia": "georgia:GeorgiaCorpus",
    "ptb": "ptb:PTBCorpus",
    "incart": "incart:INCARTCorpus",
    "cpsc_extra": "cpsc_extra:CPSCExtraCorpus",
    "code15": "code15:CODE15Corpus",
    "sph": "sph:SPHCorpus",
    "mimic_iv_ecg": "mimic_iv_ecg.corpus:MIMICIVECGCorpus",
    "brugada_huca": "brugada_huca:BrugadaHUCACorpus",
    "echonext": "echonext:EchoNextCorpus",
}


def corpus_class(name: str) -> type[Corpus]:
    """The class of a corpus by name; an unknown name is an error with the nearest match."""
    if name not in CORPORA:
        raise OptionError(f"there is no corpus {name!r}{did_you_mean(name, list(CORPORA))}")
    module, _, attribute = CORPORA[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def make_corpus(
    name: str, data_dir: str | PathLike[str] | None = None, options: dict[str, Any] | None = None
) -> Corpus:
    """A corpus with options given as keyword arguments."""
    cls = corpus_class(name)
    return cls(data_dir, make_options(cls.options_class, options or {}, name))


__all__ = ["CORPORA", "Corpus", "CorpusFacts", "corpus_class", "make_corpus"]
