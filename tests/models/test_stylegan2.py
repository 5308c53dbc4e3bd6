"""Mixed styles, path lengths, lazy penalties and truncation of StyleGAN2."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import jacrev

from gan_lightning.models.stylegan2 import StyleGAN2
from gan_lightning.networks.mlp import MLPGenerator
from gan_lightning.networks.stylegan2 import StyleGAN2Discriminator, StyleGAN2Generator
from gan_lightning.sampling import sampler
from gan_lightning.steps import Step
from tests.support import Blobs, Watch, batch_of, fit, game

SMALL: dict[str, Any] = {"base_channels": 4, "image_size": 8, "channels": 1, "max_channels": 4}


def styled(*, classes: int = 0, **settings: Any) -> Any:
    torch.manual_seed(0)
    networks = {
        "generator": StyleGAN2Generator(4, style_size=4, mapping_layers=2, classes=classes, **SMALL),
        "discriminator": StyleGAN2Discriminator(deviation_group=2, classes=classes, mapping_layers=2, **SMALL),
    }
    return game(StyleGAN2, classes=classes, **{**networks, **settings})


def test_layers_from_a_place_on_have_the_styles_of_another_latent() -> None:
    module = styled(mixing=1.0)
    z = torch.randn(64, 4)
    styles = module.layer_styles(z, None)  # (64, 4, 4)
    own = module.generator.styles(z)
    same = (styles == own[:, None]).all(2)  # (64, layers)
    first_other = same.int().sum(1)
    assert same[:, 0].all()
    assert not same[:, -1].any()
    assert all(row[:count].all() and not row[count:].any() for row, count in zip(same, first_other, strict=True))
    assert set(first_other.tolist()) == {1, 2, 3}
    assert torch.equal(module.layer_styles(z, None), styles)  # a function of the place in training
    for unmixed in (styled(mixing=0.0), styled(mixing=1.0).eval()):
        assert (unmixed.layer_styles(z, None) == unmixed.generator.styles(z)[:, None]).all()


def test_path_lengths_are_those_of_the_jacobian(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    generator = StyleGAN2Generator(4, style_size=4, mapping_layers=2, noise=False, **SMALL)
    module, z, noise = styled(mixing=0.0, generator=generator), torch.randn(3, 4), torch.randn(3, 1, 8, 8)
    monkeypatch.setattr(torch, "randn_like", lambda images: noise)
    found = module.path_lengths(z, None)
    styles = module.generator.styles(z)[:, None].expand(-1, module.generator.layers, -1).detach()
    for sample in range(3):
        jacobian = jacrev(lambda w: module.generator.synthesis(w[None])[0])(styles[sample])  # (1, 8, 8, layers, size)
        product = torch.einsum("chw,chwls->ls", noise[sample] / 8, jacobian)
        assert found[sample].item() == pytest.approx(product.square().sum(1).mean().sqrt().item(), rel=1e-4)


def test_rare_penalties_weigh_more() -> None:
    eager, lazy = styled(mixing=0.0), styled(mixing=0.0, step=Step(generator_penalty_every=4, penalty_every=16))
    batch = {**batch_of(), "latents": torch.randn(8, 4)}

    def losses(module: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        torch.manual_seed(1)
        fakes = module.generate(batch, batch["latents"])
        return module.discriminator_loss(batch, fakes.detach()), module.generator_loss(batch, fakes)

    of_eager, of_lazy = losses(eager), losses(lazy)
    lazy.penalty_due = lazy.generator_penalty_due = False
    plain = losses(lazy)
    for player, every in ((0, 16), (1, 4)):
        part = (of_eager[player]["loss"] - plain[player]["loss"]).item()
        assert part > 0
        found = (of_lazy[player]["loss"] - plain[player]["loss"]).item()
        assert found == pytest.approx(every * part, rel=1e-3)


def test_penalties_come_as_rarely_as_they_are_asked_for(tmp_path: Path) -> None:
    module, seen = styled(step=Step(generator_penalty_every=2, penalty_every=4)), []

    def see(module: Any) -> None:
        seen.append((module.penalty_due, module.generator_penalty_due, module.path_mean.item()))

    fit(module, Blobs(), tmp_path, Watch(see), max_epochs=1)
    assert [penalty for penalty, _, _ in seen] == [True, False, False, False] * 2
    assert [penalty for _, penalty, _ in seen] == [True, False] * 4
    means = [mean for *_, mean in seen]
    assert means[0] == means[1] > 0
    assert means[2] == means[3] != means[1]
    assert module.path_length == 0


def test_the_aim_follows_the_mean_length() -> None:
    module = styled(mixing=0.0, path_length_decay=0.25)
    module.path_mean.fill_(8.0)
    batch = {**batch_of(), "latents": torch.randn(8, 4)}
    torch.manual_seed(1)
    found = module.generator_loss(batch, module.generate(batch, batch["latents"]))
    torch.manual_seed(1)
    module.generate(batch, batch["latents"])
    lengths = module.path_lengths(batch["latents"][:4], None)
    aim = 8 + 0.25 * (lengths.mean() - 8)
    torch.testing.assert_close(found["path_penalty"], (lengths - aim).square().mean(), rtol=1e-4, atol=0)


def test_truncated_images_lie_nearer_to_their_mean() -> None:
    module = styled(ema=None)
    module.generator.mean.copy_(module.generator.styles(torch.randn(1000, 4)).mean(0).detach())
    spreads = [module.sample(32, truncation=psi).std(0).mean() for psi in (None, 0.5, 1e-4)]
    assert spreads[0] > spreads[1] > spreads[2]
    assert spreads[2] < 1e-3
    torch.testing.assert_close(module.sample(4, truncation=1.0), module.sample(4), rtol=1e-4, atol=1e-5)
    assert not sampler(module, truncation=0.5).training


def test_classes_reach_path_lengths() -> None:
    module = styled(classes=3)
    batch = {**batch_of(label=torch.arange(8) % 3, fake_label=torch.arange(8) % 3), "latents": torch.randn(8, 4)}
    assert "path_penalty" in module.generator_loss(batch, module.generate(batch, batch["latents"]))


def test_generators_without_styles_are_refused() -> None:
    with pytest.raises(ValueError, match="MLPGenerator has no styles"):
        styled(generator=MLPGenerator(4, [8], 8, 1))
    with pytest.raises(ValueError, match="generator_penalty_every=2: the generator of GAN has no penalty"):
        game(step=Step(generator_penalty_every=2))
