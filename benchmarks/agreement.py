"""The metrics against independent implementations, on the same seeded features: python -m benchmarks.agreement.

Prints a Markdown table. Needs what the tests need: torch-fidelity, prdc and scipy; the loops are the tests' own.
"""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from scipy.stats import entropy
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

from gan_lightning.metrics.extractors import load_extractor
from gan_lightning.metrics.modes import mixture_modes
from gan_lightning.metrics.scores import Features, compute
from tests.metrics import test_extractors as images
from tests.metrics import test_manifold as manifold
from tests.metrics import test_memorisation as memorised
from tests.metrics import test_modes as modes
from tests.metrics import test_scores as scores

Row = tuple[str, float, float, str]  # metric, ours, independent, which


def gaussians() -> Iterator[Row]:
    """Distances of 1000 and 1000 features of size 64."""
    real, fake = scores.features(1000, 0, 64), scores.features(1000, 1, 64, shift=0.1)
    ours = scores.one("fid", real, fake).value
    yield "FID", ours, scores.fidelity_fid(real, fake), "torch-fidelity"
    yield "FID", ours, scores.naive_fid(real, fake), "scipy.linalg.sqrtm"
    ours = scores.one("kid", real, fake).value  # a subset is everything
    yield "KID", ours, scores.fidelity_kid(real, fake, subsets=1, size=1000)[0], "torch-fidelity"
    real, fake = real[:200, :16], fake[:150, :16]
    near, few = scores.copies(real, 0.01), scores.copies(real[:50].repeat(3, 1), 0.01)
    for name, samples in (("new images", fake), ("copies", near), ("copies of a quarter", few)):
        yield f"MiFID, {name}", scores.one("mifid", real, samples).value, scores.naive_mifid(real, samples), "loop"


def classes() -> Iterator[Row]:
    """Scores of 2000 logits of 10 classes."""
    real, fake = scores.logits(2000, 2), scores.logits(2000, 3, bias=4.0)
    found = compute(["inception_score", "modes"], Features(real, real), Features(fake, fake))
    theirs = isc_features_to_metric(scores.drawn(fake), splits=10, shuffle=False)
    yield "Inception Score", found["inception_score"].value, theirs[KEY_METRIC_ISC_MEAN], "torch-fidelity"
    deviation = found["inception_score"].std
    assert deviation is not None
    yield "Inception Score, deviation", deviation, theirs[KEY_METRIC_ISC_STD], "torch-fidelity"
    counts = [torch.bincount(x.argmax(1), minlength=10).numpy() for x in (real, fake)]
    yield "Reverse KL", found["reverse_kl"].value, float(entropy(counts[1], counts[0])), "scipy.stats.entropy"


def neighbours() -> Iterator[Row]:
    """Counts of 2100 and 1300 features of size 8 that are in balls, or close."""
    real, fake = manifold.features(2100, 4), manifold.features(1300, 5, shift=0.5)
    found = compute(["precision_recall", "density_coverage"], Features(real), Features(fake))
    for reference, which in ((manifold.independent, "prdc"), (manifold.naive, "loop")):
        for metric, k in (("precision", 3), ("recall", 3), ("density", 5), ("coverage", 5)):
            with contextlib.redirect_stdout(io.StringIO()):  # prdc prints
                expected = reference(real, fake, k)[metric]
            yield metric.capitalize(), found[metric].value, expected, which
    real, fake = real[:300], torch.cat([real[:50] + 0.1 * fake[:50], fake[50:250]])
    found = compute(["memorisation", "diversity"], Features(real), Features(fake))
    for metric, expected in zip(("memorised", "authenticity"), memorised.naive(real, fake), strict=True):
        yield metric.capitalize(), found[metric].value, expected, "loop"
    yield "Diversity", found["diversity"].value, memorised.naive_diversity(real, fake), "loop"


def mixture() -> Iterator[Row]:
    """High-quality samples of 2000 around a ring of eight."""
    stream = torch.Generator().manual_seed(6)
    centres = modes.ring()
    samples = centres[torch.randint(7, (2000,), generator=stream)]
    samples = samples + 1.5 * modes.STD * torch.randn(2000, 2, generator=stream, dtype=torch.float64)
    found, share = map(float, mixture_modes(samples, centres, modes.STD))
    expected = modes.naive_mixture(samples, centres, modes.STD)
    yield "Modes of a ring", found, expected[0], "loop"
    yield "High-quality samples", share, expected[1], "loop"


def inception(count: int = 60) -> Iterator[Row]:
    """FID of images, through Inception-v3 with random weights."""
    real, fake = images.pixels(count, 7), images.pixels(count, 8, levels=200)
    with tempfile.TemporaryDirectory() as folder:
        weights = images.stand_in_inception(Path(folder))
        ours = images.our_fid(load_extractor("inception", weights), real, fake)
        theirs = images.fidelity_fid(weights, real, fake)
    yield f"FID of {count} images, random Inception-v3", ours, theirs, "torch-fidelity"


def main() -> None:
    print("| metric | ours | independent | which | relative difference |")
    print("|---|---|---|---|---|")
    for rows in (gaussians(), classes(), neighbours(), mixture(), inception()):
        for metric, ours, independent, which in rows:
            difference = abs(ours - independent) / abs(independent) if ours != independent else 0.0
            print(f"| {metric} | {ours:.9g} | {independent:.9g} | {which} | {difference:.1e} |", flush=True)


if __name__ == "__main__":
    main()
