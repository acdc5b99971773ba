"""Looking at signals and models: ECG paper, reconstructions, curves, attention, saliency, features, embeddings.

Every `plot_…` function returns a matplotlib `Figure` that belongs to nobody else (no pyplot, no global state, no
display needed); `save_figure` writes it as PNG, SVG or PDF. The names below are imported when first used, and matplotlib
when a figure is made. `docs/tour.md` shows each at work.
"""

from importlib import import_module
from typing import Any

_LAZY = {
    "average_map": "ecg_transformers.analysis.attention",
    "compare_models": "ecg_transformers.evaluation.statistics",
    "compute_attentions": "ecg_transformers.analysis.attention",
    "explain_record": "ecg_transformers.analysis.saliency",
    "extract_features": "ecg_transformers.evaluation.readouts",
    "input_saliency": "ecg_transformers.analysis.saliency",
    "lead_by_lead": "ecg_transformers.analysis.attention",
    "lead_points": "ecg_transformers.analysis.embeddings",
    "lead_structure": "ecg_transformers.analysis.embeddings",
    "linear_cka": "ecg_transformers.analysis.embeddings",
    "on_grid": "ecg_transformers.analysis.attention",
    "plot_attention": "ecg_transformers.analysis.beat_plots",
    "plot_attention_map": "ecg_transformers.analysis.attention",
    "plot_beat_saliency": "ecg_transformers.analysis.beat_plots",
    "plot_beats": "ecg_transformers.analysis.beat_plots",
    "plot_ecg": "ecg_transformers.analysis.ecg_paper",
    "plot_embedding": "ecg_transformers.analysis.embeddings",
    "plot_lead_attention": "ecg_transformers.analysis.attention",
    "plot_loss_curve": "ecg_transformers.analysis.plots",
    "plot_reconstruction": "ecg_transformers.analysis.plots",
    "plot_roc_curves": "ecg_transformers.analysis.plots",
    "plot_saliency": "ecg_transformers.analysis.beat_plots",
    "rollout": "ecg_transformers.analysis.attention",
    "save_figure": "ecg_transformers.analysis.figures",
}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted(_LAZY)
    if name not in _LAZY:
        raise AttributeError(f"module 'ecg_transformers.analysis' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
