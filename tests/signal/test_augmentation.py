"""Augmentations against recorded draws of the published code, and their properties."""

from typing import Any

import numpy as np
import pytest

from ecg_transformers.signal import augmentation
from ecg_transformers.signal.augmentation import AUGMENTATIONS, RandAugment

NEEDS_NO_SETTINGS = {"flip", "erase", "circular_shift", "rlm"}


class Replay:
    """A stand-in for a Generator that plays back recorded draws in order and notes that all were used."""

    def __init__(self, draws: list[Any]) -> None:
        self.draws = list(draws)

    def _next(self, *_: Any, **__: Any) -> Any:
        return self.draws.pop(0)

    choice = integers = uniform = random = standard_normal = _next


class Legacy:
    """A Generator's methods over NumPy's legacy random state, which the published code draws from."""

    def __init__(self, seed: int) -> None:
        self.state = np.random.RandomState(seed)

    def choice(self, *args: Any, **kwargs: Any) -> Any:
        return self.state.choice(*args, **kwargs)

    def integers(self, low: int, high: int) -> int:
        return int(self.state.randint(low, high))

    def uniform(self, low: float, high: float) -> float:
        return float(self.state.uniform(low, high))

    def random(self) -> float:
        return float(self.state.rand())

    def standard_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.state.randn(*shape)


def recorded_draws(tensors: dict[str, Any], case: str) -> list[Any]:
    names = sorted(name for name in tensors if name.startswith(f"{case}.draw"))
    return [tensors[name].numpy() for name in names]


def test_every_recorded_augmentation_is_reproduced(parity: Any) -> None:
    tensors, config = parity("st_mem", "augmentations"), parity.config("st_mem", "augmentations")
    x = tensors["x"].numpy()
    cases = [name.removesuffix(".out") for name in tensors if name.endswith(".out") and ".level" in name]
    assert len(cases) > 15
    for case in cases:
        name, level = case.split(".level")
        settings = augmentation.level_settings(name, int(level))
        recorded = settings if name == "rlm" else config[case]  # of it, the reference recorded no settings
        assert settings == pytest.approx(recorded), case
        replay = Replay(recorded_draws(tensors, case))
        result = AUGMENTATIONS[name](x, generator=replay, **settings)
        np.testing.assert_allclose(result, tensors[f"{case}.out"].numpy(), atol=1e-9, err_msg=case)
        assert not replay.draws, case


def test_recorded_randaugment_is_reproduced(parity: Any) -> None:
    tensors, config = parity("st_mem", "augmentations"), parity.config("st_mem", "augmentations")
    augment = RandAugment(config["randaugment.ops"])
    cases = [name.removesuffix(".out") for name in tensors if name.startswith("randaugment.") and name.endswith(".out")]
    for case in cases:
        replay = Replay(recorded_draws(tensors, case))
        result = augment(tensors["x"].numpy(), replay)
        np.testing.assert_allclose(result, tensors[f"{case}.out"].numpy(), atol=1e-9, err_msg=case)
        assert not replay.draws, case


def test_shifts_and_kept_leads_are_reproduced(parity: Any) -> None:
    tensors = parity("st_mem", "augmentations")
    x = tensors["x"].numpy()
    for direction in (-1, 1):
        expected = tensors[f"shift.dir{direction:+d}.ratio0p17.out"].numpy()
        np.testing.assert_array_equal(augmentation.shift_by(x, direction * int(0.17 * x.shape[-1])), expected)
    for mode in ("limb", "lead1", "lead2"):
        np.testing.assert_array_equal(augmentation.keep_leads(x, mode), tensors[f"lead_mask.{mode}.out"].numpy())


def test_published_operations_follow_the_legacy_generator_of_a_seed(parity: Any) -> None:
    tensors = parity("ecg_jepa", "preprocess")
    x = tensors["ra.x"].numpy()
    for name in augmentation.RANDAUGMENT_OPS:
        generator = Legacy(711)
        result = AUGMENTATIONS[name](x, generator=generator, **augmentation.level_settings(name, 10))
        np.testing.assert_allclose(result, tensors[f"ra.{name}"].numpy(), atol=1e-9, err_msg=name)
    order = ["erase", "flip", "drop", "cutout", "shift", "sine", "partial_sine", "partial_white_noise"]
    augment, generator = RandAugment(order), Legacy(712)
    for expected in tensors["ra.sequence8"].numpy():
        np.testing.assert_allclose(augment(x, generator), expected, atol=1e-9)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_augmentations_leave_their_input_alone_and_keep_its_dtype(name: str) -> None:
    x = np.random.default_rng(1).standard_normal((12, 500)).astype(np.float32)
    before = x.copy()
    settings = augmentation.level_settings(name, 10)
    result = AUGMENTATIONS[name](x, generator=np.random.default_rng(2), **settings)
    assert result.dtype == np.float32
    assert result.shape == x.shape
    np.testing.assert_array_equal(x, before)
    result[:] = 7
    np.testing.assert_array_equal(x, before)


def test_randaugment_repeats_with_a_seed_and_differs_between_seeds() -> None:
    x = np.random.default_rng(1).standard_normal((12, 500))
    augment = RandAugment(prob=1.0)
    one, again, other = (augment(x, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_repeated_operation_counts_once() -> None:
    assert RandAugment(["flip", "flip", "erase"]).op_names == ["flip", "erase"]


def test_erase_can_spare_crops_with_one_lead() -> None:
    x = np.ones((1, 50))
    assert not RandAugment(["erase"], num_layers=1, prob=1.0)(x, np.random.default_rng(0)).any()
    spared = RandAugment(["erase"], num_layers=1, prob=1.0, erase_min_leads=2)(x, np.random.default_rng(0))
    np.testing.assert_array_equal(spared, x)


def test_masked_leads_are_zero_and_the_rest_is_standardised_jointly() -> None:
    x = np.random.default_rng(0).standard_normal((6, 300)) * 3 + 1
    result = augmentation.rlm(x, Replay([0.1, 0.9, 0.2, 0.5, 0.31, 0.29]))  # type: ignore[arg-type]
    assert not result[[0, 2, 5]].any()
    kept = result[[1, 3, 4]]
    assert kept.mean() == pytest.approx(0, abs=1e-12)
    assert kept.std() == pytest.approx(1)
    assert not augmentation.rlm(x, Replay([0.0] * 6)).any()  # type: ignore[arg-type]


def test_circular_shift_loses_no_sample() -> None:
    x = np.arange(24.0).reshape(2, 12)
    result = augmentation.circular_shift(x, np.random.default_rng(5), max_shift=4)
    np.testing.assert_array_equal(np.sort(result, axis=1), x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RandAugment(level=0), "level"),
        (lambda: RandAugment(["wobble"]), "wobble"),
        (lambda: RandAugment(["flip"], num_layers=2), "num_layers"),
        (lambda: RandAugment(prob=2), "prob"),
        (lambda: augmentation.drop(np.ones((1, 3)), np.random.default_rng(0)), "longer crop"),
        (lambda: augmentation.keep_leads(np.ones((2, 3)), "all"), "mode"),
    ],
)
def test_settings_without_meaning_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
