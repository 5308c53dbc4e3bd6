"""How far apart two sets of samples are, as far as a kernel can tell."""

from collections.abc import Sequence

from torch import Tensor


def gaussian_mmd(real: Tensor, fake: Tensor, bandwidths: Sequence[float]) -> Tensor:
    """The squared maximum mean discrepancy of samples (N, F) and (M, F), a scalar: 0 for equal ones.

    Gretton et al. 2012, "A Kernel Two-Sample Test", eq. 5, the biased estimate: E k(x, x') + E k(y, y') - 2 E k(x, y)
    over all pairs, a sample with itself included. k(x, y) is the mean of exp(-‖x - y‖² / 2σ²) over the bandwidths σ.
    """
    real, fake = real.float(), fake.float()

    def similarity(one: Tensor, other: Tensor) -> Tensor:
        products = one @ other.T
        squares = one.square().sum(1)[:, None] + other.square().sum(1) - 2 * products  # (N, M)
        kernels = [(squares.clamp(min=0) / (-2 * width**2)).exp().mean() for width in bandwidths]
        return sum(kernels[1:], kernels[0]) / len(bandwidths)

    return similarity(real, real) + similarity(fake, fake) - 2 * similarity(real, fake)
