"""Looking at signals and models: ECG paper, reconstructions, curves, attention, embeddings, saliency.

Every `plot_…` function returns a matplotlib `Figure` that belongs to nobody else (no pyplot, no global state, no
display needed); `ecg_transformers.analysis.figures.save_figure` writes it. matplotlib is imported when a figure
is made.
"""
