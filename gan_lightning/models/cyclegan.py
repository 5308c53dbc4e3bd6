"""CycleGAN — Zhu et al. 2017, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks".

One generator makes B of A, another A of B, each against a discriminator of its domain; what goes to and fro comes back
as it was. Discriminators are shown fakes of earlier steps too (Shrivastava et al. 2017, section 2.3).

Differs from the paper: discriminators move before generators, which the published code has the other way round; of one
minibatch no image takes another one's place in a pool, which only tells from the code with several images a minibatch;
samples and translations come from a moving average of the generators (`model.ema=null`: not).
"""

from collections.abc import Iterator
from typing import Any, Literal, cast

import torch
from torch import Tensor, distributed, nn

from gan_lightning import losses
from gan_lightning.adversarial import Batch, Fakes, Latents
from gan_lightning.data.base import ImageData, say
from gan_lightning.data.translation import Translation
from gan_lightning.ema import batch_norms, with_fresh_statistics
from gan_lightning.losses import Losses
from gan_lightning.metrics.own import AS_USUAL, Measuring
from gan_lightning.metrics.paired import Pair, paired
from gan_lightning.networks.cycle import Discriminators, Translators
from gan_lightning.networks.wrapped import unwrapped
from gan_lightning.sampling import BLOCK, render
from gan_lightning.translation import Direction, Translator
from gan_lightning.types import NonNegativeFloat, NonNegativeInt

Domain = Literal["a", "b"]


class CycleGAN(Translator):
    """The GAN rule both ways, with L1 of what comes back.

    Args:
        cycle_weight: λ of eq. 3.
        identity_weight: of what a generator changes in images that are of its output's domain already, times
            cycle_weight (section 5.2); 0: not looked at.
        pool: fakes of each domain that every process keeps to show its discriminators; 0: the newest ones alone.

    Fakes are {"image": G(a), "input": F(b)}. Raises ValueError for networks that are no pairs, for BatchNorm with
    running statistics (samples have those of one direction alone) and for identity_weight between domains of different
    channels.
    """

    generator: Any
    own_metrics = (*Translator.own_metrics, "cycle_l1")
    kinds = ("unpaired", "pairs")
    no_graphs = "the image pools of model.pool fill up"

    def __init__(
        self,
        loss: losses.Name = "least_squares",
        cycle_weight: NonNegativeFloat = 10.0,
        identity_weight: NonNegativeFloat = 0.5,
        pool: NonNegativeInt = 50,
        **base: Any,
    ) -> None:
        for player, kind in (("generator", Translators), ("discriminator", Discriminators)):
            if not isinstance(unwrapped(base[player]), kind):
                raise ValueError(
                    f"{player}: {type(base[player]).__name__} is not {kind.__name__}, one for each direction and "
                    "domain: choose networks such as network@model=cyclegan"
                )
        translators: Translators = base["generator"]
        if batch_norms(translators):
            raise ValueError("generator.network.norm=batch: running statistics are of one direction; use instance")
        if identity_weight and translators.channels != translators.input_channels:
            raise ValueError(
                f"identity_weight={identity_weight}: needs as many channels in both domains, and there are "
                f"{translators.input_channels} and {translators.channels}; use 0"
            )
        super().__init__(loss=loss, **base)
        self.cycle_weight = cycle_weight
        self.identity_weight = identity_weight
        self.pool = pool
        self.scale = 2 if self.pair is losses.least_squares else 1  # losses.py halves these, the paper does not
        self.won = self.won * self.scale if self.won else None
        # no buffers: those are averaged over the ranks, and are in every state dict
        self.pools: dict[Domain, Tensor] = {}  # fakes (n, C, H, W), n up to `pool`

    def generate(self, batch: Batch, latents: Latents) -> Fakes:
        back = {"input": self.generator.b_to_a(batch["image"])} if "image" in batch else {}
        return {"image": self.generator.a_to_b(latents), **back}

    def translating(self, ema: bool = True, direction: Direction = "a2b") -> nn.Module:
        both: Any = super().translating(ema)
        return both.a_to_b if direction == "a2b" else both.b_to_a

    def channels_given(self, direction: Direction) -> int:
        return self.generator.input_channels if direction == "a2b" else self.generator.channels

    @torch.no_grad()
    def columns(self, images: Tensor, ema: bool = True) -> list[Tensor]:
        """Input, output, what comes back of it, and, where it is known, the truth."""
        given, made, *truth = super().columns(images, ema)
        network = self.both(ema).b_to_a  # a copy in training: one for all blocks
        back = [render(network, part, None, self.device) for part in images.to(self.device).split(BLOCK)]
        return [given, made, torch.cat(back), *truth]

    def both(self, ema: bool) -> Any:
        """The generators, or their average, in eval mode; those that are in training stay in it."""
        return with_fresh_statistics(self.ema.generator if ema and self.ema is not None else self.generator, [])

    def measured(self, data: ImageData) -> tuple[str, ...]:
        return super().measured(data) or (("cycle_l1",) if len(data.held_out) else ())

    @torch.no_grad()
    def measure(self, data: ImageData, how: Measuring = AS_USUAL) -> dict[str, Any]:
        """And "cycle_l1", of the held-out inputs and what comes back of them."""
        network = self.both(how.ema)

        def cycles() -> Iterator[Pair]:
            for batch in data.val_dataloader():
                seen = data.on_after_batch_transfer({key: value.to(self.device) for key, value in batch.items()}, 0)
                made = render(network.a_to_b, self.given(seen), None, self.device)
                back = render(network.b_to_a, made, None, self.device)
                yield Pair(batch["input"], data.stored(back).cpu())

        cycle = paired(["l1"], cycles(), cast(Translation, data).border if how.border is None else how.border)
        return super().measure(data, how) | {"cycle_l1": cycle["l1"]}

    def patches(self, images: Tensor, domain: Domain) -> Tensor:
        """Logits of all patches of images (N, C, H, W): (N · patches,)."""
        return self.discriminator(self.view(images), domain).flatten()

    def verdicts(self, images: Tensor, latents: Latents, labels: Tensor | None) -> Tensor:
        return self.patches(images, "b").unflatten(0, (len(images), -1)).mean(1)

    def discriminator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """Half of the GAN's loss (section 4), of both."""
        a = self.scored(self.patches(batch["input"], "a"), self.patches(self.pooled(fakes["input"], "a"), "a"))
        b = self.scored(self.patches(batch["image"], "b"), self.patches(self.pooled(fakes["image"], "b"), "b"))
        loss_a, loss_b = (self.scale * found["loss"] / 2 for found in (a, b))
        both = {key: (a[key] + b[key]) / 2 for key in a if key != "loss"}
        return {"loss": loss_a + loss_b, "loss_a": loss_a, "loss_b": loss_b, **both}

    def generator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """Eq. 3 for the generators, with the identity loss of section 5.2."""
        a, b, (a_to_b, b_to_a) = batch["input"], batch["image"], (self.generator.a_to_b, self.generator.b_to_a)
        found = {
            "fooling_a": self.fooling(a, fakes["input"], "a"),
            "fooling_b": self.fooling(b, fakes["image"], "b"),
            "cycle_a": (b_to_a(fakes["image"]) - a).abs().mean(),
            "cycle_b": (a_to_b(fakes["input"]) - b).abs().mean(),
        }
        loss = found["fooling_a"] + found["fooling_b"] + self.cycle_weight * (found["cycle_a"] + found["cycle_b"])
        if self.identity_weight:
            found |= {"identity_a": (b_to_a(a) - a).abs().mean(), "identity_b": (a_to_b(b) - b).abs().mean()}
            loss = loss + self.identity_weight * self.cycle_weight * (found["identity_a"] + found["identity_b"])
        return {"loss": loss, **found}

    def fooling(self, real: Tensor, fakes: Tensor, domain: Domain) -> Tensor:
        """The generator's part of the GAN's loss."""
        on_real = self.patches(real, domain) if self.pair.needs_real else None
        return self.scale * self.pair.generator(on_real, self.patches(fakes, domain))["loss"]

    def pooled(self, images: Tensor, domain: Domain) -> Tensor:
        """What the discriminator is shown for these fakes (N, C, H, W): half of them, or older ones that they replace.

        While there is room they are kept, and shown. Of more than a pool holds, the others are shown and not kept.
        """
        if not (self.training and self.pool):
            return images
        return self.exchanged(images, domain)  # pyright: ignore[reportCallIssue]

    @torch.compiler.disable  # pyright: ignore[reportUntypedFunctionDecorator]  # it keeps what it is given
    def exchanged(self, images: Tensor, domain: Domain) -> Tensor:
        pool = self.pools.get(domain, images[:0]).to(images)
        room = self.pool - len(pool)
        pool, later = torch.cat([pool, images[:room]]), images[room:]
        if len(later):
            count = min(len(later), self.pool)
            size = self.pool + count
            numbers = self.draw(f"pool {domain}", 1, lambda n, stream: torch.rand(n, size, generator=stream))[0]
            places = numbers[: self.pool].argsort()[:count]  # no two alike
            older = numbers[self.pool :, None, None, None] < 0.5
            new, old = later[:count], pool[places]
            pool[places] = torch.where(older, new, old)
            images = torch.cat([images[:room], torch.where(older, old, new), later[count:]])
        self.pools[domain] = pool
        return images

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Called on every rank; the pools of all of them are kept, (ranks, n, C, H, W)."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["pools"] = {}
        for domain, pool in self.pools.items():
            every = [pool]
            if self.trainer.world_size > 1:
                every = [torch.empty_like(pool) for _ in range(self.trainer.world_size)]
                distributed.all_gather(every, pool.contiguous())
            checkpoint["pools"][domain] = torch.stack(every)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Every rank takes its own pools; of a run on fewer devices, those of one of its ranks. Only to go on."""
        super().on_load_checkpoint(checkpoint)
        if self._trainer is None:
            return
        world, rank = self.trainer.world_size, self.trainer.global_rank
        for domain, every in checkpoint["pools"].items():
            if len(every) != world and rank == 0:
                which = "the first ones go on" if world < len(every) else "they are shared"
                say(f"image pools {domain}: of {len(every)} processes, and there are {world}: {which}")
            self.pools[domain] = every[rank % len(every)][: self.pool].clone()
