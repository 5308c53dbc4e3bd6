"""Features that images are compared by: VGG19's (Simonyan & Zisserman 2015) before its last pooling, φ5,4 of eq. 5 of
Ledig et al. 2017; or those of the project's own classifier of objects, where VGG19's weights are not at hand.

The network is frozen, in eval mode, and no part of the model that uses it: it is in no checkpoint and no optimizer.

The stand-in has seen the 50,000 training images of CIFAR-10 at 32 pixels, VGG19 1.2 million of ImageNet. Its features
are as deep as they can be while they still have a place: 128 maps of a quarter of the side.
"""

from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torchvision.models import vgg19

from gan_lightning.errors import UserError
from gan_lightning.metrics.classifiers import ObjectsClassifier, Residual
from gan_lightning.metrics.extractors import bundled, read_weights
from gan_lightning.paths import expand

Choice = Literal["auto", "vgg19", "standin"]
LAST = 34  # of torchvision's `features`: conv5_4; 35 is its rectifier
SMALLEST = 16  # pixels of a side, which is halved four times
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for images in [0, 1]
# SRGAN's 0.006 brings the squared distance of features to that of pixels (section 2.2.1), and so it does of photographs
# and their bicubic enlargements with the stand-in's features, times this
STANDIN_SCALE = 4.0


class VGG19(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] -> features (N, 512, H/16, W/16) of conv5_4; sides of at least 16."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, before_activation: bool) -> None:
        super().__init__()
        with torch.device("meta"):  # no weights yet: 100 million would be drawn
            layers = cast(nn.Sequential, vgg19(weights=None).features)
        self.features = layers[: LAST + 2 - before_activation]
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.features(((images + 1) / 2 - self.mean) / self.deviation)


class Standin(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] -> features (N, 128, H/4, W/4) of the bundled classifier of objects."""

    def __init__(self, before_activation: bool) -> None:
        super().__init__()
        classifier = bundled("objects").network
        assert isinstance(classifier, ObjectsClassifier)
        *layers, last = list(classifier.body)[:-2]  # without the mean over all places
        assert isinstance(last, Residual)
        self.layers, self.last = nn.Sequential(*layers), last
        self.before_activation = before_activation

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layers(images)
        maps = self.last.branch(maps) + self.last.shortcut(maps)
        return STANDIN_SCALE * (maps if self.before_activation else maps.relu())


class Perceptual:
    """Features of images; the network is made when it is needed, on the device of what it is given.

    Args:
        choice: "auto" is VGG19 where its weights are at hand.
        weights: VGG19's state dict in a file; None: a file vgg19-*.pth in torch hub's folder of checkpoints.
        before_activation: without the last rectifier (Wang et al. 2018, section 3.2).
    """

    def __init__(self, choice: Choice = "auto", weights: Path | None = None, before_activation: bool = False) -> None:
        if choice == "standin" and weights is not None:
            raise ValueError(f"perceptual_weights={weights}: perceptual=standin has weights of its own")
        self.choice: Choice = choice
        self.weights = None if weights is None else expand(weights)
        self.before_activation = before_activation
        self.network: nn.Module | None = None

    def file(self) -> Path | None:
        """VGG19's weights; None where the stand-in is used. Raises UserError where they are asked for and not there."""
        if self.choice == "standin" or self.weights is not None:
            return self.weights
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        found = sorted(folder.glob("vgg19-*.pth"))
        if not found and self.choice == "vgg19":
            raise UserError(
                f"model.perceptual=vgg19: its weights are not at hand: put torchvision's vgg19-dcbb9e9d.pth into "
                f"{folder}, or name it with model.perceptual_weights="
            )
        return found[0] if found else None

    def load(self) -> nn.Module:
        """The network. Raises UserError for weights that are not there, cannot be read or do not fit."""
        if self.network is None:
            file = self.file()
            with torch.device("cpu"):
                network = Standin(self.before_activation) if file is None else VGG19(self.before_activation)
            if file is not None:
                own = set(network.state_dict())
                state = {key: value.float() for key, value in read_weights(file).items() if key in own}
                try:
                    network.load_state_dict(state, assign=True)
                except RuntimeError as error:
                    reason = " ".join(str(error).split())[:160]
                    raise UserError(f"model.perceptual_weights={file}: are not VGG19's: {reason}") from None
            self.network = network.requires_grad_(False).eval().to(memory_format=torch.channels_last)
        return self.network

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1], grey or of colours -> features (N, F, h, w)."""
        return self.load().to(images.device)(images.expand(-1, 3, -1, -1))
