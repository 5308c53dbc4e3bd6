"""The classifier of spoken digits: at any rate and loudness, and right on recordings that it was not trained on."""

import os
from pathlib import Path

import pytest
import torch

from gan_lightning.data.sounds import SpeechFolder, from_sound
from gan_lightning.errors import UserError
from gan_lightning.metrics.classifiers import at_rate
from gan_lightning.metrics.extractors import spoken_digits
from gan_lightning.metrics.scoring import ScoreSettings


def tone(frequency: float, rate: int, seconds: float = 0.512) -> torch.Tensor:
    return 0.5 * torch.sin(2 * torch.pi * frequency * torch.arange(round(rate * seconds)) / rate)[None]


@pytest.mark.parametrize("rate", [6000, 16000])
def test_other_rates(rate: int) -> None:
    inside = slice(400, -400)  # a sine ends as it begins nowhere else
    torch.testing.assert_close(
        at_rate(tone(500, rate), rate, 8000)[:, inside], tone(500, 8000)[:, inside], atol=0.02, rtol=0
    )
    assert at_rate(tone(7000, 16000), 16000, 8000)[:, inside].abs().max() < 0.02  # does not fit
    sounds = torch.cat([tone(500, rate), tone(1500, rate)])
    found = spoken_digits(rate)(from_sound(sounds[:, None]))
    expected = spoken_digits(8000)(from_sound(torch.cat([tone(500, 8000), tone(1500, 8000)])[:, None]))
    assert found[0].shape == (2, 64)
    assert (found[0] - expected[0]).norm() < 0.2 * (expected[0][0] - expected[0][1]).norm()


def test_loudness_makes_no_difference_and_silence_is_heard() -> None:
    extractor = spoken_digits(8000)
    sounds = torch.stack([tone(600, 8000), 0.1 * tone(600, 8000), torch.zeros_like(tone(600, 8000))])
    features, logits = extractor(from_sound(sounds))
    assert logits is not None
    assert logits.shape == (3, 10)
    assert (features[0] - features[1]).norm() < 0.1 * (features[0] - features[2]).norm()
    assert features.isfinite().all()
    assert extractor.label == "spoken_digits v1"


def test_no_other_extractor_hears_sounds(tmp_path: Path) -> None:
    data = SpeechFolder(tmp_path, batch_size=1, seed=0)
    with pytest.raises(UserError, match=r"scores\.extractor=digits: .*use spoken_digits"):
        ScoreSettings(extractor="digits").load(str(data.extractor), data.own_extractor())
    assert ScoreSettings().load(str(data.extractor), data.own_extractor()).name == "spoken_digits"


@pytest.mark.skipif("GAN_LIGHTNING_DATA" not in os.environ, reason="GAN_LIGHTNING_DATA names no folder of real data")
def test_accuracy_on_held_out_recordings() -> None:
    root = Path(os.environ["GAN_LIGHTNING_DATA"]) / "speech" / "fsdd"
    data = SpeechFolder(root, samples=8192, rate=8000, held_out=0.2, crop="middle", batch_size=1, seed=0)
    data.setup()
    batch = data.held_out.__getitems__(range(len(data.held_out)))
    extractor = data.own_extractor()
    logits = torch.cat([extractor(part)[1] for part in batch["image"].split(100)])
    assert (logits.argmax(1) == batch["label"]).float().mean() > 0.98
