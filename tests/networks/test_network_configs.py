"""Every conf/network/*.yaml builds two networks that fit each other, with the sizes of the data."""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

FOLDER = Path(__file__).parents[2] / "conf" / "network"
TRANSLATORS = ("cyclegan", "cyclegan_unet", "pix2pix")
POWERS_OF_TWO = (*TRANSLATORS, "progan", "r3gan", "stylegan1", "stylegan2")  # their images' sides
NAMES = sorted(file.stem for file in FOLDER.glob("*.yaml"))
TEXTS = ("seqgan", "relgan", "relgan_transformer", "textgan")
NO_IMAGES = ("wavegan", *TEXTS)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NO_IMAGES])
@pytest.mark.parametrize(("image_size", "channels"), [(28, 1), (32, 3)])
def test_the_pair_fits_the_data(name: str, image_size: int, channels: int) -> None:
    if image_size == 28 and name in (*POWERS_OF_TWO, "esrgan"):
        image_size = 32 if name in (*TRANSLATORS, "esrgan") else 16  # whose patches have to fit
    config = OmegaConf.create({"data": {"image_size": image_size, "channels": channels, "scale": 4}})
    config.model = OmegaConf.merge({"classes": 0}, OmegaConf.load(FOLDER / f"{name}.yaml"))
    generator, discriminator = instantiate(config.model.generator), instantiate(config.model.discriminator)
    if name.startswith("deepfill"):  # which are given a mask too, and sides that are multiples of 8
        size = image_size + -image_size % 8
        assert generator.eval()(torch.zeros(2, channels + 1, size, size)).shape == (2, channels, size, size)
        images, mask = torch.zeros(2, channels, image_size, image_size), torch.ones(2, 1, image_size, image_size)
        assert discriminator(images, mask).shape[:2] == ((2, 2) if name == "deepfill_v1" else (2, 256))
        return
    if name in ("srgan", "esrgan"):
        beside = 2, channels, image_size // 4, image_size // 4
    elif name in TRANSLATORS:
        beside = 2, channels, image_size, image_size
    else:
        beside = 2, generator.latent_size
    images = generator.eval()(torch.randn(beside))
    assert images.shape == (2, channels, image_size, image_size)
    others = {"began": images.shape, "infogan": (2, 13), "infogan_mnist": (2, 13)}  # restored, with codes
    if name.startswith("cyclegan"):
        assert generator.b_to_a(images).shape == images.shape
        assert all(discriminator(images, domain).shape[:2] == (2, 1) for domain in "ab")
        return
    if name == "pix2pix":  # judges every patch of an image beside its input
        assert discriminator(torch.cat([images, images], 1)).shape[:2] == (2, 1)
        return
    assert discriminator(images).shape == others.get(name, (2,))


@pytest.mark.parametrize("name", TEXTS)
def test_the_pair_fits_texts(name: str) -> None:
    config = OmegaConf.create({"data": {"vocabulary": 30, "length": 7}})
    config.model = OmegaConf.load(FOLDER / f"{name}.yaml")
    generator, discriminator = instantiate(config.model.generator), instantiate(config.model.discriminator)
    tokens = generator(torch.rand(2, generator.latent_size))
    assert (tokens.shape, tokens.dtype) == ((2, 7), torch.int64)
    assert discriminator(tokens).shape == (2,)
    assert generator.logits(tokens).shape == (2, 7, 30)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_line_says_what_it_is(name: str) -> None:
    first = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(".")
