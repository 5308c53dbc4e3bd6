"""The loops that people write, written for this benchmark; bare.py has the best one that could be.

Each trains the networks of the project's own configuration, with its optimizers' settings and batch size, and moves
its generator after every `critic_steps` minibatches. "images" are real ones shown to the discriminator.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.core.optimizer import LightningOptimizer
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.ours import random_pixels
from benchmarks.runner import Case, Clock
from gan_lightning.commands.train import Settings
from gan_lightning.config import check, compose, instantiate
from gan_lightning.initialization import initialize

PENALTY_WEIGHT = 10


class Game:
    """Two networks on the device and the settings of their optimizers, from the project's configuration."""

    def __init__(self, case: Case) -> None:
        settings = check(compose("train", case.arguments(), Settings), Settings)
        model = settings["model"]
        self.generator: nn.Module = instantiate(model["generator"])
        self.discriminator: nn.Module = instantiate(model["discriminator"])
        for network in (self.generator, self.discriminator):
            initialize(network, model["initialization"])
            network.to(case.device)
        self.latent_size: int = model["generator"]["latent_size"]
        self.channels, self.image_size = settings["data"]["channels"], settings["data"]["image_size"]
        names = ("generator_optimizer", "discriminator_optimizer")
        self.generator_adam, self.discriminator_adam = (
            {key: value for key, value in model[name].items() if key in ("lr", "betas")} for name in names
        )
        self.wasserstein = case.network == "wgan_gp"

    def optimizers(self, **switches: Any) -> tuple[torch.optim.Adam, torch.optim.Adam]:
        """The generator's and the discriminator's."""
        return (
            torch.optim.Adam(self.generator.parameters(), **self.generator_adam, **switches),
            torch.optim.Adam(self.discriminator.parameters(), **self.discriminator_adam, **switches),
        )


class Pictures(Dataset[tuple[Tensor, int]]):
    """As torchvision's MNIST: a PIL image for every sample, then the transforms of every tutorial."""

    def __init__(self, case: Case, game: Game) -> None:
        self.pixels = random_pixels(case.images, game.channels, game.image_size)[:, 0]  # (N, H, W)
        half = (0.5,)
        self.transform: Any = transforms.Compose([transforms.ToTensor(), transforms.Normalize(half, half)])

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index].numpy())), index % 10


def stock_loader(case: Case, game: Game) -> DataLoader[tuple[Tensor, int]]:
    return DataLoader(Pictures(case, game), batch_size=case.batch, shuffle=True, drop_last=True)


def penalty(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Gulrajani et al. 2017, eq. 3, as it is usually written: images (N, C, H, W), twice -> scalar."""
    mixing = torch.rand(len(real), 1, 1, 1, device=real.device)
    between = (mixing * real + (1 - mixing) * fake).requires_grad_()
    scores = critic(between)
    (gradient,) = torch.autograd.grad(scores, between, torch.ones_like(scores), create_graph=True, retain_graph=True)
    return ((gradient.flatten(1).norm(2, dim=1) - 1) ** 2).mean()


def endless(loader: DataLoader[Any]) -> Iterator[tuple[int, Tensor]]:
    """Step numbers from 1 on, and images (N, C, H, W), epoch after epoch."""
    step = 0
    while True:
        for images, _ in loader:
            step += 1
            yield step, images


def seed_script(case: Case, clock: Clock, folder: Path) -> None:
    """The usual tutorial: fakes made once and detached for the discriminator, BCE, plain Adam, .item() every step."""
    game = Game(case)
    generator, discriminator = game.generator, game.discriminator
    generator_optimizer, discriminator_optimizer = game.optimizers()
    criterion = nn.BCELoss()
    for step, real in endless(stock_loader(case, game)):
        real = real.to(case.device)
        fake = generator(torch.randn(len(real), game.latent_size, device=case.device))
        ones, zeros = torch.ones(len(real), device=case.device), torch.zeros(len(real), device=case.device)

        discriminator_optimizer.zero_grad()
        if game.wasserstein:
            loss = discriminator(fake.detach()).mean() - discriminator(real).mean()
            loss = loss + PENALTY_WEIGHT * penalty(discriminator, real, fake.detach())
        else:
            loss = criterion(discriminator(real).sigmoid(), ones)
            loss = loss + criterion(discriminator(fake.detach()).sigmoid(), zeros)
        loss.backward()
        discriminator_optimizer.step()
        loss.item()

        if step % case.critic_steps == 0:
            generator_optimizer.zero_grad()
            judged = discriminator(fake)
            loss = -judged.mean() if game.wasserstein else criterion(judged.sigmoid(), ones)
            loss.backward()
            generator_optimizer.step()
            loss.item()
        clock.tick()


def pytorch_gan(case: Case, clock: Clock, folder: Path) -> None:
    """The habits of the PyTorch-GAN collection: label tensors filled and converted, latents from NumPy, the generator
    first; losses averaged and read every step. For WGAN-GP the critic first, its fakes not detached and made again."""
    game = Game(case)
    generator, discriminator = game.generator, game.discriminator
    generator_optimizer, discriminator_optimizer = game.optimizers()
    numbers = np.random.default_rng(0)
    criterion = nn.BCELoss()
    for step, pixels in endless(stock_loader(case, game)):
        valid = torch.empty(len(pixels)).fill_(1.0).to(case.device)
        wrong = torch.empty(len(pixels)).fill_(0.0).to(case.device)
        real = pixels.float().to(case.device)
        noise = numbers.normal(0, 1, (len(pixels), game.latent_size))
        latents = torch.from_numpy(noise).float().to(case.device)
        if game.wasserstein:
            discriminator_optimizer.zero_grad()
            fake = generator(latents)
            loss = -discriminator(real).mean() + discriminator(fake).mean()
            loss = loss + PENALTY_WEIGHT * penalty(discriminator, real.data, fake.data)
            loss.backward()
            discriminator_optimizer.step()
            generator_optimizer.zero_grad()
            if step % case.critic_steps == 0:
                generator_loss = -discriminator(generator(latents)).mean()
                generator_loss.backward()
                generator_optimizer.step()
                f"[D loss: {loss.item()}] [G loss: {generator_loss.item()}]"
        else:
            generator_optimizer.zero_grad()
            fake = generator(latents)
            generator_loss = criterion(discriminator(fake).sigmoid(), valid)
            generator_loss.backward()
            generator_optimizer.step()
            discriminator_optimizer.zero_grad()
            on_real = criterion(discriminator(real).sigmoid(), valid)
            on_fake = criterion(discriminator(fake.detach()).sigmoid(), wrong)
            loss = (on_real + on_fake) / 2
            loss.backward()
            discriminator_optimizer.step()
            f"[D loss: {loss.item()}] [G loss: {generator_loss.item()}]"
        clock.tick()


class DocsStyle(LightningModule):
    """A GAN as Lightning's documentation writes one: manual optimization, toggled optimizers, fakes made twice, every
    loss logged to the progress bar every step."""

    def __init__(self, game: Game, case: Case, clock: Clock) -> None:
        super().__init__()
        self.game, self.case, self.clock = game, case, clock
        self.generator, self.discriminator = game.generator, game.discriminator
        self.automatic_optimization = False
        self.steps = 0

    def forward(self, latents: Tensor) -> Tensor:
        return self.generator(latents)

    def adversarial_loss(self, judged: Tensor, labels: Tensor) -> Tensor:
        return binary_cross_entropy(judged.sigmoid(), labels)

    def training_step(self, batch: tuple[Tensor, Tensor]) -> None:
        real, _ = batch
        self.steps += 1
        generator_optimizer, discriminator_optimizer = cast(list[LightningOptimizer], self.optimizers())
        latents = torch.randn(len(real), self.game.latent_size).type_as(real)
        if self.steps % self.case.critic_steps == 0:
            self.toggle_optimizer(generator_optimizer)
            judged = self.discriminator(self(latents))
            ones = torch.ones(len(real)).type_as(real)
            loss = -judged.mean() if self.game.wasserstein else self.adversarial_loss(judged, ones)
            self.log("g_loss", loss, prog_bar=True)
            self.manual_backward(loss)
            generator_optimizer.step()
            generator_optimizer.zero_grad()
            self.untoggle_optimizer(generator_optimizer)

        self.toggle_optimizer(discriminator_optimizer)
        fake = self(latents).detach()
        if self.game.wasserstein:
            loss = self.discriminator(fake).mean() - self.discriminator(real).mean()
            loss = loss + PENALTY_WEIGHT * penalty(self.discriminator, real, fake)
        else:
            on_real = self.adversarial_loss(self.discriminator(real), torch.ones(len(real)).type_as(real))
            on_fake = self.adversarial_loss(self.discriminator(fake), torch.zeros(len(real)).type_as(real))
            loss = (on_real + on_fake) / 2
        self.log("d_loss", loss, prog_bar=True)
        self.manual_backward(loss)
        discriminator_optimizer.step()
        discriminator_optimizer.zero_grad()
        self.untoggle_optimizer(discriminator_optimizer)

    def on_train_batch_end(self, *_: Any) -> None:
        self.clock.tick()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return list(self.game.optimizers())


def lightning_docs(case: Case, clock: Clock, folder: Path) -> None:
    """The above under Lightning's own bar and logger; no checkpoints."""
    accelerator = "gpu" if case.device == "cuda" else case.device
    game = Game(case)
    trainer = Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=-1,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[TQDMProgressBar()],
    )
    trainer.fit(DocsStyle(game, case, clock), stock_loader(case, game))
