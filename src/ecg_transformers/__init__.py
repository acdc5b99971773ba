"""ECG models for the Hugging Face ecosystem: published self-supervised methods, exact, trainable, on the Hub.

After `import ecg_transformers`, transformers' Auto classes know every config, model and feature extractor, and
`transformers.pipeline` every task. Names below are imported when first used.
"""

from importlib import import_module
from typing import Any

from ecg_transformers._version import __version__ as __version__
from ecg_transformers.models.registry import class_modules
from ecg_transformers.models.registry import get_method as get_method
from ecg_transformers.models.registry import list_methods as list_methods
from ecg_transformers.registration import register_with_transformers

_LAZY = {
    "check": "ecg_transformers.features.checking",
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


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return ["__version__", "get_method", "list_methods", *sorted({**_LAZY, **class_modules()})]
    module = _LAZY.get(name) or class_modules().get(name)
    if module is None:
        raise AttributeError(f"module 'ecg_transformers' has no attribute {name!r}")
    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *class_modules()})


register_with_transformers()
