"""Metrics, statistics and readouts: how a model is judged, the same way for every model.

`metrics` (AUROC, AUPRC, F1, reports) and `statistics` (bootstrap by patient, paired tests) need only numpy and
scipy; `aggregation` turns crops into records; `subsets` draws few labels by patient; `readouts` reads frozen
encoders; `evaluate_metrics` offers the metrics as `evaluate.Metric` objects. Import the module that is needed:
nothing heavy is imported here.
"""
