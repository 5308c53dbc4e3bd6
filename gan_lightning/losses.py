"""What the two players minimise, as pairs of plain functions on logits (N,): real before fake, always.

Every function returns a dict whose "loss" is minimised; discriminators add "loss_real" and "loss_fake" where the two
separate. All in float32, with logarithms as softplus, log(sigmoid(x)) = -softplus(-x), which is finite for any logit.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn.functional import relu, softplus

Losses = dict[str, Tensor]
Name = Literal[
    "minimax", "nonsaturating", "least_squares", "hinge", "wasserstein", "relativistic", "relativistic_average"
]


class Pair(NamedTuple):
    """The losses of the two players of one game."""

    discriminator: Callable[..., Losses]  # (on_real (N,), on_fake (N,)) and, for probabilities, two labels
    generator: Callable[[Tensor | None, Tensor], Losses]  # (on_real (N,), on_fake (N,)); None unless needs_real
    probabilities: bool = False  # logits are log-odds: D(x) = sigmoid(logit), and labels may be soft
    needs_real: bool = False  # the generator's loss needs the logits of the real images
    won: float | None = None  # a discriminator whose loss stays below this has won; None: its loss does not say


def cross_entropy(logits: Tensor, label: float | Tensor) -> Tensor:
    """-[label log D + (1 - label) log(1 - D)] per sample, D = sigmoid(logit): (N,), label scalar or (N,) -> (N,)."""
    if not isinstance(label, Tensor) and label in (0, 1):  # hard labels: half of the work
        return softplus(-logits if label else logits)
    return label * softplus(-logits) + (1 - label) * softplus(logits)


def classify(
    on_real: Tensor, on_fake: Tensor, real_label: float | Tensor = 1.0, fake_label: float | Tensor = 0.0
) -> Losses:
    """The discriminator as a classifier: (N,), (N,), labels scalar or (N,) -> scalars.

    Goodfellow et al. 2014, eq. 1, negated: -E[log D(x)] - E[log(1 - D(G(z)))]. Soft labels: Salimans et al. 2016,
    section 3.4 (real_label 0.9 is their one-sided smoothing); tensors (N,) give label noise.
    """
    loss_real = cross_entropy(on_real.float(), real_label).mean()
    loss_fake = cross_entropy(on_fake.float(), fake_label).mean()
    return {"loss": loss_real + loss_fake, "loss_real": loss_real, "loss_fake": loss_fake}


def minimax_generator(on_real: Tensor | None, on_fake: Tensor) -> Losses:
    """Goodfellow et al. 2014, eq. 1: E[log(1 - D(G(z)))], which saturates while D wins: (N,) -> scalar."""
    return {"loss": -softplus(on_fake.float()).mean()}


def nonsaturating_generator(on_real: Tensor | None, on_fake: Tensor) -> Losses:
    """Goodfellow et al. 2014, end of section 3: -E[log D(G(z))]: (N,) -> scalar."""
    return {"loss": softplus(-on_fake.float()).mean()}


def least_squares_discriminator(on_real: Tensor, on_fake: Tensor) -> Losses:
    """Mao et al. 2017, eq. 9, the 0-1 coding (a = 0, b = c = 1): (N,), (N,) -> scalars.

    ½ E[(D(x) - 1)²] + ½ E[D(G(z))²].
    """
    loss_real = 0.5 * (on_real.float() - 1).square().mean()
    loss_fake = 0.5 * on_fake.float().square().mean()
    return {"loss": loss_real + loss_fake, "loss_real": loss_real, "loss_fake": loss_fake}


def least_squares_generator(on_real: Tensor | None, on_fake: Tensor) -> Losses:
    """Mao et al. 2017, eq. 9: ½ E[(D(G(z)) - 1)²]: (N,) -> scalar."""
    return {"loss": 0.5 * (on_fake.float() - 1).square().mean()}


def hinge_discriminator(on_real: Tensor, on_fake: Tensor) -> Losses:
    """Lim & Ye 2017; Miyato et al. 2018, eq. 16, negated: (N,), (N,) -> scalars.

    E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))].
    """
    loss_real = relu(1 - on_real.float()).mean()
    loss_fake = relu(1 + on_fake.float()).mean()
    return {"loss": loss_real + loss_fake, "loss_real": loss_real, "loss_fake": loss_fake}


def wasserstein_discriminator(on_real: Tensor, on_fake: Tensor) -> Losses:
    """Arjovsky et al. 2017, eq. 3, negated: E[D(G(z))] - E[D(x)]: (N,), (N,) -> scalars."""
    loss_real = -on_real.float().mean()
    loss_fake = on_fake.float().mean()
    return {"loss": loss_real + loss_fake, "loss_real": loss_real, "loss_fake": loss_fake}


def raise_fakes(on_real: Tensor | None, on_fake: Tensor) -> Losses:
    """-E[D(G(z))], the generator of the hinge loss (Miyato et al. 2018, eq. 17) and of WGAN: (N,) -> scalar."""
    return {"loss": -on_fake.float().mean()}


def relativistic_discriminator(on_real: Tensor, on_fake: Tensor) -> Losses:
    """RpGAN, Jolicoeur-Martineau 2018, "Relativistic standard GAN": (N,), (N,) -> scalar.

    -E[log sigmoid(D(x) - D(G(z)))] over pairs: the n-th real against the n-th fake.
    """
    return {"loss": softplus(on_fake.float() - on_real.float()).mean()}


def relativistic_generator(on_real: Tensor | None, on_fake: Tensor) -> Losses:
    """RpGAN, Jolicoeur-Martineau 2018: the discriminator's with real and fake swapped: (N,), (N,) -> scalar."""
    assert on_real is not None
    return {"loss": softplus(on_real.float() - on_fake.float()).mean()}


def relativistic_average_discriminator(on_real: Tensor, on_fake: Tensor) -> Losses:
    """RaGAN, Jolicoeur-Martineau 2018, "Relativistic average GANs": (N,), (N,) -> scalars.

    -E[log sigmoid(D(x) - E D(G(z)))] - E[log(1 - sigmoid(D(G(z)) - E D(x)))], expectations over the minibatch given.
    """
    on_real, on_fake = on_real.float(), on_fake.float()
    loss_real = softplus(on_fake.mean() - on_real).mean()
    loss_fake = softplus(on_fake - on_real.mean()).mean()
    return {"loss": loss_real + loss_fake, "loss_real": loss_real, "loss_fake": loss_fake}


def relativistic_average_generator(on_real: Tensor | None, on_fake: Tensor) -> Losses:
    """RaGAN, Jolicoeur-Martineau 2018: the discriminator's with real and fake swapped: (N,), (N,) -> scalar."""
    assert on_real is not None
    return {"loss": relativistic_average_discriminator(on_fake, on_real)["loss"]}


minimax = Pair(classify, minimax_generator, probabilities=True, won=0.02)
nonsaturating = Pair(classify, nonsaturating_generator, probabilities=True, won=0.02)
least_squares = Pair(least_squares_discriminator, least_squares_generator, won=0.005)
hinge = Pair(hinge_discriminator, raise_fakes, won=0.01)
wasserstein = Pair(wasserstein_discriminator, raise_fakes)
relativistic = Pair(relativistic_discriminator, relativistic_generator, needs_real=True, won=0.01)
relativistic_average = Pair(
    relativistic_average_discriminator, relativistic_average_generator, needs_real=True, won=0.02
)

PAIRS: dict[str, Pair] = {
    "minimax": minimax,
    "nonsaturating": nonsaturating,
    "least_squares": least_squares,
    "hinge": hinge,
    "wasserstein": wasserstein,
    "relativistic": relativistic,
    "relativistic_average": relativistic_average,
}
