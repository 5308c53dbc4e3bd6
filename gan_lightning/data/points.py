"""Points instead of images: mixtures of Gaussians in the plane, and one Gaussian on a line.

The ring and the grid are those that mode collapse is measured on (Metz et al. 2017; Srivastava et al. 2017; Lin et al.
2018); the Gaussian on a line is that of figure 1 of Goodfellow et al. 2014. A point of D coordinates is a tensor
(D, 1, 1), float32, in the coordinates of the data: nothing is scaled to [-1, 1].
"""

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from gan_lightning.data.base import ImageData
from gan_lightning.data.plots import BLUE, GREEN, INK, PALE, REAL, Axes, Picture, density_map
from gan_lightning.data.sets import InMemory
from gan_lightning.draws import generator as stream_of
from gan_lightning.errors import UserError
from gan_lightning.metrics.extractors import Extractor
from gan_lightning.metrics.modes import mixture_modes
from gan_lightning.types import PositiveFloat, PositiveInt

HELD_OUT = 10_000
SCORED = 2500  # samples that scores are made of (Srivastava et al. 2017; Lin et al. 2018)
SIDE = 340  # pixels of a panel


class Points(ImageData):
    """Draws from a known distribution, the same for every seed: `samples` to train on, and HELD_OUT others.

    Args:
        samples: training points (100,000 in Lin et al. 2018).
    """

    score_samples = SCORED
    noun = "points"
    pictures = False
    most_shown = 10_000

    def __init__(
        self,
        samples: PositiveInt = 100_000,
        image_size: Literal[1] = 1,
        flip: Literal[False] = False,
        **base: Any,
    ) -> None:
        super().__init__(image_size=image_size, flip=flip, **base)
        self.samples = samples

    def draw(self, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        """Points (count, D) and the numbers of their modes (count,)."""
        raise NotImplementedError

    def load(self) -> tuple[InMemory, InMemory, list[str]]:
        parts = []
        for name, count in (("train", self.samples), ("held out", HELD_OUT)):
            points, modes = self.draw(count, stream_of(0, "points", name))
            parts.append(InMemory(points.float()[:, :, None, None].contiguous(), modes))
        return parts[0], parts[1], self.modes()

    def modes(self) -> list[str]:
        """The names of the modes; none where there is one alone."""
        return []

    def scaled(self, stored: Tensor) -> Tensor:
        """Points are seen as they are."""
        return stored

    def stored(self, images: Tensor) -> Tensor:
        """Points are kept as they are."""
        return images.detach().float()

    def check_model(self, module: Any) -> None:
        if module.augment.ada:
            raise UserError(
                f"model.ada.pipeline={module.augment.ada.pipeline}: is for images, and {type(self).__name__} has points"
            )
        if module.augment.policy:
            policy = ",".join(module.augment.policy)
            raise UserError(f"model.augment=[{policy}]: is for images, and {type(self).__name__} has points")
        if isinstance(list(module.generator.modules())[-1], nn.Tanh):
            raise UserError(
                f"model.generator: {type(module.generator).__name__} makes numbers from -1 to 1 (tanh) and "
                f"{type(self).__name__} has points anywhere: use network@model=mlp_points"
            )

    def write(self, images: Tensor, folder: Path, prefix: str = "") -> None:
        """<prefix>points.csv: a row a sample, its coordinates."""
        names = ",".join(("x", "y", "z")[: self.channels])
        np.savetxt(
            folder / f"{prefix}points.csv", images.flatten(1).cpu().numpy(), "%.9g", ",", header=names, comments=""
        )

    def description(self) -> str:
        return f"{len(self.train):,} points of {self.channels} coordinate{'s' if self.channels > 1 else ''}"


def titled(count: int, module: Any) -> str:
    """What a picture shows: "2,500 samples at step 10,000", or points of the data without a module."""
    return f"{count:,} samples at step {module.counters.generator_steps:,}" if module else f"{count:,} real points"


class Nearest(nn.Module):
    """Points (N, D) -> themselves and minus their distances to centres (K, D), in standard deviations, (N, K)."""

    centres: Tensor
    std: Tensor

    def __init__(self, centres: Tensor, std: float) -> None:
        super().__init__()
        self.register_buffer("centres", centres.double())
        self.register_buffer("std", torch.tensor(std, dtype=torch.double))

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return points, -torch.cdist(points.double(), self.centres) / self.std


class Mixture(Points):
    """Gaussians of one deviation in the plane, all as likely. A subclass says where, in `centres`.

    Args:
        std: standard deviation of every Gaussian, in x and in y.
    """

    scores = ("mixture",)

    def __init__(self, std: PositiveFloat, channels: Literal[2] = 2, **base: Any) -> None:
        super().__init__(channels=channels, **base)
        self.std = std

    def centres(self) -> Tensor:
        """The middles of the Gaussians, (K, 2)."""
        raise NotImplementedError

    def modes(self) -> list[str]:
        return [str(mode) for mode in range(len(self.centres()))]

    def draw(self, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        centres = self.centres()
        modes = torch.randint(len(centres), (count,), generator=stream)
        return centres[modes] + self.std * torch.randn(count, 2, generator=stream), modes

    def own_extractor(self) -> Extractor:
        return Extractor(Nearest(self.centres(), self.std), "points", "1", lambda points: points.flatten(1))

    def picture(self, images: Tensor, module: Any = None, ema: bool = True) -> Tensor:
        """Points (N, 2, 1, 1) over real ones, and how dense they are: uint8 (3, h, w).

        The axes and the scale of the colours are the data's: pictures of one run can be compared. The circles have
        three standard deviations: inside are the high-quality samples.
        """
        self.setup()
        points, centres = images.detach().flatten(1).cpu().double(), self.centres()
        reach = 1.2 * float(centres.abs().max()) + 3 * self.std
        panels = [Axes(left, 26, SIDE, SIDE, (-reach, reach), (-reach, reach)) for left in (40, 40 + SIDE + 40)]
        real = self.real_images(max(len(points), SCORED)).flatten(1).double().numpy()
        picture = Picture(40 + SIDE + 40 + SIDE + 12, 26 + SIDE + 24)
        picture.scatter(panels[0], real, REAL, 0.6)
        picture.scatter(panels[0], points.numpy(), BLUE, 0.35)
        picture.frame(panels[0], f"{titled(len(points), module)} (grey: real)" if module else titled(len(points), None))
        most = density_map(real, panels[1]).max()
        picture.heat(panels[1], density_map(points.numpy(), panels[1]) / most)
        picture.circles(panels[1], centres.numpy(), 3 * self.std)
        found, share = mixture_modes(points, centres, self.std)
        picture.frame(panels[1], f"{int(found)} of {len(centres)} modes, {float(share):.1%} of high quality")
        return picture.pixels()


class Ring(Mixture):
    """Gaussians on a circle.

    Args:
        modes, radius: how many, and the circle's radius.
    """

    def __init__(
        self, modes: PositiveInt = 8, radius: PositiveFloat = 1.0, std: PositiveFloat = 0.01, **base: Any
    ) -> None:
        super().__init__(std=std, **base)
        self.count, self.radius = modes, radius

    def centres(self) -> Tensor:
        angles = torch.arange(self.count) * (2 * math.pi / self.count)
        return self.radius * torch.stack([angles.cos(), angles.sin()], 1)


class Grid(Mixture):
    """Gaussians on a square grid around 0.

    Args:
        side, spacing: Gaussians in a row, and from one to the next.
    """

    def __init__(
        self, side: PositiveInt = 5, spacing: PositiveFloat = 2.0, std: PositiveFloat = 0.05, **base: Any
    ) -> None:
        super().__init__(std=std, **base)
        self.side, self.spacing = side, spacing

    def centres(self) -> Tensor:
        line = (torch.arange(self.side) - (self.side - 1) / 2) * self.spacing
        return torch.cartesian_prod(line, line)


class Spiral(Mixture):
    """Gaussians along an Archimedean spiral (the radius grows with the angle), evenly by its length.

    Args:
        modes: how many.
        turns: how often the spiral goes around.
        radius: where it ends; it begins at a tenth of that.
    """

    def __init__(
        self,
        modes: PositiveInt = 24,
        turns: PositiveFloat = 2.0,
        radius: PositiveFloat = 1.0,
        std: PositiveFloat = 0.02,
        **base: Any,
    ) -> None:
        super().__init__(std=std, **base)
        self.count, self.turns, self.radius = modes, turns, radius

    def centres(self) -> Tensor:
        share = np.linspace(0, 1, 10_000)
        radius, angle = self.radius * (0.1 + 0.9 * share), 2 * math.pi * self.turns * share
        x, y = radius * np.cos(angle), radius * np.sin(angle)
        length = np.concatenate([[0], np.hypot(np.diff(x), np.diff(y)).cumsum()])
        even = np.linspace(0, length[-1], self.count)
        return torch.tensor(np.stack([np.interp(even, length, x), np.interp(even, length, y)], 1), dtype=torch.float32)


class Numbers(nn.Module):
    """Points (N, 1) -> themselves."""

    def forward(self, points: Tensor) -> Tensor:
        return points


class Gaussian1D(Points):
    """One Gaussian on a line."""

    scores = ("wasserstein",)

    def __init__(self, mean: float = 4.0, std: PositiveFloat = 0.5, channels: Literal[1] = 1, **base: Any) -> None:
        super().__init__(channels=channels, **base)
        self.mean, self.std = mean, std

    def draw(self, count: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
        return self.mean + self.std * torch.randn(count, 1, generator=stream), torch.zeros(count, dtype=torch.int64)

    def own_extractor(self) -> Extractor:
        return Extractor(Numbers(), "numbers", "1", lambda points: points.flatten(1))

    def picture(self, images: Tensor, module: Any = None, ema: bool = True) -> Tensor:
        """Figure 1 of Goodfellow et al. 2014: uint8 (3, h, w), from numbers (N, 1, 1, 1).

        The density of the data (dotted), that of the samples (green, smoothed), the sigmoid of the discriminator's
        logits (blue, dashed; for losses on probabilities), which is to become 1/2 everywhere; and the first hundred
        samples below.
        """
        numbers = images.detach().flatten().cpu().double().numpy()
        low, high = self.mean - 9 * self.std, self.mean + 9 * self.std
        peak = 1 / (self.std * math.sqrt(2 * math.pi))
        x = np.linspace(low, high, 721)
        axes = Axes(40, 30, 620, 300, (low, high), (0.0, 1.7 * peak))
        judged = Axes(40, 30, 620, 300, (low, high), (0.0, 1.05))  # D's own scale, on the right
        picture = Picture(40 + 620 + 40, 30 + 300 + 42)
        picture.curve(judged, x[[0, -1]], np.array([0.5, 0.5]), PALE, 1)
        picture.curve(axes, x, peak * np.exp(-0.5 * ((x - self.mean) / self.std) ** 2), INK, 2, dash=2.5)
        width = 0.2 * self.std  # of the smoothing: little beside the data's own deviation
        counts, _ = np.histogram(numbers, np.append(x, 2 * x[-1] - x[-2]) - (x[1] - x[0]) / 2)
        kernel = np.exp(-0.5 * ((x - x[len(x) // 2]) / width) ** 2)
        density = np.convolve(counts, kernel, "same") / (len(numbers) * width * math.sqrt(2 * math.pi))
        picture.curve(axes, x, density, GREEN, 2)
        legend = [("data (dotted)", INK), (titled(len(numbers), module), GREEN)]
        pair = getattr(module, "pair", None)
        if module and (pair is None or pair.probabilities):
            legend.append(("D(x), scale on the right", BLUE))
            picture.curve(judged, x, discriminator_on(module, x), BLUE, 1.6, dash=6)
        for number in numbers[:100][(numbers[:100] > low) & (numbers[:100] < high)]:
            across, bottom = axes.place(number, 0.0)
            picture.draw.line((across, bottom + 50, across, bottom + 70), GREEN, 2)
        picture.frame(axes)
        for tick in (0, 0.5, 1):
            _, down = judged.place(0.0, tick)
            picture.text(40 + 620 + 6, down / 2, f"{tick:g}", "lm", BLUE)
        left = 48
        for text, colour in legend:
            picture.text(left, 20, text, "ls", colour)
            left += picture.draw.textlength(text, picture.font) / 2 + 24
        return picture.pixels()


@torch.no_grad()
def discriminator_on(module: Any, x: Any) -> Any:
    """The sigmoid of the discriminator's logits at numbers x (N,): (N,), between 0 and 1."""
    training = module.training
    module.eval()  # no dropout, no noise, and statistics stay as they are
    points = torch.tensor(x, dtype=torch.float32, device=module.device)[:, None, None, None]
    points = points.repeat_interleave(module.pack, 0)  # a pack of one number
    labels = torch.zeros(len(points), dtype=torch.int64, device=module.device)
    with torch.autocast(module.device.type, enabled=False):
        judged = module.judge(points, labels).float().sigmoid().cpu().double().numpy()
    module.train(training)
    return judged
