"""Perceptual path length: how much pictures change for a small step between latents (Karras et al. 2019)."""

import copy
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.functional.image.perceptual_path_length import perceptual_path_length as lengths

from gan_lightning.adversarial import AdversarialModule
from gan_lightning.errors import UserError
from gan_lightning.metrics.classifiers import DigitsClassifier, ObjectsClassifier
from gan_lightning.metrics.extractors import Extractor
from gan_lightning.metrics.scores import Value
from gan_lightning.sampling import evaluation_latents, sampler

EPSILON = 1e-4


class Path(nn.Module):
    """A generator as torchmetrics asks for it: latents in double precision, pictures in 0 … 255."""

    def __init__(self, module: AdversarialModule, ema: bool, seed: int, truncation: float | None) -> None:
        super().__init__()
        self.network = copy.deepcopy(sampler(module, ema=ema, truncation=truncation)).double()
        self.module, self.seed, self.calls = [module], seed, 0  # in a list: not a part of this network
        self.truncation = truncation
        self.num_classes = module.classes

    def sample(self, count: int) -> Tensor:
        """Latents (count, latent_size): other ones at every call. Raises UserError where latents are no vectors."""
        latents = evaluation_latents(self.module[0], count, self.seed, self.truncation, first=self.calls * count)
        self.calls += 1
        if not isinstance(latents, Tensor):
            raise UserError("scores.names=[path_length]: this model's latents are not single vectors")
        return latents.double()

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return (self.network(latents, labels) + 1) * 127.5


class FeatureDistance(nn.Module):
    """Squared distance of features: images (N, C, H, W) in [-1, 1], twice -> (N,)."""

    def __init__(self, classifier: DigitsClassifier | ObjectsClassifier) -> None:
        super().__init__()
        self.classifier = copy.deepcopy(classifier).double()

    def features(self, images: Tensor) -> Tensor:
        """Images of any size, not rounded to pixels: the step is far smaller than a level."""
        size, channels = self.classifier.image_size, self.classifier.channels
        if images.shape[1] != channels:
            images = images.mean(1, keepdim=True).expand(-1, channels, -1, -1)
        return self.classifier(functional.interpolate(images, (size, size), mode="bicubic", antialias=True))[0]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (self.features(a) - self.features(b)).square().sum(1)


def distance_of(extractor: Extractor) -> Any:
    """LPIPS with VGG as in the paper for `inception`, else between features. Raises UserError for other networks."""
    if extractor.name == "inception":
        return "vgg"
    if isinstance(extractor.network, DigitsClassifier | ObjectsClassifier):
        return FeatureDistance(extractor.network)
    raise UserError(f"scores.names=[path_length]: extractor={extractor.name} has no distance; use digits or inception")


def path_length(
    module: AdversarialModule,
    extractor: Extractor,
    count: int,
    seed: int,
    *,
    truncation: float | None = None,
    ema: bool = True,
) -> Value:
    """Mean and deviation of d(G(z), G(slerp(z, z', ε))) / ε², ε = 1e-4, without the lowest and highest hundredth.

    Uniform latents have straight paths in place of great circles.

    At the ends of paths alone, as torchmetrics has it (Karras et al. 2019 report these too, and the whole paths).
    d is `distance_of` the extractor; in double precision. Raises UserError where LPIPS' weights cannot be fetched.
    """
    distance = distance_of(extractor)
    path: Literal["lerp", "slerp_any"] = "slerp_any" if module.latents == "normal" else "lerp"
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torchmetrics draws labels from it
            mean, std, _ = lengths(
                cast(Any, Path(module, ema, seed, truncation)),
                num_samples=count,
                conditional=module.classes > 0,
                interpolation_method=path,
                epsilon=EPSILON,
                resize=None,
                sim_net=distance,
                device=module.device,
            )
    except OSError as error:
        raise UserError(f"scores.names=[path_length]: VGG's weights cannot be fetched: {error}") from None
    used = "lpips vgg" if distance == "vgg" else "features"
    settings = {"epsilon": EPSILON, "distance": used, "interpolation": path.removesuffix("_any"), "sampling": "ends"}
    return Value(float(mean), float(std), settings)
