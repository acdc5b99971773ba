"""What is in an embedding: lead structure with its controls, similarity of representations, and pictures.

Lead structure is judged on cosine distances in all dimensions; t-SNE is only the picture. Lead embeddings are *added*
to the input of some models and cluster by themselves, so the claim "learnt spatial structure" is the excess over the
controls of `lead_structure_controls`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ecg_transformers.analysis.figures import COLOURS, INK, MUTED, new_figure, set_title
from ecg_transformers.signal.leads import LIMB_LEADS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ecg_transformers.models.base import ECGPreTrainedModel

Array = NDArray[np.float64]


def lead_points(model: ECGPreTrainedModel, batches: Iterable[Mapping[str, Any]]) -> Array:
    """Mean token over time of every record and lead, `(records, leads, D)`, from a frozen encoder.

    Args:
        model: any model whose tokens belong to leads.
        batches: model inputs with `input_values (B, L, T)`.

    Raises:
        ValueError: the tokens of the model belong to no lead.
    """
    encoder, parts = model.base_model, []
    training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            for batch in batches:
                hidden = encoder(**batch).last_hidden_state
                tokens = encoder.tokens_by_lead(hidden, batch["input_values"].shape[1])
                if tokens is None:
                    raise ValueError(f"The tokens of {type(encoder).__name__} do not belong to single leads.")
                parts.append(tokens.float().mean(dim=2).cpu().numpy().astype(np.float64))
    finally:
        encoder.train(training)
    return np.concatenate(parts)


def lead_structure(
    points: ArrayLike, lead_names: Sequence[str], *, k: int = 20, permutations: int = 1000, seed: int = 0
) -> dict[str, float]:
    """How well leads group in the embedding.

    Args:
        points: `(records, leads, D)`, as from `lead_points`; 500 records or more give stable figures.
        lead_names: of the second axis.
        k: neighbours of the vote.
        permutations: of the limb/precordial labels within records, for the p-value.

    Returns:
        `silhouette_group` (limb against precordial), `silhouette_lead` (each lead a group), `knn_group` (share
        of points whose k nearest points of other records vote for the right group), `knn_chance` (share of the
        larger group), `knn_p_value`.
    """
    values = np.asarray(points, dtype=np.float64)
    records, leads, _ = values.shape
    limb = np.array([name in LIMB_LEADS for name in lead_names])
    if len(lead_names) != leads or limb.all() or not limb.any():
        raise ValueError(f"Lead structure needs limb and precordial leads, one name a lead; got {list(lead_names)}.")
    if records * (leads - 1) <= k or records < 2:
        raise ValueError(f"{records} records are too few for a vote of {k} neighbours.")
    group = np.tile(limb, records).astype(np.int64)
    flat = values.reshape(records * leads, -1)
    neighbours = nearest_points(flat, np.repeat(np.arange(records), leads), k)
    score = _vote(group, neighbours)
    generator = np.random.default_rng(seed)
    permuted = group.reshape(records, leads)
    drawn = [_vote(generator.permuted(permuted, axis=1).ravel(), neighbours) for _ in range(permutations)]
    return {
        "silhouette_group": silhouette(flat, group),
        "silhouette_lead": silhouette(flat, np.tile(np.arange(leads), records)),
        "knn_group": score,
        "knn_chance": float(max(limb.mean(), 1 - limb.mean())),
        "knn_p_value": (1 + sum(value >= score for value in drawn)) / (permutations + 1),
    }


def lead_structure_controls(model: ECGPreTrainedModel, seed: int = 0) -> Iterator[tuple[str, Any]]:
    """The model and its obligatory controls, each with its name.

    `"trained"`, `"random encoder"` and, where the model adds lead embeddings, `"lead embeddings zeroed"` and
    `"lead embeddings permuted"`.

    Controls are copies; the model stays as it is.
    """
    yield "trained", model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield "random encoder", type(model)(copy.deepcopy(model.config))
    tables = [name for name, _ in model.named_modules() if name.endswith("lead_embeddings")]
    if not tables:
        return
    for change in ("zeroed", "permuted"):
        control = copy.deepcopy(model)
        with torch.no_grad():
            for name in tables:
                weight = control.get_submodule(name).weight
                order = torch.randperm(len(weight), generator=torch.Generator().manual_seed(seed))
                weight.copy_(weight[order].clone() if change == "permuted" else torch.zeros_like(weight))
        yield f"lead embeddings {change}", control


def lead_structure_table(
    model: ECGPreTrainedModel,
    batches: Callable[[], Iterable[Mapping[str, Any]]],
    lead_names: Sequence[str],
    **options: Any,
) -> dict[str, dict[str, float]]:
    """`lead_structure` of the model and of each control; `batches()` gives the same inputs each time."""
    return {
        name: lead_structure(lead_points(control, batches()), lead_names, **options)
        for name, control in lead_structure_controls(model)
    }


def silhouette(points: ArrayLike, groups: ArrayLike) -> float:
    """Mean silhouette under cosine distance, in time linear in the number of points.

    The mean cosine distance to a group is one minus the product with the group's mean unit vector.
    """
    unit, labels = _unit_rows(points), np.asarray(groups)
    names, index = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ValueError("A silhouette needs at least two groups.")
    sizes = np.bincount(index)
    sums = np.stack([unit[index == group].sum(axis=0) for group in range(len(names))])
    product = unit @ sums.T  # (points, groups)
    own = product[np.arange(len(unit)), index] - 1.0  # without the point itself
    inside = 1.0 - own / np.maximum(sizes[index] - 1, 1)
    distance = 1.0 - product / sizes
    distance[np.arange(len(unit)), index] = np.inf
    outside = distance.min(axis=1)
    value = (outside - inside) / np.maximum(np.maximum(inside, outside), 1e-12)
    return float(np.where(sizes[index] > 1, value, 0.0).mean())


def nearest_points(points: ArrayLike, owners: ArrayLike, k: int) -> NDArray[np.int64]:
    """Indices `(points, k)` of the nearest points by cosine that belong to another owner."""
    unit, owner = _unit_rows(points), np.asarray(owners)
    nearest = []
    for start in range(0, len(unit), 512):
        similarity = unit[start : start + 512] @ unit.T
        similarity[owner[start : start + 512, None] == owner[None, :]] = -np.inf
        nearest.append(np.argpartition(-similarity, k - 1, axis=1)[:, :k])
    return np.concatenate(nearest)


def linear_cka(x: ArrayLike, y: ArrayLike, batch_size: int = 256) -> float:
    """Linear centred kernel alignment of two representations, with the unbiased estimator of HSIC.

    Batches accumulate numerator and denominators (Nguyen et al., 2021), so any number of records fits in memory.
    1 for representations that differ by a rotation and a scale, about 0 for independent ones at any width.

    Args:
        x, y: `(records, features)`; features may differ in number.
        batch_size: at least 4 records in each batch; a shorter rest is left out.
    """
    first, second = (np.asarray(part, dtype=np.float64).reshape(len(np.asarray(part)), -1) for part in (x, y))
    if len(first) != len(second):
        raise ValueError(f"CKA compares the same records; got {len(first)} and {len(second)}.")
    if len(first) < 4:
        raise ValueError(f"CKA needs at least 4 records, not {len(first)}.")
    if any(np.ptp(part, axis=0).max() <= 1e-12 * np.abs(part).max() for part in (first, second)):
        raise ValueError("CKA is undefined: one representation is the same for all records.")
    cross = own_first = own_second = 0.0
    for start in range(0, len(first), batch_size):
        rows = slice(start, start + batch_size)
        if len(first[rows]) < 4:
            break
        kernels = [_without_diagonal(part[rows] @ part[rows].T) for part in (first, second)]
        cross += _unbiased_hsic(kernels[0], kernels[1])
        own_first += _unbiased_hsic(kernels[0], kernels[0])
        own_second += _unbiased_hsic(kernels[1], kernels[1])
    if own_first <= 0 or own_second <= 0:
        raise ValueError("CKA is undefined: there are too few records for representations with so little structure.")
    return cross / float(np.sqrt(own_first * own_second))


def plot_embedding(
    points: ArrayLike,
    groups: Sequence[str],
    *,
    perplexity: float = 30.0,
    seed: int = 0,
    title: str | None = None,
    scores: Mapping[str, float] | None = None,
) -> Figure:
    """A t-SNE picture of points `(N, D)`, coloured by group; its settings are printed on it.

    Args:
        groups: name of the group of each point; beyond eight groups colours repeat with other markers.
        scores: figures of the full-dimensional embedding to print beside it.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ImportError("t-SNE needs scikit-learn: pip install ecg_transformers[bench].") from error

    unit = _unit_rows(points)
    perplexity = min(perplexity, (len(unit) - 1) / 3)
    flat = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(unit)
    figure = new_figure(7.2, 5.2)
    axes = figure.add_axes((0.02, 0.07, 0.74, 0.83))
    labels = np.asarray(groups)
    for position, name in enumerate(dict.fromkeys(groups)):
        marker, colour = "o^sD"[position // len(COLOURS) % 4], COLOURS[position % len(COLOURS)]
        x, y = flat[labels == name].T
        axes.scatter(x, y, s=9, marker=marker, color=colour, linewidths=0, label=name)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8, markerscale=1.8, labelcolor=INK)
    if scores:
        text = "\n".join(f"{name.replace('_', ' ')}  {value:.3f}" for name, value in scores.items())
        figure.text(0.775, 0.08, text, fontsize=7, color=INK, va="bottom")
    settings = f"t-SNE of unit vectors, perplexity {perplexity:g}, PCA start, seed {seed}, {len(unit)} points"
    figure.text(0.02, 0.02, settings, fontsize=7, color=MUTED)
    set_title(figure, title)
    return figure


def _vote(group: NDArray[np.int64], neighbours: NDArray[np.int64]) -> float:
    """Share of points whose neighbours' majority is right; a tie counts one half."""
    share = group[neighbours].mean(axis=1)
    right = np.where(group == 1, share, 1 - share)
    return float(((right > 0.5) + 0.5 * (right == 0.5)).mean())


def _without_diagonal(kernel: Array) -> Array:
    np.fill_diagonal(kernel, 0.0)
    return kernel


def _unbiased_hsic(first: Array, second: Array) -> float:
    """Song et al. (2012), of two kernels with an empty diagonal."""
    count = len(first)
    trace = float((first * second).sum())
    sums = float(first.sum() * second.sum()) / ((count - 1) * (count - 2))
    mixed = 2.0 / (count - 2) * float(first.sum(axis=0) @ second.sum(axis=0))
    return (trace + sums - mixed) / (count * (count - 3))


def _unit_rows(points: ArrayLike) -> Array:
    values = np.asarray(points, dtype=np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
