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
    pixels, labels = load_digits(return_X_y=True)  # (1797, 64) from 0 to 16
    classifier = SVC(C=10).fit(pixels, labels)
    samples = load(tmp_path / "run").sample(1000, seed=0)  # (1000, 1, 16, 16)
    votes = classifier.predict(((avg_pool2d(samples, 2).flatten(1) + 1) * 8).numpy())
    counts = {label: int((votes == label).sum()) for label in range(10)}
    print(counts)
    assert sum(count >= 10 for count in counts.values()) >= 9
