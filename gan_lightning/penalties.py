"""Penalties on the gradient of the discriminator with respect to its images: one number a sample, weights elsewhere.

float32 with autocast off inside, whatever surrounds them: norms of half-precision gradients overflow or vanish.
One backward pass gives every sample's own gradient as long as the judge does not mix samples (BatchNorm does).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from gan_lightning.ema import batch_norms

Judge = Callable[[Tensor], Tensor]  # images (N, ...) -> logits (N,)


def refuse_mixing(discriminator: nn.Module) -> None:
    """Raises ValueError for a discriminator whose logits depend on the other images of the minibatch."""
    if batch_norms(discriminator):
        raise ValueError("discriminator: batch norm mixes samples, the penalty needs them alone: norm=layer or none")
    if getattr(discriminator, "minibatch_kernels", 0):
        raise ValueError("discriminator: minibatch discrimination mixes samples, the penalty needs them alone")


def input_gradients(judge: Judge, images: Tensor) -> Tensor:
    """The gradient of every logit with respect to its own image (or pack of them), differentiable again.

    (N, ...) -> (logits, pixels of one).
    """
    with torch.autocast(images.device.type, enabled=False):
        images = images.detach().float()  # (N, ...)
        if torch.compiler.is_compiling():  # torch.compile follows this one
            gradients, logits = torch.func.grad(lambda x: ((on := judge(x)).sum(), on), has_aux=True)(images)
            return gradients.reshape(len(logits), -1)
        images.requires_grad_()
        logits = judge(images)  # (N,)
        (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        return gradients.reshape(len(logits), -1).float()  # (logits, pixels)


def gradient_penalty(
    judge: Judge, real: Tensor, fake: Tensor, mixing: Tensor, *, one_sided: bool = False, target: float = 1.0
) -> Tensor:
    """WGAN-GP's pull of the gradient norm to 1 between real and fake: (N, ...), (N, ...), mixing (N,) -> (N,).

    Gulrajani et al. 2017, eq. 3 and algorithm 1: (‖∇D(x̂)‖₂ - 1)² at x̂ = ε x + (1 - ε) G(z), ε = mixing ~ U[0, 1].
    target γ: (‖∇D(x̂)‖₂ / γ - 1)² (Karras et al. 2018, section 6.6).
    One-sided: max(0, ‖∇D(x̂)‖₂ - 1)² (their section 4, "Two-sided penalty"; WGAN-LP, Petzka et al. 2018).
    """
    weight = mixing.detach().float().reshape(-1, *[1] * (real.dim() - 1))  # (N, 1, ...)
    between = weight * real.detach().float() + (1 - weight) * fake.detach().float()  # x̂, (N, ...)
    # vector_norm and not sqrt(sum of squares): its gradient at a zero vector is 0, the other's is NaN
    excess = torch.linalg.vector_norm(input_gradients(judge, between), dim=1) / target - 1  # (N,)
    return (relu(excess) if one_sided else excess).square()


def r1(judge: Judge, real: Tensor) -> Tensor:
    """R1, ‖∇D(x)‖² on real images without its factor γ/2: (N, ...) -> (N,). Mescheder et al. 2018, eq. 9."""
    return input_gradients(judge, real).square().sum(1)


def r2(judge: Judge, fake: Tensor) -> Tensor:
    """R2, ‖∇D(G(z))‖² on fakes without its factor γ/2: (N, ...) -> (N,). Mescheder et al. 2018, eq. 10."""
    return r1(judge, fake)
