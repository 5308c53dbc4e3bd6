"""The run that a newcomer types first, whole: `python -m gan_lightning`."""

from pathlib import Path

import pytest
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from torch.nn.functional import avg_pool2d

from gan_lightning import load
from gan_lightning.commands.train import run


@pytest.mark.slow
def test_its_samples_are_digits_of_nine_classes_at_least(tmp_path: Path) -> None:
    """By a classifier that knows nothing of the project: scikit-learn's SVC on the 8×8 digits."""
    assert run([f"hydra.run.dir={tmp_path / 'run'}", "trainer.accelerator=cpu"]) == 0
    digits = load_digits()
    classifier = SVC(gamma=0.001, C=10, probability=True, random_state=0).fit(digits.data, digits.target)
    samples = load(tmp_path / "run").sample(1000, seed=0)  # (1000, 1, 16, 16)
    pixels = ((avg_pool2d(samples, 2).flatten(1) + 1) * 8).numpy()
    votes = classifier.predict(pixels)
    counts = {label: int((votes == label).sum()) for label in range(10)}
    print(counts, "mean confidence", classifier.predict_proba(pixels).max(1).mean())
    assert sum(count >= 10 for count in counts.values()) >= 9
