"""Small classifiers whose features scores are made of where Inception-v3 is not at hand, or means nothing.

All return (features (N, num_features), logits (N, num_classes)); features are divided by `scale`, so that their
variance on what they were trained on is 1 on average. Their weights are in `weights/`, named by version;
`fit_classifiers.py` made them and says what that was.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning.data.spectrograms import FLOOR, log_mel


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution of odd kernel without bias, batch norm: (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs))


class DigitsClassifier(nn.Module):
    """Grey 28×28 digits -> 64 features and 10 classes; 8 M multiply-adds an image.

    The features are taken before the last rectifier, so that none of them is constant.
    """

    image_size, channels, num_features, num_classes = 28, 1, 64, 10

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(1, 32, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 32, 14, 14)
            convolution(32, 64),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 64, 7, 7)
            convolution(64, 64),
            nn.ReLU(),
            convolution(64, 64),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 7 * 7, self.num_features),
        )
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(self.num_features, self.num_classes))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (N, 1, 28, 28) in [-1, 1]."""
        features = self.body(images)
        return features / self.scale, self.head(features)


class Residual(nn.Module):
    """Two convolutions beside a shortcut (He et al. 2016, figure 2): (N, inputs, H, W) -> (N, outputs, H/s, W/s)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.branch = nn.Sequential(convolution(inputs, outputs, 3, stride), nn.ReLU(), convolution(outputs, outputs))
        self.shortcut = convolution(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(self.branch(maps) + self.shortcut(maps))


class ObjectsClassifier(nn.Module):
    """Colour 32×32 objects -> 128 features and 10 classes; 48 M multiply-adds an image."""

    image_size, channels, num_features, num_classes = 32, 3, 128, 10

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(3, 32),
            nn.ReLU(),
            Residual(32, 64, stride=2),  # (N, 64, 16, 16)
            Residual(64, 128, stride=2),  # (N, 128, 8, 8)
            Residual(128, self.num_features),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(self.num_features, self.num_classes)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (N, 3, 32, 32) in [-1, 1]."""
        features = self.body(images)
        return features / self.scale, self.head(features)


class SpokenDigitsClassifier(nn.Module):
    """Spoken digits of 8,192 samples at 8 kHz, as log-mel spectrograms, -> 64 features and 10 classes; 12 M
    multiply-adds a sound.

    How loud a sound is makes no difference. The features are taken before the last rectifier, as those of digits.
    """

    samples, rate, num_features, num_classes = 8192, 8000, 64, 10

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(1, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 16, 32, 32)
            convolution(16, 32),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 32, 16, 16)
            convolution(32, 48),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 48, 8, 8)
            convolution(48, 64),
            nn.ReLU(),
            nn.AvgPool2d(2),  # (N, 64, 4, 4)
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64 * 4 * 4, self.num_features),
        )
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(self.num_features, self.num_classes))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, sounds: Tensor) -> tuple[Tensor, Tensor]:
        """sounds (N, 1, 8192) in [-1, 1]."""
        loudest = sounds.abs().amax(-1, keepdim=True).clamp(min=1e-4)
        with torch.autocast(sounds.device.type, enabled=False):
            levels = log_mel((sounds / loudest).flatten(1).float(), self.rate, window=256, hop=128)[..., :64]
        features = self.body(1 - 2 * levels.unsqueeze(1) / math.log(FLOOR))  # of (N, 1, 64, 64) in [-1, 1]
        return features / self.scale, self.head(features)


def at_rate(sounds: Tensor, rate: int, new_rate: int) -> Tensor:
    """Sounds (N, T) at another sample rate, (N, T · new_rate / rate), by their Fourier transforms."""
    if rate == new_rate:
        return sounds
    length = round(sounds.shape[1] * new_rate / rate)
    spectrum = torch.fft.rfft(sounds)
    kept = min(length // 2, sounds.shape[1] // 2)  # frequencies below half of either rate
    spectrum = functional.pad(spectrum[:, :kept], (0, length // 2 + 1 - kept))
    return torch.fft.irfft(spectrum, length) * (length / sounds.shape[1])
