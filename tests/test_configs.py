"""Every file in conf/ composes, builds at its full size, and at test size runs three batches.

Most models run by default in test_matrix.py alone, and most experiments not at all.
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lightning.adversarial import images_of
from gan_lightning.commands.train import Settings, run
from gan_lightning.config import CONF, check, compose, instantiate
from gan_lightning.data.vocabulary import BUNDLED
from tests.fake_data import write_idx, write_large_photos, write_photos, write_sounds, write_voices

SHOWN = {
    group: sorted(f.stem for f in (CONF / group).glob("[!_]*.yaml"))
    for group in ("model", "data", "experiment", "trainer", "scores")
}
MLP_POINTS = ["model=gan", "network@model=mlp_points"]
FITTING = {f"data={name}": MLP_POINTS for name in ("ring", "grid", "spiral", "gaussian_1d")}  # models for data
FITTING |= {f"data={name}": ["model=mle"] for name in ("tiny_text", "text_file", "oracle")}
FITTING |= {f"data={name}": ["model=wavegan"] for name in ("tones", "speech_folder")}
OTHERS = {  # networks of other data than images, with a rule and the data for them
    "seqgan": ["model=seqgan", "data=oracle"],
    "relgan": ["model=relgan", "data=oracle"],
    "relgan_transformer": ["model=relgan", "data=oracle"],
    "textgan": ["model=textgan", "data=oracle"],
    "wavegan": ["model=wavegan"],
}
NARROW = {"base_channels": "8", "attention": "null"}
CHOICES = [f"{group}={name}" for group, names in SHOWN.items() for name in names]
POWERS_OF_TWO = (
    "cyclegan",
    "cyclegan_unet",
    "pix2pix",
    "progan",
    "r3gan",
    "stylegan1",
    "stylegan2",
)  # the sides of their images
FOLDERS = ("PairedFolder", "UnpairedFolders", "InpaintingFolder", "SuperResolutionFolder", "SpeechFolder")
SPEAKERS = ["data.source=ann", "data.target=bob"]
NEEDS_A_TRANSLATOR = [  # their batches have an "input" or a "mask", which the default model does not translate
    f"data={name}"
    for name in (
        "paired_digits",
        "unpaired_digits",
        "inpainting_digits",
        "superres_photos",
        "superres_digits",
        "paired_folder",
        "unpaired_folders",
        "inpainting_folder",
        "superres_folder",
        "voices",
        "synthetic_voices",
    )
]
SLOW = {f"model={name}" for name in SHOWN["model"]} | {f"experiment={name}" for name in SHOWN["experiment"]}
SLOW -= {f"model={name}" for name in ("gan", "wgan", "acgan", "infogan", "began", "sagan", "dpgan")}
RUN = [c for c in CHOICES if c != "trainer=default" and c not in NEEDS_A_TRANSLATOR]
SLOW -= {f"experiment={name}" for name in ("wgan_gp_mnist", "sagan_imagenet", "pacgan_ring", "cgan_mnist")}


def test_every_group_is_exercised() -> None:
    """Others are parts of every run, or of a model; test_compress.py tries methods, test_sweeps.py sweeps."""
    others = {"network", "step", "budget", "logger", "method", "sweep"}
    assert {f.parent.name for f in CONF.glob("*/*.yaml")} == {*SHOWN, *others}


@cache
def kind_of_data(choice: str) -> str:
    """The class of its data; most choices are asked twice."""
    return compose("train", [choice], Settings).data._target_


def on_a_folder(choice: str) -> bool:
    """Whether it trains on a folder of images that the user names."""
    return kind_of_data(choice).endswith("ImageFolder")


def folder_of(choice: str) -> list[str]:
    """The folder that must be named, any at all: nothing is read."""
    if on_a_folder(choice):
        return ["data.root=.", "data.classes=10"]
    if kind_of_data(choice).endswith(".TextFile"):
        return [f"data.root={BUNDLED}", "data.test=null"]
    if kind_of_data(choice).endswith(".Voices"):
        return ["data.root=.", *SPEAKERS]
    return ["data.root=."] if kind_of_data(choice).endswith(FOLDERS) else []


@pytest.mark.parametrize("choice", CHOICES)
def test_builds_at_full_size(choice: str) -> None:
    arguments = [choice, *FITTING.get(choice, []), *folder_of(choice)]
    settings = check(compose("train", arguments, Settings), Settings)
    instantiate(settings["data"])
    if choice in NEEDS_A_TRANSLATOR:
        return
    with torch.device("meta"):
        module = instantiate(settings["model"])
        optimizers = module.configure_optimizers()
    assert len(optimizers) == 2


@pytest.mark.parametrize(
    "choice",
    [pytest.param(c, marks=[pytest.mark.slow] if c in SLOW else []) for c in RUN],
)
def test_runs_three_batches(choice: str, tmp_path: Path) -> None:
    group, _, name = choice.partition("=")
    data = [*FITTING.get(choice, [])]
    if on_a_folder(choice):
        write_photos(tmp_path / "photos")
        data = [f"data.root={tmp_path / 'photos'}", "data.image_size=16"]
    elif "mnist" in name:
        write_idx(tmp_path / "MNIST" / "raw")
        write_idx(tmp_path / "FashionMNIST" / "raw")
        data = [f"data.root={tmp_path}", "data.download=false"]
    if "stacked_mnist" in name:
        data.append("data.images=300")
    kind = kind_of_data(choice)
    if kind.endswith(".TextFile"):
        data += [f"data.root={BUNDLED}", "data.test=null", "scores.samples=20"]
    if kind.endswith((".Tones", ".SpeechFolder")):
        data.append("data.samples=256")
    if kind.endswith(".SpeechFolder"):
        write_sounds(tmp_path / "sounds")
        data += [f"data.root={tmp_path / 'sounds'}", "data.batch_size=2"]  # the generator moves, too
    if kind.endswith(".Oracle"):
        data += ["data.vocabulary=50", "data.samples=64", "data.held_out_samples=16", "scores.samples=16"]
        data += ["data.parameters=null"]
    networks = compose("train", [choice, *FITTING.get(choice, [])], Settings).model
    narrow = NARROW if on_a_folder(choice) and group == "experiment" else {"base_channels": NARROW["base_channels"]}
    data += [
        f"model.{n}.{k}={v}" for n in ("generator", "discriminator") for k, v in narrow.items() if k in networks[n]
    ]
    data += [
        f"model.{n}.network.{k}={v}"
        for n in ("generator", "discriminator")
        for k, v in {**narrow, "blocks": "1"}.items()
        if k in networks[n].get("network", {})
    ]
    if name == "cyclegan_voices":
        write_voices(tmp_path / "voices", {"ann": 12, "bob": 12})
        data += [f"data.root={tmp_path / 'voices'}", *SPEAKERS]
    elif networks._target_.endswith("CycleGAN") and kind.endswith(FOLDERS):
        for domain in "AB":
            write_photos(tmp_path / "photos" / f"train{domain}")
            write_photos(tmp_path / "photos" / f"test{domain}")
        data += [f"data.root={tmp_path / 'photos'}", "data.image_size=32"]
    if kind.endswith(("PairedFolder", "InpaintingFolder")):
        write_photos(tmp_path / "photos", 60)
        data += [f"data.root={tmp_path / 'photos'}", "data.image_size=32"]
    if networks._target_.endswith("SRGAN"):
        data += ["model.generator.blocks=1", "model.discriminator.hidden=8", "model.perceptual=standin"]
        if networks.pretraining_images:  # three steps of eight crops, of which the first two are the generator's
            data.append("model.pretraining_images=16")
        if kind.endswith(FOLDERS):
            write_large_photos(tmp_path / "photos")
            data += [f"data.root={tmp_path / 'photos'}", "data.image_size=32"]
    if networks.get("splits"):  # of three sides
        data += ["model.splits=[1,1,1]", "model.rates=[1,1,1]"]
    if networks.get("labelled_per_class"):  # these photos are few
        data.append("model.labelled_per_class=4")
    debug = ["samples.count=16", *([] if group == "trainer" else ["trainer=debug"])]
    folder = tmp_path / "run"
    assert run([choice, *debug, *data, "trainer.accelerator=cpu", f"hydra.run.dir={folder}"]) == 0
    shown = ("samples/real.txt",) if ".text." in kind else ("samples/real.png", "samples/film.gif")
    for made in ("config.yaml", "metrics.csv", "checkpoints/last.ckpt", *shown):
        assert (folder / made).exists(), made
    assert list(folder.glob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("model", "key", "value"),
    [
        ("pacgan", "pack", 2),
        ("minibatch_discrimination", "minibatch_kernels", 100),
        ("hinge", "spectral_norm", True),
        ("sngan", "spectral_norm", True),
        ("projection", "conditioning", "projection"),
    ],
)
@pytest.mark.parametrize("network", ["dcgan_conditional", "cgan"])
def test_other_networks_leave_a_rule_itself(model: str, key: str, value: Any, network: str) -> None:
    settings = check(compose("train", [f"model={model}", f"network@model={network}"], Settings), Settings)
    assert settings["model"]["discriminator"][key] == value


@pytest.mark.parametrize("network", sorted({f.stem for f in (CONF / "network").glob("*.yaml")}))
def test_networks_can_be_swapped(network: str, tmp_path: Path) -> None:
    alone = ("began", "cyclegan", "deepfill", "deepfill_v1", "esrgan", "infogan", "pix2pix", "srgan")  # for these rules
    rule = found if (found := network.removesuffix("_mnist").removesuffix("_unet")) in alone else "dcgan"
    size = 32 if network in (*POWERS_OF_TWO, "deepfill", "deepfill_v1", "esrgan") else 28
    fitting = OTHERS.get(network, [f"model={rule}", f"data.image_size={size}"])
    arguments = [*fitting, f"network@model={network}"]
    module = instantiate(check(compose("train", arguments, Settings), Settings)["model"])
    latents = module.draw_latents(2, torch.Generator())
    assert module.verdicts(images_of(module.generate({}, latents)), latents, None).shape == (2,)
