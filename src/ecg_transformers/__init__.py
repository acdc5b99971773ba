"""ECG models for the Hugging Face ecosystem: published self-supervised methods, exact, trainable, on the Hub.

`import ecg_transformers` registers every config, model and feature extractor with transformers' Auto classes and every
pipeline with `transformers.pipeline`. Names below are imported when first used.
"""

from importlib import import_module
from typing import Any

from ecg_transformers._version import __version__
from ecg_transformers.hub.folders import complete_folder
from ecg_transformers.models.auto import register_auto_classes
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.registry import get_method, list_methods
from ecg_transformers.pipelines import register_pipelines

_LAZY = {
    "ECGFeatureExtractor": "ecg_transformers.features.feature_extraction_ecg",
    "ECGSLFeatureExtractor": "ecg_transformers.features.feature_extraction_beats",
    "ECGRecord": "ecg_transformers.data.record",
    "convert_checkpoint": "ecg_transformers.hub.official.conversion",
    "embed": "ecg_transformers.pipelines.embed",
    "get_checkpoint": "ecg_transformers.models.checkpoints",
    "list_checkpoints": "ecg_transformers.models.checkpoints",
    "load_checkpoint": "ecg_transformers.hub.checkpoints",
    "load_ecg_dataset": "ecg_transformers.data.loading",
    "read_record": "ecg_transformers.data.readers",
}
for _method in map(get_method, list_methods()):
    for _dotted in (_method.config, *_method.classes.values()):
        _LAZY[_dotted.rpartition(".")[2]] = _dotted.rpartition(".")[0]

__all__ = ["__version__", "get_method", "list_methods", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ecg_transformers' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


register_auto_classes()
register_pipelines()
ECGPreTrainedModel.saving_hooks[:] = [complete_folder]
