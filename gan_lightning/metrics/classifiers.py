"""Small classifiers whose features scores are made of where Inception-v3 is not at hand, or means nothing.

Both return (features (N, num_features), logits (N, num_classes)); features are divided by `scale`, so that their
variance on the training images is 1 on average. Their weights are in `weights/`, named by version; `fit_classifiers.py`
made them and says what they were trained on.
"""

import torch
from torch import Tensor, nn


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
