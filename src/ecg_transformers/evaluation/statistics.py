"""Intervals and tests for classifiers that are judged on records of patients.

The unit of resampling is the patient: records of one patient are not independent. A resample is a vector of weights
(how often each record occurs), the same one for every model that is compared. The set of classes is fixed on the full
set of records; in a resample the mean goes over the classes that are defined there, and the share of resamples in
which a class was undefined is reported. Redrawing until all classes are present would bias the interval.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecg_transformers.evaluation.metrics import check_targets
from ecg_transformers.evaluation.weighted import WEIGHTED_METRICS

Array = NDArray[np.float64]
Interval = list[float]
Resample = Literal["patients", "seeds_and_patients"]


def bootstrap(
    y_true: ArrayLike,
    y_score: ArrayLike,
    patient_ids: Sequence[Hashable] | None = None,
    *,
    metric: str = "macro_auroc",
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    method: Literal["percentile", "bca"] = "percentile",
    threshold: float = 0.5,
) -> dict[str, Any]:
    """Confidence interval of a macro metric by resampling patients with replacement.

    Args:
        y_true: multi-hot `(records, classes)` or class indices `(records,)`.
        y_score: `(records, classes)`.
        patient_ids: one id a record; `None` (or None for a record) makes the record its own cluster.
        metric: a key of `WEIGHTED_METRICS`: `macro_auroc`, `macro_auprc`, `macro_f1`, `accuracy`,
            `exact_match`, `macro_sensitivity`, `macro_specificity`, `macro_ppv`. For the hard predictions of a
            multi-class task give the arg-max as 0/1 columns; its accuracy is `exact_match` (`accuracy` counts the
            cells of multi-label tasks).
        method: `"percentile"`, or `"bca"` (bias-corrected and accelerated, leave-one-patient-out).
        threshold: of the metrics that need hard predictions.

    Returns:
        `value`, `ci95` (named after `level`), `undefined_fraction` (a class), `cluster` ("patient" or
        "record"), `n_clusters`, `n_boot`, `seed`, `method`, `level`.
    """
    options: dict[str, Any] = {"metric": metric, "level": level, "method": method, "threshold": threshold}
    result = bootstrap_seeds(y_true, [y_score], patient_ids, n_boot=n_boot, seed=seed, **options)
    return {key: entry for key, entry in result.items() if key not in ("per_seed", "mean", "sd", "resample")} | {
        "value": result["mean"]
    }


def bootstrap_seeds(
    y_true: ArrayLike,
    y_scores: Sequence[ArrayLike],
    patient_ids: Sequence[Hashable] | None = None,
    *,
    metric: str = "macro_auroc",
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    method: Literal["percentile", "bca"] = "percentile",
    resample: Resample = "patients",
    threshold: float = 0.5,
) -> dict[str, Any]:
    """Interval of the mean over training seeds, all scored on the same records.

    `resample="patients"` treats the trained seeds as given; `"seeds_and_patients"` also draws seeds with
    replacement (outer), so that the interval covers another training run too. The SD over seeds stands beside the
    interval in either case and is no interval itself.

    Args:
        y_scores: one array `(records, classes)` a seed; the other arguments as in `bootstrap`.

    Returns:
        as `bootstrap`, with `per_seed`, `mean` and `sd` (None for one seed) in place of `value`.
    """
    target, scores = _check_scores(y_true, y_scores)
    clusters, cluster_kind = cluster_index(patient_ids, len(target))
    statistic = _Statistic(target, scores, metric, threshold)
    observed = statistic.per_seed(np.ones((1, len(target))))[:, 0]
    draws, undefined = _draw(statistic, clusters, n_boot, seed, resample)
    if method == "bca":
        interval = _bca(statistic, clusters, draws, float(observed.mean()), level)
    else:
        interval = percentile_interval(draws, level)
    return {
        "per_seed": [float(value) for value in observed],
        "mean": float(observed.mean()),
        "sd": float(observed.std(ddof=1)) if len(observed) > 1 else None,
        f"ci{round(100 * level)}": interval,
        "undefined_fraction": undefined,
        "cluster": cluster_kind,
        "n_clusters": int(clusters.max()) + 1,
        "n_boot": n_boot,
        "seed": seed,
        "method": method,
        "level": level,
        "resample": resample,
    }


def paired_bootstrap(
    y_true: ArrayLike,
    score_a: ArrayLike,
    score_b: ArrayLike,
    patient_ids: Sequence[Hashable] | None,
    n_boot: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Difference of the macro AUROCs of two models, a - b, on the same records and the same resamples.

    Returns:
        `difference`, `ci95` `[low, high]`, `p_value` (two-sided).
        `compare_models` takes other metrics and several seeds, and tells more.
    """
    result = compare_models(y_true, [score_a], [score_b], patient_ids, n_boot=n_boot, seed=seed)
    return {key: result[key] for key in ("difference", "ci95", "p_value")}


def compare_models(
    y_true: ArrayLike,
    scores_a: Sequence[ArrayLike],
    scores_b: Sequence[ArrayLike],
    patient_ids: Sequence[Hashable] | None = None,
    *,
    metric: str = "macro_auroc",
    n_boot: int = 2000,
    seed: int = 0,
    resample: Resample = "patients",
    threshold: float = 0.5,
) -> dict[str, Any]:
    """Paired comparison of the mean over seeds of model a with that of model b.

    The two-sided p-value is `(1 + 2 min(#d <= 0, #d >= 0)) / (n_boot + 1)`, at most 1. With equal numbers of seeds
    the seeds are paired (drawn together when seeds are resampled): give both in the same order.

    Returns:
        `difference`, `ci95`, `p_value`, `per_seed` (differences, where the numbers of seeds agree),
        `undefined_fraction`, `cluster`, `n_boot`, `seed`.
    """
    target, first = _check_scores(y_true, scores_a)
    _, second = _check_scores(y_true, scores_b)
    clusters, cluster_kind = cluster_index(patient_ids, len(target))
    models = [_Statistic(target, scores, metric, threshold) for scores in (first, second)]
    ones = np.ones((1, len(target)))
    observed = [model.per_seed(ones)[:, 0] for model in models]
    draws_a, undefined = _draw(models[0], clusters, n_boot, seed, resample)
    draws_b, _ = _draw(models[1], clusters, n_boot, seed, resample)
    draws = draws_a - draws_b
    paired = len(observed[0]) == len(observed[1])
    return {
        "difference": float(observed[0].mean() - observed[1].mean()),
        "ci95": percentile_interval(draws, 0.95),
        "p_value": bootstrap_p_value(draws),
        "per_seed": [float(value) for value in observed[0] - observed[1]] if paired else None,
        "undefined_fraction": undefined,
        "cluster": cluster_kind,
        "n_boot": n_boot,
        "seed": seed,
    }


def holm(p_values: Mapping[str, float] | Sequence[float]) -> dict[str, float] | list[float]:
    """Holm's step-down adjustment of a family of p-values that was written down before the results were seen.

    Returns:
        adjusted p-values in the form of the input: a dict with the same keys, or a list in the same order.
    """
    values = np.asarray(list(p_values.values()) if isinstance(p_values, Mapping) else list(p_values), dtype=np.float64)
    if values.size and not ((values >= 0) & (values <= 1)).all():
        raise ValueError("p-values must lie between 0 and 1.")
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(stepped, 1.0)
    if isinstance(p_values, Mapping):
        return dict(zip(p_values, adjusted.tolist(), strict=True))
    return adjusted.tolist()


def delong(y_true: ArrayLike, score_a: ArrayLike, score_b: ArrayLike) -> dict[str, Any]:
    """Paired test of two AUROCs of one class after DeLong et al. (1988), in the mid-rank form of Sun and Xu (2014).

    It treats records as independent; for several records a patient use `paired_bootstrap`.

    Args:
        y_true: 0/1 `(records,)`; `score_a`, `score_b`: `(records,)`.

    Returns:
        `auroc_a`, `auroc_b`, `difference`, `ci95`, `p_value`, `standard_error`.
    """
    from scipy.stats import norm

    target, first = check_targets(y_true, score_a)
    second = check_targets(y_true, score_b)[1]
    if target.shape[1] != 1 or not 0 < target.sum() < len(target):
        raise ValueError("DeLong's test is for one class with at least one positive and one negative record.")
    positive = target[:, 0] == 1
    parts = [_placements(scores[:, 0], positive) for scores in (first, second)]
    areas = [float(part[0].mean()) for part in parts]
    over_positives = parts[0][0] - parts[1][0]
    over_negatives = parts[0][1] - parts[1][1]
    variance = sum(part.var(ddof=1) / len(part) if len(part) > 1 else 0.0 for part in (over_positives, over_negatives))
    error = float(np.sqrt(variance))
    difference = areas[0] - areas[1]
    half = float(norm.ppf(0.975)) * error
    p_value = 2.0 * float(norm.sf(abs(difference) / error)) if error > 0 else 1.0 if difference == 0 else 0.0
    return {
        "auroc_a": areas[0],
        "auroc_b": areas[1],
        "difference": difference,
        "ci95": [difference - half, difference + half],
        "p_value": p_value,
        "standard_error": error,
    }


def cluster_index(patient_ids: Sequence[Hashable] | None, num_records: int) -> tuple[NDArray[np.int64], str]:
    """The number of the cluster of each record, and whether clusters are patients or records."""
    if patient_ids is None or all(patient is None for patient in patient_ids):
        return np.arange(num_records), "record"
    if len(patient_ids) != num_records:
        raise ValueError(f"{len(patient_ids)} patient ids were given for {num_records} records.")
    numbers: dict[Hashable, int] = {}
    keys = [("record", row) if patient is None else patient for row, patient in enumerate(patient_ids)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64), "patient"


def resample_weights(clusters: NDArray[np.int64], n_boot: int, generator: np.random.Generator) -> Array:
    """How often each record occurs in each resample of clusters: `(n_boot, records)`."""
    count = int(clusters.max()) + 1
    drawn = generator.integers(0, count, size=(n_boot, count)) + count * np.arange(n_boot)[:, None]
    times = np.bincount(drawn.ravel(), minlength=n_boot * count).reshape(n_boot, count)
    return times[:, clusters].astype(np.float64)


def percentile_interval(draws: ArrayLike, level: float = 0.95) -> Interval:
    """The central share `level` of the draws; draws that are not finite (no class defined) are left out."""
    values = np.asarray(draws, dtype=np.float64)
    values = values[np.isfinite(values)]
    if values.size == 0:
        raise ValueError("No resample had a class with both a positive and a negative; there is no interval.")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def bootstrap_p_value(draws: ArrayLike) -> float:
    """Two-sided p-value of "the difference is zero" from bootstrap draws of the difference."""
    values = np.asarray(draws, dtype=np.float64)
    values = values[np.isfinite(values)]
    smaller = min(int((values <= 0).sum()), int((values >= 0).sum()))
    return min(1.0, (1 + 2 * smaller) / (len(values) + 1))


class UndefinedMetricError(ValueError):
    """No class has both the positives and the negatives that a metric needs."""


class _Statistic:
    """The macro metric of each seed as a function of record weights, over classes fixed on the full set."""

    def __init__(self, target: Array, scores: list[Array], metric: str, threshold: float) -> None:
        if metric not in WEIGHTED_METRICS:
            raise ValueError(f"Unknown metric {metric!r}; choose from {', '.join(WEIGHTED_METRICS)}.")
        build = WEIGHTED_METRICS[metric]
        full = np.ones((1, len(target)))
        every_class = [build(target, score, threshold) for score in scores]
        self.defined = np.isfinite(every_class[0](full)[0])
        if not self.defined.any():
            raise UndefinedMetricError(f"{metric} is undefined: no class has what it needs among the records.")
        self.functions = every_class

    def per_class(self, weights: Array, seed_index: int) -> Array:
        return self.functions[seed_index](weights)

    def per_seed(self, weights: Array) -> Array:
        """`(seeds, resamples)`: mean over the classes defined in the resample; NaN where none is."""
        every_seed = (self.per_class(weights, index) for index in range(self.num_seeds))
        return np.stack([_nan_mean(values[:, self.defined]) for values in every_seed])

    @property
    def num_seeds(self) -> int:
        return len(self.functions)


def _draw(
    statistic: _Statistic, clusters: NDArray[np.int64], n_boot: int, seed: int, resample: Resample
) -> tuple[Array, list[float]]:
    """Bootstrap draws `(n_boot,)` of the mean over seeds, and the undefined fraction of each class."""
    generator, seed_generator = (np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(2))
    draws, undefined, done = np.empty(n_boot), np.zeros(len(statistic.defined)), 0
    while done < n_boot:
        size = min(250, n_boot - done)  # keeps the weight matrix small
        weights = resample_weights(clusters, size, generator)
        values = statistic.per_seed(weights)
        if resample == "seeds_and_patients":
            picked = seed_generator.integers(0, statistic.num_seeds, size=(statistic.num_seeds, size))
            values = np.take_along_axis(values, picked, axis=0)
        draws[done : done + size] = values.mean(axis=0)
        undefined += (~np.isfinite(statistic.per_class(weights, 0))).sum(axis=0)
        done += size
    return draws, [float(count / n_boot) for count in undefined]


def _bca(statistic: _Statistic, clusters: NDArray[np.int64], draws: Array, observed: float, level: float) -> Interval:
    from scipy.stats import norm

    finite = draws[np.isfinite(draws)]
    below = ((finite < observed).sum() + 0.5 * (finite == observed).sum()) / len(finite)
    count = int(clusters.max()) + 1
    left_out = []
    for start in range(0, count, 250):
        omitted = np.arange(start, min(start + 250, count))
        weights = (clusters[None, :] != omitted[:, None]).astype(np.float64)
        left_out.append(statistic.per_seed(weights).mean(axis=0))
    jackknife = np.concatenate(left_out)
    deviation = np.nanmean(jackknife) - jackknife
    spread = np.nansum(deviation**2)
    acceleration = np.nansum(deviation**3) / (6 * spread**1.5) if spread > 0 else 0.0
    bias = norm.ppf(np.clip(below, 1 / (2 * len(finite)), 1 - 1 / (2 * len(finite))))
    limits = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        shifted = bias + norm.ppf(tail)
        limits.append(float(norm.cdf(bias + shifted / (1 - acceleration * shifted))))
    return [float(limit) for limit in np.quantile(finite, limits)]


def _placements(score: Array, positive: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Share of negatives below each positive, and of positives above each negative (ties count one half)."""
    from scipy.stats import rankdata

    everyone = rankdata(score)
    above, below = score[positive], score[~positive]
    over_positives = (everyone[positive] - rankdata(above)) / len(below)
    over_negatives = 1.0 - (everyone[~positive] - rankdata(below)) / len(above)
    return over_positives, over_negatives


def _check_scores(y_true: ArrayLike, y_scores: Sequence[ArrayLike]) -> tuple[Array, list[Array]]:
    if len(y_scores) == 0:
        raise ValueError("At least one array of scores is needed.")
    checked = [check_targets(y_true, score) for score in y_scores]
    return checked[0][0], [score for _, score in checked]


def _nan_mean(values: Array) -> Array:
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
