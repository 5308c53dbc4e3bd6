"""Pruning: which channels go together, that nothing else changes, and that what comes of it is a run as any other."""

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands import sample
from gan_lightning.commands.loading import load_data, load_module
from gan_lightning.commands.train import run as train
from gan_lightning.compression import pruning
from gan_lightning.compression.channels import (
    Group,
    Target,
    check_cut,
    count_macs,
    find_groups,
    kept_without,
    order_of,
    within,
)
from gan_lightning.compression.pruning import Prune
from gan_lightning.compression.results import Source
from gan_lightning.config import instantiate
from gan_lightning.errors import UserError
from gan_lightning.networks.biggan import BigGANGenerator
from gan_lightning.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_lightning.networks.mlp import MLPDiscriminator, MLPGenerator
from gan_lightning.networks.patch import PatchDiscriminator
from gan_lightning.networks.pruned import Kept, Pruned, Sparse, cut, kind_of, stored, width_of
from gan_lightning.networks.resnet import ResNetGenerator
from gan_lightning.networks.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from gan_lightning.networks.superres import SRResNet
from gan_lightning.networks.translator import ResNetTranslator
from gan_lightning.networks.unet import UNetGenerator
from gan_lightning.networks.wavegan import WaveGANDiscriminator, WaveGANGenerator
from tests.support import RARELY, count

LABELS = torch.tensor([0, 2])
PICTURES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
SMALL = ["model=dcgan", "data=digits", "model.generator.base_channels=4", "model.discriminator.base_channels=4"]
SMALL += ["scores=off", "data.batch_size=32", *RARELY]


def latents(size: int = 8) -> Tensor:
    return torch.randn(2, size, generator=torch.Generator().manual_seed(1))


NETWORKS = {
    "dcgan": (partial(DCGANGenerator, 8, 6, 32, 3), (latents(),)),
    "class_norm": (partial(DCGANGenerator, 8, 6, 16, 3, 4, "batch_norm"), (latents(), LABELS)),
    "resnet": (partial(ResNetGenerator, 8, 8, 16, 3, "preactivation", 4, 8, True), (latents(), LABELS)),
    "biggan": (partial(BigGANGenerator, 9, 4, 16, 3, 4, 8, True, 8), (latents(9), LABELS)),
    "mlp": (partial(MLPGenerator, 8, [16, 12], 4, 1, "maxout"), (latents(),)),
    "unet": (partial(UNetGenerator, 4, 16, 3, 3), (PICTURES,)),
    "translator": (partial(ResNetTranslator, 6, 3, 3, 2), (PICTURES,)),
    "srresnet": (partial(SRResNet, 8, 3, 4, 2), (PICTURES,)),
    "wavegan": (partial(WaveGANGenerator, 8, 4, 256), (latents(),)),
    "stylegan2": (partial(StyleGAN2Generator, 8, 4, 16, 3, 16, 8, 2, "residual"), (latents(),)),
    "critic": (partial(DCGANDiscriminator, 6, 16, 3, spectral_norm=True, norm="none"), (PICTURES,)),
    "projection": (partial(DCGANDiscriminator, 6, 16, 3, classes=4, conditioning="projection"), (PICTURES, LABELS)),
    "patches": (partial(PatchDiscriminator, 6, 3, levels=1, norm="instance"), (PICTURES,)),
    "sounds": (partial(WaveGANDiscriminator, 4, 256), (torch.rand(2, 1, 256),)),
}


def built(make: Any) -> nn.Module:
    """A network none of whose numbers is 0, and which draws nothing."""
    torch.manual_seed(0)
    network: nn.Module = make().eval()
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


@torch.no_grad()
def forget(network: nn.Module, groups: list[Group], channels: list[tuple[int, int]]) -> None:
    """Everything that is known of these channels becomes 0."""
    for index, channel in channels:
        for member in groups[index].members:
            layer = network.get_submodule(member.layer)
            kind = kind_of(layer)
            assert kind is not None
            for tensor, dimension in (kind.outputs if member.outputs else kind.inputs).items():
                value = getattr(*stored(layer, tensor), None)
                if isinstance(value, nn.Parameter):
                    value.index_fill_(dimension, member.positions[member.roots == channel], 0)


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_that_are_zero_go_first_and_nothing_changes(name: str) -> None:
    make, inputs = NETWORKS[name]
    network = built(make)
    groups = find_groups(network, inputs)
    dead = [(index, channel) for index, group in enumerate(groups) for channel in range(0, group.width - 2, 3)]
    assert len(dead) >= len(groups) >= 1
    forget(network, groups, dead)
    scores = {parameter: parameter.detach().square() for parameter in network.parameters()}
    order = order_of(network, groups, scores, "global")
    assert {place for part in order[: len(dead)] for place in part} == set(dead)

    smaller = cut(copy.deepcopy(network), kept_without(network, groups, dead))

    assert count(smaller) < count(network)
    with torch.no_grad():
        torch.testing.assert_close(smaller(*inputs), network(*inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scope", ["local", "global"])
def test_multiply_adds_are_what_was_asked_for(scope: Any) -> None:
    network, inputs = built(partial(DCGANGenerator, 16, 16, 32, 3)), (latents(16),)
    groups = find_groups(network, inputs)
    scores = {parameter: parameter.detach().square() for parameter in network.parameters()}
    order = order_of(network, groups, scores, scope)
    kept, share = within(network, inputs, Target("method.macs", 0.5, 0.5), 1.0, groups, order)
    smaller = cut(copy.deepcopy(network), kept)
    assert abs(share - 0.5) < 0.02
    assert share == macs_of_dcgan(smaller) / macs_of_dcgan(network)
    check_cut(network, inputs, kept)


def test_layers_keep_multiples() -> None:
    network, inputs = built(partial(DCGANGenerator, 8, 10, 32, 3)), (latents(),)  # 40, 20 and 10 wide
    groups = find_groups(network, inputs)
    scores = {parameter: parameter.detach().square() for parameter in network.parameters()}
    order = order_of(network, groups, scores, "global", 8)
    assert sorted(len(part) for part in order) == [2, 4, 8, 8, 8, 8, 8]
    kept, _ = within(network, inputs, Target("method.macs", 0.5, 0.5), 1.0, groups, order)
    widths = [layer.out_channels for layer in cut(network, kept).modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert all(width % 8 == 0 for width in widths[:-1])
    assert widths[0] < 40


def macs_of_dcgan(network: nn.Module) -> int:
    """Of one image: every number of a layer's input meets every weight of its channel."""
    side, total = 1, 0
    for layer in network.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            total += side**2 * layer.in_channels * layer.out_channels * layer.kernel_size[0] ** 2
            side = 4 if side == 1 else 2 * side
    return total


def test_parameters_of_a_narrow_dcgan_by_hand() -> None:
    whole = DCGANGenerator(5, 8, 16, 1)  # 16 and 8 wide
    widths = {"layers.0": [5, 10], "layers.1": [10, 10], "layers.3": [10, 3], "layers.4": [3, 3], "layers.6": [3, 1]}
    network = Pruned(whole, widths)
    assert isinstance(network, DCGANGenerator)
    assert network.latent_size == 5
    assert count(network) == 5 * 10 * 16 + 2 * 10 + 10 * 3 * 16 + 2 * 3 + 3 * 1 * 16
    assert count_macs(network.requires_grad_(False).to("meta"), (latents(5),)) == 2 * (
        5 * 10 * 16 + 16 * 10 * 3 * 16 + 64 * 3 * 1 * 16
    )


def test_a_narrow_network_is_read_from_a_file(tmp_path: Path) -> None:
    """Names of layers have dots, which are no levels of the configuration."""
    node = {"_target_": "gan_lightning.networks.dcgan.DCGANGenerator", "latent_size": 5, "base_channels": 8}
    node |= {"image_size": 16, "channels": 1}
    widths = {"layers.0": [5, 10], "layers.1": [10, 10], "layers.3": [10, 8]}
    OmegaConf.save({"network": {"_target_": pruning.PRUNED, "network": node, "widths": widths}}, tmp_path / "c.yaml")
    network = instantiate(OmegaConf.to_container(OmegaConf.load(tmp_path / "c.yaml"))["network"])  # pyright: ignore
    assert {name: list(width_of(network.get_submodule(name))) for name in widths} == widths


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"layers.9": [1, 1]}, "widths=layers.9: DCGANGenerator has no such layer"),
        ({"layers.2": [1, 1]}, "widths=layers.2: DCGANGenerator has no such layer"),
        ({"layers.3": [16, 9]}, r"widths=layers.3: \[16, 9\]: must be two numbers, up to \[16, 8\]"),
        ({"layers.3": [16]}, "must be two numbers"),
    ],
)
def test_widths_that_a_network_cannot_have(widths: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pruned(DCGANGenerator(5, 8, 16, 1), widths)


def test_a_wrong_choice_of_channels_is_noticed() -> None:
    network, inputs = built(partial(UNetGenerator, 4, 16, 3, 3)), (PICTURES,)
    groups = find_groups(network, inputs)
    kept = kept_without(network, groups, [(1, 0)])
    check_cut(network, inputs, kept)
    name = next(name for name, sides in kept.items() if sides.inputs is not None)
    inputs_kept = kept[name].inputs
    assert inputs_kept is not None
    first = torch.arange(len(inputs_kept))  # in place of the others
    with pytest.raises(UserError, match="UNetGenerator cannot be pruned: without channels it does not compute"):
        check_cut(network, inputs, {**kept, name: Kept(first, kept[name].outputs)})


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


@pytest.mark.parametrize(
    ("network", "inputs", "reason"),
    [
        (DCGANDiscriminator(4, 16, 3, norm="layer"), (PICTURES,), "DCGANDiscriminator .*: nothing is known of trunk.3"),
        (StyleGAN2Discriminator(4, 16, 3), (PICTURES,), "StyleGAN2Discriminator cannot"),
        (MLPDiscriminator([8], 16, 3, minibatch_kernels=2), (PICTURES,), "MLPDiscriminator .* MinibatchDiscrimination"),
        (Tied(), (torch.rand(2, 4),), "Tied .*: layers share weights"),
        (nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.Conv2d(6, 3, 3)), (PICTURES,), "Sequential .* groups=3"),
    ],
)
def test_networks_that_cannot_be_pruned_are_refused_by_name(network: nn.Module, inputs: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        find_groups(network, inputs)


def test_more_than_can_go_is_refused() -> None:
    network, inputs = built(partial(DCGANGenerator, 8, 6, 16, 3)), (latents(),)
    groups = find_groups(network, inputs)
    order = order_of(network, groups, {parameter: parameter.detach() for parameter in network.parameters()}, "local")
    with pytest.raises(UserError, match=r"method\.macs=0\.01: DCGANGenerator keeps 0\.\d+ of its multiply-adds"):
        within(network, inputs, Target("method.macs", 0.01, 0.1), 1.0, groups, order)


def test_weights_of_zero_stay() -> None:
    torch.manual_seed(0)
    network: Any = Sparse(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
    with torch.no_grad():
        network[0].weight[:, :2] = 0
        network[2].bias.zero_()
    optimizer = torch.optim.AdamW(network.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.rand(5, 4)).square().sum().backward()
        optimizer.step()
    assert not network[0].weight[:, :2].any()
    assert network[0].weight[:, 2:].all()
    assert network[2].bias.all()


@pytest.mark.parametrize("settings", [{"steps": 2}, {"kind": "weights", "discriminator": 0.5}])
def test_settings_that_say_nothing_together(settings: Any) -> None:
    with pytest.raises(ValueError, match=f"{list(settings)[-1]}="):
        Prune(**settings)


# ---- runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run."""
    folder = tmp_path_factory.mktemp("prune") / "run"
    assert train([*SMALL, "budget.images=128", f"hydra.run.dir={folder}"]) == 0
    return folder


def source_of(folder: Path, result: Path) -> Source:
    module = load_module(folder)
    assert module.config is not None
    data = load_data(module.config, module.data_facts)
    module.show(data)
    return Source(folder / "checkpoints" / "last.ckpt", module.config, module, data, result)


def weights(folder: Path) -> dict[str, Tensor]:
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]


def test_a_pruned_run_is_a_run(folder: Path, tmp_path: Path) -> None:
    source, result = source_of(folder, tmp_path / "pruned"), tmp_path / "pruned"
    before = copy.deepcopy(source.module.state_dict())
    facts = Prune(macs=0.5).run(source)
    assert abs(facts["generator_multiply_adds_kept"] - 0.5) < 0.03
    assert json.dumps(facts)
    assert all(torch.equal(value, before[key]) for key, value in source.module.state_dict().items())

    module = load_module(result)
    whole, less = source.module.generator, module.generator
    assert macs_of_dcgan(less) / macs_of_dcgan(whole) == pytest.approx(facts["generator_multiply_adds_kept"], abs=1e-4)
    assert facts["generator_parameters_kept"] == round(count(less) / count(whole), 4)
    assert count(module.discriminator) == count(source.module.discriminator)
    sizes = [(run / "checkpoints" / "last.ckpt").stat().st_size for run in (folder, result)]
    assert sizes[1] < sizes[0]
    assert module.ema is not None
    assert source.module.ema is not None
    name = "layers.0.weight"  # (latents, channels, 4, 4)
    old, new = (one.state_dict()[name] for one in (source.module.ema.generator, module.ema.generator))
    kept = [next(i for i in range(old.shape[1]) if torch.equal(old[:, i], one)) for one in new.unbind(1)]
    live = source.module.generator.state_dict()[name]  # loses the channels that the average loses
    assert torch.equal(module.generator.state_dict()[name], live[:, kept])
    assert sample.run([f"checkpoint={result}", "count=4", f"output={tmp_path / 'images'}", "accelerator=cpu"]) == 0
    assert torch.equal(module.sample(4), load_module(result).sample(4))


def test_training_goes_on_and_resumes_exactly(folder: Path, tmp_path: Path) -> None:
    for images, name in ((64, "half"), (128, "whole")):
        facts = Prune(macs=0.5, discriminator=0.6, images=images).run(source_of(folder, tmp_path / name))
        assert facts["trained_images"] == images
        assert abs(facts["discriminator_multiply_adds_kept"] - 0.6) < 0.05
    start = read_checkpoint(tmp_path / "half" / "start.ckpt")["state_dict"]
    half = weights(tmp_path / "half")
    (tmp_path / "half" / "start.ckpt").unlink()  # needed no more
    assert not torch.equal(start["generator.layers.0.weight"], half["generator.layers.0.weight"])
    assert train([f"checkpoint={tmp_path / 'half'}", "budget.images=128"]) == 0
    now, whole = weights(tmp_path / "half"), weights(tmp_path / "whole")
    assert all(torch.equal(now[key], whole[key]) for key in whole)


def test_steps_go_down_to_the_same_share(folder: Path, tmp_path: Path) -> None:
    facts = Prune(macs=0.36, steps=2, images=64).run(source_of(folder, tmp_path / "steps"))
    module, middle = load_module(tmp_path / "steps"), load_module(tmp_path / "steps" / "steps" / "1")
    whole = macs_of_dcgan(load_module(folder).generator)
    assert macs_of_dcgan(middle.generator) / whole == pytest.approx(0.6, abs=0.04)
    assert macs_of_dcgan(module.generator) / whole == pytest.approx(0.36, abs=0.04)
    assert macs_of_dcgan(module.generator) / whole == pytest.approx(facts["generator_multiply_adds_kept"], abs=1e-4)


@pytest.mark.parametrize("scope", ["local", "global"])
def test_zeros_are_left_by_training(folder: Path, tmp_path: Path, scope: Any) -> None:
    facts = Prune(macs=0.25, kind="weights", scope=scope, images=64).run(source_of(folder, tmp_path / "zeros"))
    module = load_module(tmp_path / "zeros")
    assert module.ema is not None
    start = read_checkpoint(tmp_path / "zeros" / "start.ckpt")["state_dict"]
    for name, network in (("generator", module.generator), ("ema.generator", module.ema.generator)):
        found = pruning.weights_of(network)
        total = sum(weight.numel() for weight in found.values())
        assert sum(int(weight.count_nonzero()) for weight in found.values()) / total == pytest.approx(0.25, abs=0.01)
        for key, weight in found.items():
            assert torch.equal(weight == 0, start[f"{name}.{key}"] == 0)
            assert scope == "global" or abs(weight.count_nonzero() / weight.numel() - 0.25) < 0.01
    changed = weights(tmp_path / "zeros")["generator.layers.0.weight"] != start["generator.layers.0.weight"]
    assert changed.any()
    assert facts["parameters"] == count(load_module(folder).generator)
    assert facts["parameters_not_zero"] == sum(int(one.count_nonzero()) for one in module.generator.parameters())


def test_taylor_is_number_times_gradient_of_the_loss(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(pruning, "MINIBATCHES", 1)
    source = source_of(folder, tmp_path)
    module, config = source.module, source.config
    assert module.ema is not None
    found = pruning.Pruning(module, source.data, config, "taylor", "local", 1).losses("generator")

    batch, given = module.prepare(pruning.minibatch(source.data, 0), 16, "pruning 0 ")
    network = module.ema.generator.requires_grad_(True)
    logits = module.discriminator(network(given))
    loss = nn.functional.softplus(-logits).mean()  # the non-saturating loss
    for (name, parameter), gradient in zip(
        network.named_parameters(), torch.autograd.grad(loss, list(network.parameters())), strict=True
    ):
        torch.testing.assert_close(found[name], (parameter * gradient).abs().detach())
    assert len(batch["image"]) == 16


@pytest.mark.slow
def test_training_afterwards_brings_quality_back(tmp_path: Path) -> None:
    """FID of digits in place of MNIST: after a quarter of the multiply-adds is left, without and with training."""
    run = [*SMALL, "model.generator.base_channels=16", "model.discriminator.base_channels=16", "budget.images=30000"]
    assert train([*run, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    fids = {}
    for images in (0, 10000):
        Prune(macs=0.25, images=images).run(source_of(tmp_path / "run", tmp_path / str(images)))
        fids[images] = fid(load_module(tmp_path / str(images)), source_of(tmp_path / "run", tmp_path))
    assert fids[10000] < 0.95 * fids[0]  # 13.3 and 15.2


def fid(module: Any, source: Source) -> float:
    from gan_lightning.metrics.scoring import Scorer, ScoreSettings

    scorer = Scorer(ScoreSettings(names=["fid"]), source.data)
    return next(record.value for record in scorer.score(module, source="test") if record.metric == "fid")
