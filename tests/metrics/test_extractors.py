"""Extractors: the bundled classifiers, and networks of others with weights from a file, against themselves by hand."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import KEY_METRIC_FID

from gan_lightning.data.base import ImageData
from gan_lightning.data.digits import Digits
from gan_lightning.data.mnist import MNIST
from gan_lightning.data.sets import InMemory
from gan_lightning.errors import UserError
from gan_lightning.metrics.extractors import BUNDLED, WEIGHTS, Extractor, load_extractor
from gan_lightning.metrics.scores import Features, compute

SIZES = {"digits": (64, 10), "objects": (128, 10)}
MEGABYTES = {"digits": 2, "objects": 4}


class Images(Dataset[Tensor]):
    """Pixels uint8 (N, 3, H, W), as torch-fidelity reads them."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        return self.pixels[index]


class Hostile:
    """A pickle that makes a folder where it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def pixels(count: int, seed: int, size: int = 32, channels: int = 3, levels: int = 256) -> Tensor:
    """Random pixels below `levels`, uint8 (count, channels, size, size)."""
    stream = torch.Generator().manual_seed(seed)
    return torch.randint(levels, (count, channels, size, size), dtype=torch.uint8, generator=stream)


def stand_in_inception(folder: Path) -> Path:
    """A file like that of Inception-v3's weights, with random ones that keep activations from vanishing."""
    file = folder / "inception.pth"
    torch.save({}, file)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with patch.object(FeatureExtractorInceptionV3, "load_state_dict"):  # cannot be made without weights
            network = FeatureExtractorInceptionV3("stand-in", ["2048"], str(file))
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    torch.save(network.state_dict(), file)
    return file


def our_fid(extractor: Extractor, real: Tensor, fake: Tensor) -> float:
    """FID of pixels, from as few as there are."""
    return compute(["fid"], Features(extractor(real)[0]), Features(extractor(fake)[0]))["fid"].value


def fidelity_fid(weights: Path, real: Tensor, fake: Tensor) -> float:
    """torch-fidelity's FID of the same pixels with the same Inception-v3."""
    found = calculate_metrics(
        input1=Images(real),
        input2=Images(fake),
        fid=True,
        feature_extractor_weights_path=str(weights),
        batch_size=8,
        cuda=False,
        cache=False,
        save_cpu_ram=True,  # no worker processes
        verbose=False,
    )
    return found[KEY_METRIC_FID]


def offline(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """An empty cache of weights and no network."""

    def fail(*arguments: Any, **settings: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(home))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)


def logits_of(extractor: Extractor, images: Tensor) -> Tensor:
    """The logits of an extractor that has some."""
    logits = extractor(images)[1]
    assert logits is not None
    return logits


def accuracy(extractor: Extractor, data: ImageData) -> float:
    """Share of held-out images classified rightly."""
    data.setup()
    assert isinstance(data.held_out, InMemory)
    predicted = torch.cat([logits_of(extractor, part).argmax(1) for part in data.held_out.images.split(500)])
    return float((predicted == data.held_out.labels).double().mean())


def digits(**settings: Any) -> Digits:
    data = Digits(**{"batch_size": 8, "image_size": 16, "channels": 1, "seed": 0, **settings})
    data.setup()
    return data


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in_inception(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A random ResNet-18 and its weights, as .pth and .safetensors."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = torchvision.models.resnet18().eval()
    folder = tmp_path_factory.mktemp("weights")
    torch.save(network.state_dict(), folder / "resnet18.pth")
    save_file(network.state_dict(), folder / "resnet18.safetensors")
    return network, folder


@pytest.mark.parametrize("name", list(BUNDLED))
def test_bundled_networks(name: str) -> None:
    extractor = load_extractor(name)
    assert extractor.sizes(pixels(2, 0)) == SIZES[name]
    assert extractor.label == f"{name} v{BUNDLED[name][0]}"
    file = WEIGHTS / f"{name}-v{BUNDLED[name][0]}.safetensors"
    assert file.stat().st_size <= MEGABYTES[name] * 1_000_000
    features, logits = extractor.train()(pixels(5, 1))[0], logits_of(extractor, pixels(5, 1))
    assert not any(module.training for module in extractor.modules())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    assert features.dtype == logits.dtype == torch.float32
    assert torch.equal(load_extractor(name)(pixels(5, 1))[0], features)


@pytest.mark.parametrize("size", [16, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_digits_are_recognised(size: int, channels: int) -> None:
    assert accuracy(load_extractor("digits"), digits(image_size=size, channels=channels)) >= 0.99


@pytest.mark.skipif("GAN_LIGHTNING_DATA" not in os.environ, reason="GAN_LIGHTNING_DATA names no folder of real data")
def test_mnist_is_recognised() -> None:
    root = Path(os.environ["GAN_LIGHTNING_DATA"])
    data = MNIST(root, download=False, batch_size=8, image_size=28, channels=1, seed=0)
    assert accuracy(load_extractor("digits"), data) >= 0.99


@pytest.mark.parametrize("name", list(BUNDLED))
def test_features_are_of_full_rank(name: str) -> None:
    data = digits()
    assert isinstance(data.train, InMemory)
    features = load_extractor(name)(data.train.images)[0].double()
    assert torch.linalg.matrix_rank(torch.cov(features.T)) == features.shape[1]


@pytest.mark.parametrize("name", list(BUNDLED))
@pytest.mark.parametrize("size", [8, 28, 50])
def test_grey_images_are_three_equal_channels(name: str, size: int) -> None:
    grey, extractor = pixels(6, 2, size, channels=1), load_extractor(name)
    for found in (lambda images: extractor(images)[0], lambda images: logits_of(extractor, images)):
        assert torch.equal(found(grey), found(grey.repeat(1, 3, 1, 1)))


def test_pixels() -> None:
    extractor = load_extractor("pixels")
    images = pixels(4, 3, size=5)
    features, logits = extractor(images)
    assert logits is None
    assert extractor.sizes(images) == (75, 0)
    torch.testing.assert_close(features, images.flatten(1).float() / 127.5 - 1, rtol=0, atol=1e-6)


def test_inception_is_torch_fidelitys(inception: Path) -> None:
    extractor = load_extractor("inception", inception)
    network = FeatureExtractorInceptionV3("theirs", ["2048", "logits_unbiased"], str(inception))
    images = pixels(3, 4)
    features, logits = extractor(images)[0], logits_of(extractor, images)
    expected, expected_logits = network(images)
    assert (features.shape, logits.shape) == ((3, 2048), (3, 1008))
    assert features.std(0).mean() > 1e-3  # the random network tells images apart
    assert torch.equal(features, expected)
    assert torch.equal(logits, expected_logits)
    assert torch.equal(extractor(images[:, :1])[0], network(images[:, :1].repeat(1, 3, 1, 1))[0])


@pytest.mark.slow
@pytest.mark.parametrize(("n_real", "n_fake"), [(8, 7), (40, 44)])
def test_fid_with_inception_is_torch_fidelitys(inception: Path, n_real: int, n_fake: int) -> None:
    real, fake = pixels(n_real, 5), pixels(n_fake, 6, levels=200)
    value, expected = our_fid(load_extractor("inception", inception), real, fake), fidelity_fid(inception, real, fake)
    assert value == pytest.approx(expected, rel=1e-6)  # torch-fidelity takes means in float32


def test_versions_are_of_the_weights(inception: Path, tmp_path: Path) -> None:
    state = torch.load(inception)
    state["fc.bias"] += 1
    torch.save(state, tmp_path / "other.pth")
    save_file(torch.load(inception), tmp_path / "same.safetensors")
    versions = [
        load_extractor("inception", file).version
        for file in (inception, tmp_path / "same.safetensors", tmp_path / "other.pth")
    ]
    assert versions[0] == versions[1] != versions[2]


@pytest.mark.parametrize("name", ["inception", "torchvision/resnet18", "digits"])
def test_a_hostile_pickle_is_refused(name: str, tmp_path: Path) -> None:
    file, folder = tmp_path / "weights.pth", tmp_path / "made by the pickle"
    torch.save({"fc.weight": Hostile(folder)}, file)
    with pytest.raises(UserError, match=r"weights\.pth: not a state dict"):
        load_extractor(name, file)
    assert not folder.exists()
    torch.load(file, weights_only=False)
    assert folder.exists()  # it was a real one


@pytest.mark.parametrize("name", ["inception", "torchvision/resnet18"])
def test_weights_that_do_not_fit(name: str, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="fit"):
        load_extractor(name, tmp_path / "weights.pth")


@pytest.mark.parametrize("name", ["inception", "torchvision/resnet18"])
@pytest.mark.parametrize("state", [torch.zeros(3), [torch.zeros(2)], {}, {"a": {"b": torch.zeros(1)}}], ids=repr)
def test_files_without_a_state_dict(name: str, state: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch, tmp_path)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"weights\.pth: not a state dict"):
        load_extractor(name, tmp_path / "weights.pth")


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.pth: no such file"):
        load_extractor("inception", tmp_path / "nowhere.pth")
    for suffix in ("pth", "safetensors"):
        file = tmp_path / f"damaged.{suffix}"
        file.write_bytes(b"not weights")
        with pytest.raises(UserError, match=rf"damaged\.{suffix}: not a state dict"):
            load_extractor("inception", file)


def test_inception_says_where_to_put_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch, tmp_path)
    with pytest.raises(UserError, match=r"scores\.extractor=inception") as caught:
        load_extractor("inception")
    for part in (tmp_path / "hub" / "checkpoints" / Path(URL_INCEPTION_V3).name, URL_INCEPTION_V3, "no route to host"):
        assert str(part) in str(caught.value)


def test_inception_reads_its_weights_from_there(
    inception: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline(monkeypatch, tmp_path)
    file = tmp_path / "hub" / "checkpoints" / Path(URL_INCEPTION_V3).name
    file.parent.mkdir(parents=True)
    file.symlink_to(inception)
    assert load_extractor("inception").version == load_extractor("inception", inception).version


def test_a_damaged_file_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch, tmp_path)
    file = tmp_path / "hub" / "checkpoints" / Path(URL_INCEPTION_V3).name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half of it")
    with pytest.raises(UserError, match=file.name):
        load_extractor("inception")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_torchvision(resnet18: tuple[nn.Module, Path], suffix: str) -> None:
    network, folder = resnet18
    extractor = load_extractor("torchvision/resnet18", folder / f"resnet18.{suffix}")
    images = pixels(3, 7, size=40)
    prepared = torchvision.models.ResNet18_Weights.DEFAULT.transforms()(images)
    with torch.no_grad():
        expected = nn.Sequential(*list(network.children())[:-1])(prepared).flatten(1)
        expected_logits = network(prepared)
    features, logits = extractor(images)[0], logits_of(extractor, images)
    assert (features.shape, logits.shape) == ((3, 512), (3, 1000))
    torch.testing.assert_close(features, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-6, atol=1e-6)
    grey = images[:, :1]
    assert torch.equal(extractor(grey)[0], extractor(grey.repeat(1, 3, 1, 1))[0])
    assert extractor.version == load_extractor("torchvision/resnet18", folder / "resnet18.pth").version


def test_torchvision_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offline(monkeypatch, tmp_path)
    with pytest.raises(UserError, match=r"torchvision/resnet18: its weights cannot be fetched.*no route to host"):
        load_extractor("torchvision/resnet18")


def test_torchvision_without_a_linear_layer(tmp_path: Path) -> None:
    torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match="torchvision/squeezenet1_1"):
        load_extractor("torchvision/squeezenet1_1", tmp_path / "weights.pth")


def resnet10t(file: Path, **settings: Any) -> Any:
    """timm's random ResNet-10, whose weights are saved."""
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network = timm.create_model("resnet10t", **settings).eval()
    torch.save(network.state_dict(), file)
    return network


def test_timm(tmp_path: Path) -> None:
    network = resnet10t(tmp_path / "weights.pth", num_classes=0)
    extractor = load_extractor("timm/resnet10t", tmp_path / "weights.pth")
    size = network.pretrained_cfg["input_size"][-1]
    images = pixels(3, 8, size)  # what needs no resizing
    mean, std = (torch.tensor(network.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = network((images / 255 - mean) / std)
    features, logits = extractor(images)
    assert logits is None
    assert features.shape == (3, 512)
    torch.testing.assert_close(features, expected, rtol=1e-6, atol=1e-6)
    assert extractor.sizes(pixels(1, 9, size=20, channels=1)) == (512, 0)


def test_timms_own_files_hold_a_classifier(tmp_path: Path) -> None:
    network = resnet10t(tmp_path / "weights.pth")
    images = pixels(2, 10)
    features, _ = load_extractor("timm/resnet10t", tmp_path / "weights.pth")(images)
    network.reset_classifier(0)
    torch.save(network.state_dict(), tmp_path / "headless.pth")
    assert torch.equal(features, load_extractor("timm/resnet10t", tmp_path / "headless.pth")(images)[0])


def test_unknown_names() -> None:
    for name in ("nothing", "torchvision", "timm/", "torchvision/", "Inception", ""):
        with pytest.raises(UserError, match="unknown; choose one of digits, objects, inception"):
            load_extractor(name)
    with pytest.raises(UserError, match="torchvision/resnet19: torchvision has no such model"):
        load_extractor("torchvision/resnet19")
    pytest.importorskip("timm")
    with pytest.raises(UserError, match="timm/resnet19: cannot be made"):
        load_extractor("timm/resnet19")
