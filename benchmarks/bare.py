"""The best loop that could be written by hand: what the machine needs for a step when nothing stands around it."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.contenders import PENALTY_WEIGHT, Game, penalty
from benchmarks.ours import random_pixels
from benchmarks.runner import Case, Clock


class BareStep:
    """The fastest eager loop: resident pixels, fused Adam, shared fakes, softplus, channels-last, no host in sight."""

    def __init__(self, case: Case) -> None:
        if case.device == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32
            torch.backends.cudnn.benchmark = True
        self.case, self.game = case, Game(case)
        self.generator, self.discriminator = self.game.generator, self.game.discriminator
        self.pixels = random_pixels(case.images, self.game.channels, self.game.image_size).to(case.device)
        self.layout = torch.contiguous_format if case.network == "mlp" else torch.channels_last
        for network in (self.generator, self.discriminator):
            network.to(memory_format=self.layout)  # pyright: ignore[reportCallIssue]
        self.average = copy.deepcopy(self.generator)
        self.generator_optimizer, self.discriminator_optimizer = self.game.optimizers(fused=True)
        self.frozen: list[Tensor] = list(self.discriminator.parameters())
        self.averages: list[Tensor] = list(self.average.parameters())
        self.weights: list[Tensor] = list(self.generator.parameters())
        self.kept, self.buffers = list(self.average.buffers()), list(self.generator.buffers())
        self.order = torch.empty(0, dtype=torch.int64)
        self.step = 0

    def autocast(self) -> torch.autocast:
        """Without a cache: weights change between forward passes."""
        enabled = self.case.precision == "bf16"
        return torch.autocast(self.case.device, torch.bfloat16, enabled=enabled, cache_enabled=False)

    def real(self) -> Tensor:
        """The next minibatch, (N, C, H, W) in [-1, 1]."""
        if len(self.order) < self.case.batch:
            self.order = torch.randperm(len(self.pixels), device=self.case.device)
        index, self.order = self.order[: self.case.batch], self.order[self.case.batch :]
        real = self.pixels.index_select(0, index).float().div_(127.5).sub_(1)
        return real.contiguous(memory_format=self.layout)

    def minibatch(self) -> None:
        """The critic's step and, when it is its turn, the generator's."""
        self.step += 1
        turn = self.step % self.case.critic_steps == 0
        real = self.real()
        latents = torch.randn(self.case.batch, self.game.latent_size, device=self.case.device)
        with self.autocast(), torch.set_grad_enabled(turn):
            fake = self.generator(latents)
        self.discriminator_loss(real, fake.detach()).backward()
        self.discriminator_optimizer.step()
        self.discriminator_optimizer.zero_grad()
        if not turn:
            return
        for parameter in self.frozen:
            parameter.requires_grad_(False)
        with self.autocast():
            judged = self.discriminator(fake).float()
            loss = -judged.mean() if self.game.wasserstein else softplus(-judged).mean()
        loss.backward()
        self.generator_optimizer.step()
        self.generator_optimizer.zero_grad()
        for parameter in self.frozen:
            parameter.requires_grad_(True)
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, self.weights, 0.005)  # pyright: ignore[reportPrivateImportUsage]
            if self.buffers:
                torch._foreach_copy_(self.kept, self.buffers)  # pyright: ignore[reportPrivateImportUsage]

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        with self.autocast():
            on_real, on_fake = self.discriminator(real).float(), self.discriminator(fake).float()
        if self.game.wasserstein:
            return on_fake.mean() - on_real.mean() + PENALTY_WEIGHT * penalty(self.discriminator, real, fake.float())
        return softplus(-on_real).mean() + softplus(on_fake).mean()


class FlopCount(TorchDispatchMode):
    """Floating-point operations by PyTorch's own formulas; its FlopCounterMode cannot look into a double backward."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


def bare_loop(case: Case, clock: Clock, folder: Path) -> None:
    """The best loop by hand; counts the floating-point operations of its first cycle."""
    step = BareStep(case)
    with FlopCount() as counter:
        for _ in range(case.critic_steps):
            step.minibatch()
    clock.flops = counter.total / case.critic_steps
    while True:
        step.minibatch()
        clock.tick()
