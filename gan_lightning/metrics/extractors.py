"""What scores see of an image: the features, and where there are classes the logits, of a named, versioned network."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from gan_lightning.contents import refuse_bombs
from gan_lightning.data.pixels import resize, to_float
from gan_lightning.errors import UserError
from gan_lightning.metrics.classifiers import DigitsClassifier, ObjectsClassifier, SpokenDigitsClassifier, at_rate
from gan_lightning.paths import expand

WEIGHTS = Path(__file__).parent / "weights"
BUNDLED: dict[str, tuple[int, Callable[[], DigitsClassifier | ObjectsClassifier]]] = {
    "digits": (1, DigitsClassifier),
    "objects": (1, ObjectsClassifier),
}
STACKED = "stacked_digits"
SPOKEN, SPOKEN_VERSION = "spoken_digits", 1  # of sounds, by their data alone: they have a sample rate
NAMES = ("digits", "objects", "inception", "pixels", STACKED, "torchvision/<model>", "timm/<model>")


class Extractor(nn.Module):
    """A network that scores are made with: pixels uint8 (N, C, H, W) -> features (N, num_features), logits or None.

    Args:
        network: what `prepare` gives -> features (N, D), or a pair of features and logits (N, K).
        name, version: how scores name it. Give a new version when the weights change.
        prepare: pixels uint8 (N, C, H, W) of any size -> the network's input.
        resize: how `prepare` resizes, for the records.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Any],
        name: str,
        version: str,
        prepare: Callable[[Tensor], Tensor] = to_float,
        resize: str = "none",
    ) -> None:
        super().__init__()
        self.network = network
        self.name, self.version, self.prepare, self.resize = name, version, prepare, resize
        if isinstance(network, nn.Module):
            network.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Extractor":
        """Stays in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        with torch.autocast(pixels.device.type, enabled=False):
            found = self.network(self.prepare(pixels))
        features, logits = found if isinstance(found, tuple) else (found, None)
        return features.float(), None if logits is None else logits.float()

    def sizes(self, pixels: Tensor) -> tuple[int, int]:
        """Features and classes (0: none) for images like pixels uint8 (N, C, H, W)."""
        features, logits = self(pixels)
        return features.shape[1], 0 if logits is None else logits.shape[1]

    @property
    def label(self) -> str:
        """How people read it: "digits v1"."""
        return f"{self.name} v{self.version}" if self.name in (*BUNDLED, STACKED, SPOKEN) else self.name


def fitted(pixels: Tensor, size: int, channels: int) -> Tensor:
    """Pixels uint8 (N, C, H, W) -> uint8 (N, channels, size, size): grey is the mean; bicubic, antialiased."""
    if pixels.shape[1] != channels:
        pixels = pixels.float().mean(1, keepdim=True).round().to(torch.uint8).expand(-1, channels, -1, -1)
    return resize(pixels, size)


def load_extractor(name: str, weights: Path | None = None) -> Extractor:
    """The extractor of a name in NAMES.

    weights: a state dict (.safetensors, or .pth that is read without unpickling) for inception, torchvision and timm.
    Raises UserError for an unknown name, weights that are not there, cannot be fetched or do not fit.
    """
    family, _, model = name.partition("/")
    state = None if weights is None else read_weights(expand(weights))
    if name in BUNDLED:
        return bundled(name)
    if name == STACKED:
        return stacked_digits()
    if name == "pixels":
        return Extractor(nn.Flatten(), "pixels", "1")
    if name == "inception":
        return inception(state)
    if family == "torchvision" and model:
        return from_torchvision(model, state)
    if family == "timm" and model:
        return from_timm(model, state)
    raise UserError(f"scores.extractor={name}: unknown; choose one of {', '.join(NAMES)}")


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from a file; nothing is unpickled."""
    if not path.is_file():  # a pipe would be waited for
        raise UserError(f"{path}: no such file of weights")
    try:
        refuse_bombs(path)
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # damaged files raise almost anything
        raise UserError(f"{path}: not a state dict that can be read: {str(error)[:120]}") from None
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path}: not a state dict: holds no tensors by name")
    return state


def hash_of(state: dict[str, Tensor]) -> str:
    """Eight digits that depend on the weights alone."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:8]


def fill(network: nn.Module, state: dict[str, Tensor], name: str) -> None:
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"scores.extractor={name}: the weights given do not fit it: {reason}") from None


def bundled(name: str) -> Extractor:
    """A classifier whose weights come with the package."""
    version, kind = BUNDLED[name]
    network = kind()
    network.load_state_dict(load_file(WEIGHTS / f"{name}-v{version}.safetensors"))
    network.to(memory_format=torch.channels_last)  # a fifth faster on CPUs
    size, channels = network.image_size, network.channels
    return Extractor(
        network,
        name,
        str(version),
        lambda pixels: to_float(fitted(pixels, size, channels)),
        f"bicubic, antialiased, to {size}×{size}",
    )


class OfColours(nn.Module):
    """What a classifier says of the three colours of an image, as one classifier of all combinations."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, colours: Tensor) -> tuple[Tensor, Tensor]:
        """Grey images (3 N, 1, H, W), the colours of one after the other -> features (N, 3 D), logits (N, K³)."""
        features, logits = self.classifier(colours)
        red, green, blue = logits.log_softmax(1).unflatten(0, (-1, 3)).unbind(1)  # (N, K) each
        together = red[:, :, None, None] + green[:, None, :, None] + blue[:, None, None, :]  # (N, K, K, K)
        return features.unflatten(0, (-1, 3)).flatten(1), together.flatten(1)


def stacked_digits() -> Extractor:
    """`digits` for each colour channel (Srivastava et al. 2017): 192 features, 1,000 classes, red the hundreds."""
    digits = bundled("digits")
    assert isinstance(digits.network, nn.Module)

    def prepare(pixels: Tensor) -> Tensor:
        if pixels.shape[1] != 3:
            raise UserError(f"scores.extractor={STACKED}: needs 3 colours; these images have {pixels.shape[1]}")
        return digits.prepare(pixels.flatten(0, 1).unsqueeze(1))  # (3 N, 1, 28, 28)

    return Extractor(OfColours(digits.network), STACKED, digits.version, prepare, digits.resize)


def spoken_digits(rate: int) -> Extractor:
    """What a classifier of spoken digits sees of sounds, int16 (N, 1, T) at this rate: of their first 1.024 seconds."""
    network = SpokenDigitsClassifier()
    network.load_state_dict(load_file(WEIGHTS / f"{SPOKEN}-v{SPOKEN_VERSION}.safetensors"))

    def prepare(sounds: Tensor) -> Tensor:
        heard = at_rate(sounds.flatten(1).float() / 32767, rate, network.rate)[:, : network.samples]
        return functional.pad(heard, (0, network.samples - heard.shape[1])).unsqueeze(1)

    return Extractor(network, SPOKEN, str(SPOKEN_VERSION), prepare, f"by Fourier transform, to {network.rate:,} Hz")


def inception(state: dict[str, Tensor] | None) -> Extractor:
    """The Inception-v3 of the original FID (Heusel et al. 2017) as torch-fidelity has it: 2048 features, 1008 logits.

    Resized as TensorFlow 1 did (bilinear, not antialiased), which published numbers are made with.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

    if state is None:
        file = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.hub.download_url_to_file(URL_INCEPTION_V3, str(file))
            except OSError as error:
                raise UserError(
                    f"scores.extractor=inception: its weights cannot be fetched ({error}). Put {URL_INCEPTION_V3} "
                    f"at {file}, or name it with scores.inception_weights=; scores.extractor=objects works offline"
                ) from None
        state = read_weights(file)
    copy = io.BytesIO()  # torch-fidelity unpickles what it is given: this holds nothing but tensors
    torch.save(dict(state), copy)
    copy.seek(0)
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], copy)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"scores.inception_weights: do not fit torch-fidelity's Inception-v3: {reason}") from None
    return Extractor(
        network,
        "inception",
        f"2015-12-05-{hash_of(state)}",
        lambda pixels: pixels.expand(-1, 3, -1, -1),
        "bilinear as in TensorFlow 1 (not antialiased), to 299×299",
    )


class LastLinear(nn.Module):
    """A classifier whose features are what its last linear layer is given, and whose logits are what it gives."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        *_, self.last = (module for module in classifier.modules() if isinstance(module, nn.Linear))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        seen: list[Tensor] = []
        hook = self.last.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
        try:
            logits = self.classifier(images)
        finally:
            hook.remove()
        return seen[0].flatten(1), logits


def from_torchvision(model: str, state: dict[str, Tensor] | None) -> Extractor:
    """A classifier of torchvision with its newest weights, which are fetched once, and their own preparation."""
    import torchvision

    name = f"torchvision/{model}"
    try:
        newest = torchvision.models.get_model_weights(model)["DEFAULT"]
        network = torchvision.models.get_model(model, weights=None if state else newest)
    except ValueError:
        raise UserError(f"scores.extractor={name}: torchvision has no such model") from None
    except OSError as error:
        raise UserError(f"scores.extractor={name}: its weights cannot be fetched: {error}") from None
    if not any(isinstance(module, nn.Linear) for module in network.modules()):
        raise UserError(f"scores.extractor={name}: has no linear layer, before which the features would be taken")
    if state:
        fill(network, state, name)
    preparation = newest.transforms()
    version = f"{'file' if state else newest.name}-{hash_of(network.state_dict())}"
    return Extractor(
        LastLinear(network),
        name,
        version,
        lambda pixels: preparation(pixels.expand(-1, 3, -1, -1)),
        f"as torchvision does for {newest.name}",
    )


def from_timm(model: str, state: dict[str, Tensor] | None) -> Extractor:
    """A network of timm (pip install timm) with its pretrained weights, which are fetched once; features alone."""
    name = f"timm/{model}"
    try:
        import timm
        from timm.data.config import resolve_model_data_config
    except ModuleNotFoundError:
        raise UserError(f"scores.extractor={name}: needs timm: pip install timm") from None
    try:
        network: Any = timm.create_model(model, pretrained=not state)
    except Exception as error:  # unknown names, missing weights and a missing network have errors of their own
        raise UserError(f"scores.extractor={name}: cannot be made: {str(error)[:160]}") from None
    classifier = set(network.state_dict())
    network.reset_classifier(0)
    if state:
        classifier -= set(network.state_dict())
        fill(network, {key: value for key, value in state.items() if key not in classifier}, name)
    settings: Any = resolve_model_data_config(network)
    size = settings["input_size"][-1]
    mean, std = (torch.tensor(settings[key]).view(-1, 1, 1) for key in ("mean", "std"))

    def prepare(pixels: Tensor) -> Tensor:
        images = fitted(pixels.expand(-1, 3, -1, -1), size, 3).float() / 255
        return (images - mean.to(images.device)) / std.to(images.device)

    return Extractor(network, name, hash_of(network.state_dict()), prepare, f"bicubic, antialiased, to {size}×{size}")
