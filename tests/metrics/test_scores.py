"""The scores against torch-fidelity, scipy and their definitions, all on the same seeded features."""

import itertools
import math
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

from gan_lightning.metrics import scores
from gan_lightning.metrics.manifold import density_coverage, precision_recall
from gan_lightning.metrics.memorisation import diversity, memorisation
from gan_lightning.metrics.modes import mode_coverage
from gan_lightning.metrics.paired import PairedName
from gan_lightning.metrics.scores import SCORES, UP, Features, Name, Value, compute

NAMES: list[Name] = [name for name, score in SCORES.items() if score.only is None]


def features(count: int, seed: int, size: int = 16, shift: float = 0.0) -> Tensor:
    """Correlated features (count, size) float64 around 1 + `shift`, where none of them is ever constant."""
    stream = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    return torch.randn(count, size, generator=stream, dtype=torch.float64) @ mixing / math.sqrt(size) + 1 + shift


def logits(count: int, seed: int, classes: int = 10, bias: float = 0.0) -> Tensor:
    """Logits (count, classes) float64 of rather sure predictions; `bias` prefers the last class."""
    found = 3 * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found[:, -1] += bias
    return found


def sets(n_real: int = 300, n_fake: int = 250) -> tuple[Features, Features]:
    return (
        Features(features(n_real, 0), logits(n_real, 1)),
        Features(features(n_fake, 2, shift=0.3), logits(n_fake, 3, bias=2.0)),
    )


def one(name: Name, real: Tensor, fake: Tensor, seed: int = 0) -> Value:
    """The only value of a score of features."""
    (value,) = compute([name], Features(real), Features(fake), seed).values()
    return value


def naive_fid(real: Tensor, fake: Tensor) -> float:
    """Fréchet distance as in equation 6 of Heusel et al. 2017, with scipy's matrix square root in float64."""
    (mean, cov), (other, its_cov) = (
        (x.mean(0), np.cov(x, rowvar=False)) for x in (real.double().numpy(), fake.double().numpy())
    )
    return float(((mean - other) ** 2).sum() + np.trace(cov + its_cov - 2 * np.real(sqrtm(cov @ its_cov))))


def fidelity_fid(real: Tensor, fake: Tensor) -> float:
    """torch-fidelity's FID of the same features."""
    statistics = [fid_features_to_statistics(x.double()) for x in (real, fake)]
    return fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]


def naive_kid(real: Tensor, fake: Tensor) -> float:
    """The unbiased estimator of MMD² with (x·y / D + 1)³, as in Bińkowski et al. 2018, one pair at a time."""

    def kernel(x: list[float], y: list[float]) -> float:
        return (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3

    reals, fakes = real.tolist(), fake.tolist()
    n, m = len(reals), len(fakes)
    within = sum(kernel(x, y) for x, y in itertools.permutations(reals, 2)) / (n * (n - 1))
    within += sum(kernel(x, y) for x, y in itertools.permutations(fakes, 2)) / (m * (m - 1))
    return within - 2 * sum(kernel(x, y) for x in reals for y in fakes) / (n * m)


def fidelity_kid(real: Tensor, fake: Tensor, subsets: int, size: int) -> tuple[float, float]:
    """torch-fidelity's KID of the same features: mean and deviation over its own subsets."""
    found = kid_features_to_metric(real, fake, kid_subsets=subsets, kid_subset_size=size, verbose=False)
    return found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD]


def naive_inception_score(predictions: Tensor, splits: int) -> tuple[float, float]:
    """Mean and deviation of exp(E KL(p(y|x) ‖ p(y))) over equal splits, in order, one image at a time."""
    values = []
    for part in predictions.softmax(1).chunk(splits):
        marginal = part.mean(0).tolist()
        divergences = [sum(p * math.log(p / q) for p, q in zip(row, marginal, strict=True)) for row in part.tolist()]
        values.append(math.exp(sum(divergences) / len(divergences)))
    return float(np.mean(values)), float(np.std(values))


def drawn(predictions: Tensor, seed: int = 0) -> Tensor:
    """The same rows in the order that the Inception Score draws from its seed."""
    return predictions[torch.randperm(len(predictions), generator=torch.Generator().manual_seed(seed))]


def naive_mifid(real: Tensor, fake: Tensor, threshold: float = 0.1) -> float:
    """FID over the mean distance 1 - |cos| of fakes to their nearest real image, where that is below the threshold."""
    away = []
    for sample in fake.tolist():
        cosines = [
            sum(a * b for a, b in zip(sample, row, strict=True)) / (math.hypot(*sample) * math.hypot(*row))
            for row in real.tolist()
        ]
        away.append(min(1 - abs(cosine) for cosine in cosines))
    distance = sum(away) / len(away)
    return naive_fid(real, fake) / (distance + 1e-14 if distance < threshold else 1)


def test_every_score_says_what_it_computes() -> None:
    assert set(get_args(Name)) == set(SCORES)
    real, fake = sets()
    for name, score in SCORES.items():
        assert tuple(compute([name], real, fake)) == score.metrics
    metrics = [metric for name in NAMES for metric in SCORES[name].metrics]
    assert list(compute(NAMES, real, fake)) == metrics
    assert len(set(metrics)) == len(metrics)
    of_texts = {metric for metric in UP if metric.startswith(("bleu_", "distinct_"))}  # what test_text.py finds
    assert {metric for score in SCORES.values() for metric in score.metrics} | {*get_args(PairedName)} > UP - of_texts
    assert {name for name in get_args(PairedName) if name.startswith(("psnr", "ssim"))} < UP
    assert not {name for name in get_args(PairedName) if name.startswith(("l1", "lpips"))} & UP


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("more", [0, 1, 2])
def test_the_fewest_images_are_enough(name: Name, more: int) -> None:
    count = SCORES[name].fewest(5, 3) + more
    real, fake = (Features(features(count, seed, 5), logits(count, seed, 3)) for seed in (4, 5))
    for value in compute([name], real, fake).values():
        assert math.isfinite(value.value)
        assert value.std is None or math.isfinite(value.std)


@pytest.mark.parametrize(
    ("n_real", "n_fake", "size", "tolerance"),
    [
        (300, 300, 16, 1e-10),
        (500, 130, 64, 1e-10),
        (50, 60, 2, 1e-10),
        (20, 30, 50, 1e-6),  # fewer images than features: square roots of eigenvalues that are 0 but for rounding
    ],
)
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_fid_equals_scipy_and_torch_fidelity(
    n_real: int, n_fake: int, size: int, tolerance: float, shift: float
) -> None:
    real, fake = features(n_real, 6, size), 1.3 * features(n_fake, 7, size, shift)
    for reference in (naive_fid, fidelity_fid):
        assert one("fid", real, fake).value == pytest.approx(reference(real, fake), rel=tolerance)


def test_fid_in_closed_form() -> None:
    real = features(400, 8)
    cov = np.trace(np.cov(real.numpy(), rowvar=False))
    for shift, factor in ((0.0, 1.0), (0.5, 1.0), (0.0, 2.0), (-1.0, 0.5)):
        mean = real.mean(0)
        expected = 16 * shift**2 + (factor - 1) ** 2 * cov  # the covariances commute
        value = one("fid", real, (real - mean) * factor + mean + shift).value
        assert value == pytest.approx(expected, rel=1e-9, abs=1e-6)
        assert value >= 0


@pytest.mark.parametrize("size", [4, 64])
def test_a_set_is_no_distance_from_itself(size: int) -> None:
    real = features(300, 9, size)
    assert one("fid", real, real.flip(0)).value < 1e-6
    assert one("mifid", real, real.flip(0)).value < 1e-6


def test_kid_of_everything_equals_torch_fidelity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "SUBSETS", 2)
    real, fake = features(scores.SUBSET, 10), features(scores.SUBSET, 11, shift=0.2)
    value = one("kid", real, fake)
    assert value.settings == {"subsets": 2, "subset_size": 1000}
    mean, _ = fidelity_kid(real, fake, subsets=1, size=scores.SUBSET)
    assert value.value == pytest.approx(mean, rel=1e-9)
    assert value.std == pytest.approx(0, abs=1e-9)  # every subset is everything


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_kid_equals_the_estimator(monkeypatch: pytest.MonkeyPatch, shift: float) -> None:
    real, fake = features(60, 12), features(60, 13, shift=shift)
    monkeypatch.setattr(scores, "SUBSET", 60)
    assert one("kid", real, fake).value == pytest.approx(naive_kid(real, fake), rel=1e-9)
    assert fidelity_kid(real, fake, 1, 60)[0] == pytest.approx(naive_kid(real, fake), rel=1e-9)


def test_kid_of_subsets_is_close_to_torch_fidelity() -> None:
    real, fake = features(600, 14), features(500, 15, shift=0.5)
    value = one("kid", real, fake)
    assert value.settings == {"subsets": 100, "subset_size": 250}
    mean, std = fidelity_kid(real, fake, subsets=100, size=250)  # other subsets of the same size
    assert value.std is not None
    assert abs(value.value - mean) < 5 * std * math.sqrt(2 / 100)  # five standard errors of their difference
    assert value.std == pytest.approx(std, rel=0.3)


@pytest.mark.parametrize("bias", [0.0, 4.0])
def test_inception_score_equals_torch_fidelity_and_the_definition(bias: float) -> None:
    predictions = logits(400, 16, bias=bias)
    value = compute(["inception_score"], Features(predictions), Features(predictions, predictions))["inception_score"]
    assert value.settings == {"splits": 10}
    found = isc_features_to_metric(drawn(predictions), splits=10, shuffle=False)
    for mean, std in (
        (found[KEY_METRIC_ISC_MEAN], found[KEY_METRIC_ISC_STD]),
        naive_inception_score(drawn(predictions), splits=10),
    ):
        assert value.value == pytest.approx(mean, rel=1e-12)
        assert value.std == pytest.approx(std, rel=1e-9)


@pytest.mark.parametrize("more", [1, 5])
def test_inception_score_of_images_that_do_not_divide_has_equal_splits(more: int) -> None:
    predictions = logits(200 + more, 5)
    value = compute(["inception_score"], Features(predictions), Features(predictions, predictions))["inception_score"]
    expected = isc_features_to_metric(drawn(predictions[:200]), splits=10, shuffle=False)[KEY_METRIC_ISC_MEAN]
    assert value.value == pytest.approx(expected, rel=1e-12)


def test_inception_score_in_closed_form() -> None:
    sure = torch.eye(5, dtype=torch.float64).repeat(200, 1) * 100
    unsure = torch.zeros(1000, 5, dtype=torch.float64)
    collapsed = sure[:1].repeat(1000, 1)
    for predictions, expected, tolerance in ((sure, 5, 0.05), (unsure, 1, 1e-12), (collapsed, 1, 1e-12)):
        found = compute(["inception_score"], Features(predictions), Features(predictions, predictions))
        assert found["inception_score"].value == pytest.approx(expected, rel=tolerance)  # splits have unequal classes


def copies(real: Tensor, noise: float) -> Tensor:
    """Every image once, moved a little."""
    return real + noise * torch.randn(real.shape, generator=torch.Generator().manual_seed(17), dtype=real.dtype)


@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_mifid_of_near_copies_equals_the_definition(noise: float) -> None:
    real = features(150, 18)
    fake = copies(real, noise) + 0.05
    expected = naive_mifid(real, fake)
    assert expected > 100 * naive_fid(real, fake)
    assert one("mifid", real, fake).value == pytest.approx(expected, rel=1e-9)


def test_mifid_of_new_images_is_fid() -> None:
    real, fake = features(150, 19) - 1, features(120, 20) - 1
    assert naive_mifid(real, fake) == naive_fid(real, fake)  # too far away to count
    assert one("mifid", real, fake).value == pytest.approx(naive_fid(real, fake), rel=1e-10)


def test_mifid_of_copies_of_a_few_images() -> None:
    real = features(150, 18)
    fake = copies(real[:20].repeat(3, 1), 0.01)  # all of them are memorised, and most real images are not
    expected = naive_mifid(real, fake)
    assert expected > 100 * naive_fid(real, fake)
    assert one("mifid", real, fake).value == pytest.approx(expected, rel=1e-9)


def test_the_others_equal_their_functions() -> None:
    real, fake = sets()
    assert real.logits is not None
    assert fake.logits is not None
    found = {name: value.value for name, value in compute(NAMES, real, fake).items()}
    expected: dict[str, Tensor] = {}
    expected |= zip(("precision", "recall"), precision_recall(real.features, fake.features, 3), strict=True)
    expected |= zip(("density", "coverage"), density_coverage(real.features, fake.features, 5), strict=True)
    expected |= zip(("memorised", "authenticity"), memorisation(real.features, fake.features), strict=True)
    expected["diversity"] = diversity(real.features, fake.features)
    classes = [torch.bincount(x.argmax(1), minlength=10) for x in (real.logits, fake.logits)]
    expected |= zip(("modes", "reverse_kl", "missing_modes"), mode_coverage(*classes), strict=True)
    assert {name: found[name] for name in expected} == {name: float(value) for name, value in expected.items()}


def test_values_depend_on_their_seed_and_on_nothing_else() -> None:
    real, fake = sets()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    together = compute(NAMES, real, fake)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    apart = {metric: value for name in reversed(NAMES) for metric, value in compute([name], real, fake).items()}
    assert apart == together
    other = compute(NAMES, real, fake, seed=3)
    changed = {metric for metric in together if other[metric] != together[metric]}
    assert changed == {"kid", "inception_score"}
    for metric in changed:
        assert other[metric].value == pytest.approx(together[metric].value, rel=0.1)


def test_streams_of_accelerators_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    compute(["fid"], *sets())
    assert seeded == []


def test_float32_features_are_computed_in_float64() -> None:
    real, fake = sets()
    assert real.logits is not None
    assert fake.logits is not None
    real32, fake32 = (
        Features(real.features.float(), real.logits.float()),
        Features(fake.features.float(), fake.logits.float()),
    )
    real64, fake64 = (
        Features(x.features.double(), x.logits.double()) for x in (real32, fake32) if x.logits is not None
    )
    assert compute(NAMES, real32, fake32) == compute(NAMES, real64, fake64)
