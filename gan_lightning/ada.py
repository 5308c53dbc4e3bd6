"""ADA — Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", section 3 and appendix B.

Images of both players are changed before the discriminator sees them, each kind of change with probability p, which
follows the discriminator: where it is too sure of the real images, p rises. Everything is differentiable and batched.

Differs from the published code: of its pipelines, "b", "bg" and "bgc"; margins are the same on all four sides; p stays
in [0, 1].
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning.errors import UserError
from gan_lightning.types import Fraction, NonNegativeFloat, PositiveInt

Pipeline = Literal["none", "b", "bg", "bgc"]
NUMBERS = 28  # that one image draws
SYM6 = (  # Daubechies' least asymmetric wavelet of 6 vanishing moments: the low-pass of analysis
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)
BORDER = len(SYM6) // 4  # pixels that the filters need beyond the image


def stacked(rows: Sequence[Sequence[Tensor | float]], like: Tensor) -> Tensor:
    """A matrix for every image: entries (N,) or numbers -> (N, rows, columns)."""
    full = [torch.stack([e if isinstance(e, Tensor) else like.new_full(like.shape, e) for e in row], 1) for row in rows]
    return torch.stack(full, 1)


def moved(x: Tensor, y: Tensor) -> Tensor:
    """Translation by (x, y) pixels: (N,), (N,) -> (N, 3, 3)."""
    return stacked([[1, 0, x], [0, 1, y], [0, 0, 1]], x)


def scaled(x: Tensor, y: Tensor) -> Tensor:
    """Scaling about the origin: (N,), (N,) -> (N, 3, 3)."""
    return stacked([[x, 0, 0], [0, y, 0], [0, 0, 1]], x)


def turned(angle: Tensor) -> Tensor:
    """Rotation about the origin: (N,) -> (N, 3, 3)."""
    return stacked([[angle.cos(), -angle.sin(), 0], [angle.sin(), angle.cos(), 0], [0, 0, 1]], angle)


def normal(uniform: Tensor) -> Tensor:
    """U[0, 1) -> N(0, 1) by the inverse distribution."""
    return torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))


def geometry(uniform: Tensor, p: Tensor, side: int, general: bool) -> Tensor:
    """Where each pixel comes from: U (N, 18) -> (N, 3, 3), output to input pixels about the centre.

    Pixel blitting: x-flip, turns by 90°, whole pixels of up to an eighth of the side. `general` adds isotropic scaling,
    rotation before and after anisotropic scaling, and translation by fractions.
    """
    u = uniform.unbind(1)

    def chosen(gate: Tensor, value: Tensor, other: float, probability: Tensor = p) -> Tensor:
        return torch.where(gate < probability, value, other)

    zero = torch.zeros_like(u[0])
    mirror = chosen(u[0], 1 - 2 * (u[1] * 2).floor(), 1.0)
    quarter = chosen(u[2], (u[3] * 4).floor(), 0.0)
    right, down = (chosen(u[4], ((2 * u[k] - 1) * side / 8).round(), 0.0) for k in (5, 6))
    source = scaled(mirror, zero + 1) @ turned(quarter * (math.pi / 2)) @ moved(-right, -down)
    if general:
        rotation = 1 - (1 - p).sqrt()  # of each of two rotations, so that any has probability p
        size = chosen(u[7], torch.exp2(-0.2 * normal(u[8])), 1.0)
        before, after = (chosen(u[k], (2 * u[k + 1] - 1) * math.pi, 0.0, rotation) for k in (9, 13))
        stretch = chosen(u[11], torch.exp2(-0.2 * normal(u[12])), 1.0)
        across, along = (chosen(u[15], normal(u[k]) * side / 8, 0.0) for k in (16, 17))
        source = source @ scaled(size, size) @ turned(before) @ scaled(stretch, 1 / stretch) @ turned(after)
        source = source @ moved(-across, -along)
    return source


class Sample(torch.autograd.Function):
    """Bilinear samples, 0 outside: (N, C, H, W), grid (N, h, w, 2) -> (N, C, h, w). Linear in the images.

    That of PyTorch before 2.12 has no second derivative, which gradient penalties need.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(images: Tensor, grid: Tensor) -> Tensor:
        return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.shape = inputs[0].shape
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return Spread.apply(gradients[0], ctx.saved_tensors[0], ctx.shape), None


class Spread(torch.autograd.Function):
    """The transpose of Sample: (N, C, h, w), grid (N, h, w, 2) -> images of the given shape (N, C, H, W)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(samples: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        blank = samples.new_zeros(shape)
        return torch.ops.aten.grid_sampler_2d_backward(samples, blank, grid, 0, 0, False, (True, False))[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, torch.Size], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return Sample.apply(gradients[0], ctx.saved_tensors[0]), None, None


def resampled(images: Tensor, source: Tensor) -> Tensor:
    """Images seen through `geometry`: (N, C, H, H), (N, 3, 3) -> (N, C, H, H), reflected beyond their borders.

    At twice the resolution, with an orthogonal wavelet for both filters: where nothing is moved nothing changes.
    """
    n, channels, side, _ = images.shape
    taps = images.new_tensor(SYM6) / sum(SYM6)
    plane = torch.outer(taps, taps).expand(channels, 1, -1, -1)
    half = (side - 1) / 2
    corners = images.new_tensor([[-half, -half, 1], [half, -half, 1], [half, half, 1], [-half, half, 1]]).T
    furthest = float((source @ corners)[:, :2].abs().max())
    margin = max(0, min(math.ceil(furthest - half + 2 * BORDER), side - 1))
    wide = functional.pad(images, [margin] * 4, mode="reflect")
    wide = functional.conv_transpose2d(wide, 4 * plane, stride=2, padding=len(SYM6) // 2 - 1, groups=channels)
    every = torch.ones_like(source[:, 0, 0])
    source = scaled(2 * every, 2 * every) @ source @ scaled(every / 2, every / 2)
    source = moved(-every / 2, -every / 2) @ source @ moved(every / 2, every / 2)  # the filter is half a pixel early
    size = 2 * (side + 2 * BORDER)
    whole, seen = every * 2 / wide.shape[2], every * size / 2  # grids go from -1 to 1
    source = scaled(whole, whole) @ source @ scaled(seen, seen)
    grid = functional.affine_grid(source[:, :2], [n, channels, size, size], align_corners=False)
    samples = cast(Tensor, Sample.apply(wide, grid))
    return functional.conv2d(samples[:, :, 1:-1, 1:-1], plane, stride=2, groups=channels)


def colours(uniform: Tensor, p: Tensor) -> Tensor:
    """How colours change: U (N, 10) -> (N, 4, 4), on (red, green, blue, 1).

    Brightness N(0, 0.2), contrast 2^N(0, 0.5), luma flip, hue by any angle, saturation 2^N(0, 1).
    """
    u = uniform.unbind(1)

    def chosen(gate: Tensor, value: Tensor, other: float) -> Tensor:
        return torch.where(gate < p, value, other)[:, None, None]

    unit = torch.eye(4, device=p.device)
    grey = torch.tensor([1.0, 1, 1, 0], device=p.device) / math.sqrt(3)
    luma = torch.outer(grey, grey)  # (4, 4)
    bright = chosen(u[0], 0.2 * normal(u[1]), 0.0)
    change = unit + bright * torch.outer(grey, unit[3]) * math.sqrt(3)
    contrast = chosen(u[2], torch.exp2(0.5 * normal(u[3])), 1.0)
    change = (contrast * (unit - torch.outer(unit[3], unit[3])) + torch.outer(unit[3], unit[3])) @ change
    flip = chosen(u[4], (u[5] * 2).floor(), 0.0)
    change = (unit - 2 * flip * luma) @ change
    angle = chosen(u[6], (2 * u[7] - 1) * math.pi, 0.0)
    cross = torch.zeros(4, 4, device=p.device)  # of grey: v -> grey × v
    for row, column, sign in ((0, 1, -1), (0, 2, 1), (1, 0, 1), (1, 2, -1), (2, 0, -1), (2, 1, 1)):
        cross[row, column] = sign / math.sqrt(3)
    colour = unit - torch.outer(unit[3], unit[3])
    rotation = angle.cos() * colour + angle.sin() * cross + (1 - angle.cos()) * luma + torch.outer(unit[3], unit[3])
    change = rotation @ change
    saturation = chosen(u[8], torch.exp2(normal(u[9])), 1.0)
    return (luma + (unit - luma) * saturation + (1 - saturation) * torch.outer(unit[3], unit[3])) @ change


def recoloured(images: Tensor, change: Tensor) -> Tensor:
    """(N, 3 or 1, H, W), (N, 4, 4) -> (N, 3 or 1, H, W); of grey images the mean of what becomes of their colours."""
    if images.shape[1] == 1:
        mean = change[:, :3].mean(1)  # (N, 4)
        return images * mean[:, :3].sum(1)[:, None, None, None] + mean[:, 3][:, None, None, None]
    moved = torch.einsum("nij,njhw->nihw", change[:, :3, :3], images)
    return moved + change[:, :3, 3][:, :, None, None]


class ADA(nn.Module):
    """The pipeline and its probability.

    Args:
        pipeline: "b" pixel blitting, "g" geometry, "c" colour; "none".
        target: of r_t, the mean sign of the discriminator's logits on real images; None: p stays as it is.
        every: discriminator steps over which r_t is taken before p is moved.
        images: over which p can rise from 0 to 1.
        p: at the start.
    """

    p: Tensor
    signs: Tensor  # their sum and number, since p was moved

    def __init__(
        self,
        pipeline: Pipeline = "none",
        target: Fraction | None = 0.6,
        every: PositiveInt = 4,
        images: PositiveInt = 500_000,
        p: NonNegativeFloat = 0.0,
    ) -> None:
        super().__init__()
        if p > 1:
            raise ValueError(f"p={p}: a probability")
        self.pipeline, self.target, self.every, self.images = pipeline, target, every, images
        self.register_buffer("p", torch.tensor(float(p)))
        self.register_buffer("signs", torch.zeros(2))

    def check(self, rule: str, signed: bool, channels: int) -> None:
        """Raises UserError where there is nothing for p to follow, or no colour to change.

        signed: the rule's logits above 0 say "real".
        """
        if self.target is not None and not signed:
            raise UserError(
                f"model.ada.target={self.target}: what {rule} minimises gives logits no sign to go by: use "
                "model.ada.target=null and a fixed model.ada.p"
            )
        if "c" in self.pipeline and channels not in (1, 3):
            raise UserError(f"model.ada.pipeline={self.pipeline}: colours are of 1 or 3 channels, not {channels}")

    def forward(self, images: Tensor, u: Tensor) -> Tensor:
        """Images (N, C, H, H), u U[0, 1) (N, NUMBERS) -> (N, C, H, H), float32."""
        with torch.autocast(images.device.type, enabled=False):
            images = resampled(images.float(), geometry(u[:, :18], self.p, images.shape[2], "g" in self.pipeline))
            return recoloured(images, colours(u[:, 18:], self.p)) if "c" in self.pipeline else images

    def observe(self, sign: Tensor, count: int) -> None:
        """The mean sign of the logits on so many real images."""
        self.signs += torch.stack([sign.detach().float(), torch.ones_like(self.p)]) * count

    def follow(self, steps: int, reduce: Callable[..., Any]) -> None:
        """After every step of the discriminator, `steps` in all: moves p when it is time, alike on all devices.

        p rises where r_t exceeds the target, else it falls: by 1 over `images`. reduce: a sum over the devices.
        """
        if self.target is None or steps % self.every:
            return
        signs = reduce(self.signs, reduce_op="sum")
        step = torch.sign(signs[0] / signs[1] - self.target) * signs[1] / self.images
        self.p.add_(step).clamp_(0, 1)
        self.signs.zero_()
