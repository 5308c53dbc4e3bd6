"""The base of every GAN: *when* each player moves. What they minimise is said by the rules in `models/`.

A rule writes `discriminator_loss(batch, fakes)` and `generator_loss(batch, fakes)` for one minibatch, and may change
`draw_latents`, `generate`, `judge`, `moved` or `phases`. Losses return a dict whose "loss" is minimised and whose every
entry is logged; they never step, log or touch the trainer.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from gan_lightning import agreement, sampling
from gan_lightning.ada import ADA
from gan_lightning.augment import Augment, Policy
from gan_lightning.data.base import Data, say
from gan_lightning.draws import generator as stream_of
from gan_lightning.draws import seed_everything, stream_seed
from gan_lightning.ema import EMA
from gan_lightning.errors import UserError
from gan_lightning.graphs import CUDARecorder, Eager, Graphs
from gan_lightning.imitation import Alone, Imitation
from gan_lightning.initialization import Scheme, initialize
from gan_lightning.losses import Losses
from gan_lightning.metrics.own import AS_USUAL, Measuring
from gan_lightning.players import OptimizerFactory, Player, Schedule, average_buffers
from gan_lightning.recompute import recompute_blocks
from gan_lightning.schedules import Constant
from gan_lightning.speed import to_device, wants_channels_last, why_no_graphs
from gan_lightning.steps import Counters, Phase, PlayerName, Step, Turn, next_turn
from gan_lightning.types import NonNegativeFloat, NonNegativeInt, PositiveInt

Batch = dict[str, Tensor]  # "image": samples, images (N, C, H, W) in [-1, 1] or of another kind of data (data/base.py),
# "label" (N,); of fakes "fake_label" (N,), "latents"
Latents = Any  # a tensor (N, ...) or a dict of them
Fakes = Any  # a tensor (N, C, H, W) or a dict of them, of which "image" is what the rule is there to make
Distribution = Literal["normal", "uniform", "unit"]  # of latents: N(0, 1), U(-1, 1), U(0, 1)


def images_of(fakes: Fakes) -> Tensor:
    """The images (N, C, H, W) that fakes are, or have among others."""
    return fakes["image"] if isinstance(fakes, dict) else fakes


@runtime_checkable
class MinibatchWatcher(Protocol):
    """A callback that is told of every minibatch, wherever Lightning's batches begin and end."""

    def on_minibatch_end(self, trainer: Any, module: Any) -> None: ...


class AdversarialModule(LightningModule):
    """Two players and their turns.

    Args:
        generator: (z (N, latent_size), y (N,) or None) -> images (N, C, H, W) in [-1, 1], with `latent_size`.
        discriminator: (images (N, C, H, W), y (N,) or None) -> logits (N,).
        generator_optimizer, discriminator_optimizer: parameters -> optimizer.
        step: when each player moves.
        seed: of latents, labels and everything else drawn in training.
        generator_schedule, discriminator_schedule: generator steps -> factor of the learning rate.
        initialization: how both networks' weights begin; "default" leaves them as they were built.
        ema: generator -> its moving average, which samples and scores are made with; None: no average.
        classes: number of classes that both networks know by their attributes `classes` or (the discriminator)
            `auxiliary`; 0: unconditional.
        augment: parts of DiffAugment that images of both players go through before they are judged (augment.py).
        ada: a pipeline of ADA that they go through, and what moves its probability (ada.py).
        instance_noise, instance_noise_images: Gaussian noise on them, and over how many images it falls to 0.
        latents: drawn from N(0, 1), U(-1, 1) ("uniform") or U(0, 1) ("unit").
        imitation: of a teacher, which the generator is to be like as well (imitation.py).
    """

    penalised = False  # the rule has a penalty that it leaves out while `penalty_due` is False
    regularised = False  # the generator has one, which it leaves out while `generator_penalty_due` is False
    reads_auxiliary = False  # and a use for the discriminator's auxiliary outputs
    own_metrics: tuple[str, ...] = ()  # of held-out images, which the rule can make itself: `measure`
    same_labels = False  # fakes are of the classes of the real images that they are compared with, one by one
    used_by = "sample checkpoint={} count=64"  # the command that a finished run is for
    fresh_statistics = True  # samples are made with BatchNorm statistics of samples, else with those of training
    signed = False  # logits above 0 say "real", and the discriminator's losses have their mean "sign" on real images
    data_sampling = "shuffled"  # how the rule's minibatches are drawn (data/base.py)
    no_graphs: str | None = None  # what keeps the rule's minibatches from being CUDA graphs
    slow_losses: tuple[PlayerName, ...] = ()  # of players, which `evaluate` leaves out: of all held-out data

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        generator_optimizer: OptimizerFactory,
        discriminator_optimizer: OptimizerFactory,
        step: Step,
        seed: NonNegativeInt = 0,
        generator_schedule: Schedule | None = None,
        discriminator_schedule: Schedule | None = None,
        initialization: Scheme = "default",
        ema: Callable[..., EMA] | None = None,
        classes: NonNegativeInt = 0,
        augment: Sequence[Policy] = (),
        ada: ADA | None = None,
        instance_noise: NonNegativeFloat = 0.0,
        instance_noise_images: PositiveInt | None = None,
        latents: Distribution = "normal",
        imitation: Imitation | None = None,
    ) -> None:
        super().__init__()
        agreement.check_parts(type(self), generator, discriminator, step, classes)
        if step.recompute and step.compile:
            raise ValueError("step.recompute=true: torch.compile chooses by itself what to recompute; use one of them")
        if step.recompute and not recompute_blocks(generator) + recompute_blocks(discriminator):
            raise ValueError(f"step.recompute=true: {type(generator).__name__} has no blocks to recompute")
        self.automatic_optimization = False
        initialize(generator, initialization)
        initialize(discriminator, initialization)
        self.generator = generator
        self.discriminator = discriminator
        self.ema = ema(generator) if ema else None
        self.augment = Augment(augment, instance_noise, instance_noise_images, ada)
        self.imitation = imitation or Alone()
        self.step = step
        self.latents: Distribution = latents
        self.seed = seed
        self.classes = classes
        self.optimizer_factories = {"discriminator": discriminator_optimizer, "generator": generator_optimizer}
        self.schedules = {"discriminator": discriminator_schedule, "generator": generator_schedule}
        self.phases = [Phase()]
        self.counters = Counters()
        self.config: dict[str, Any] | None = None  # the plain configuration that a command built this from
        self.class_names: list[str] = []  # of the images it was trained on
        self.data_facts: dict[str, Any] = {}  # what is to be known of them to show samples (Data.facts)
        self.metrics: dict[str, Tensor | float] = {}  # what the last log line shows
        self.won: float | None = None  # the discriminator's loss below which it leaves nothing to learn, if known
        self.recent: list[Tensor] = []  # the losses' sums of the minibatches since the last log line
        self.log_due = False  # this minibatch ends with a log line: worth computing statistics for
        self.penalty_due = self.generator_penalty_due = True  # and its losses have their penalties
        self.scaler: Any = None  # of the loss, under 16-mixed
        self.turns = Eager()  # how minibatches are played
        self.compiled: dict[str, Callable[[Batch, Fakes], Losses]] = {}  # methods by name
        self._waiting: list[Batch] = []  # minibatches of an accumulated step, for the generator
        self._views = 0  # how often images were looked at in this minibatch

    # ---- what a rule may change -------------------------------------------------------------------------------------

    def draw_latents(self, count: int, stream: torch.Generator, truncation: float | None = None) -> Latents:
        """z as `latents` says, (count, latent_size) on the CPU; `truncation` draws again what lies further from 0.

        U(0, 1) is (U(-1, 1) + 1) / 2, and truncated as that is.
        """
        z = torch.empty(count, cast(int, self.generator.latent_size))
        if self.latents != "normal":
            furthest = 1.0 if truncation is None else min(truncation, 1.0)
            z.uniform_(-furthest, furthest, generator=stream)
            return z if self.latents == "uniform" else (z + 1) / 2
        if truncation is None:
            return z.normal_(generator=stream)
        return nn.init.trunc_normal_(z, a=-truncation, b=truncation, generator=stream)

    def evaluation_block(self, seed: int, block: int, truncation: float | None = None) -> Latents:
        """Latents of the samples of this block of sampling.BLOCK: a function of its arguments alone."""
        return self.draw_latents(sampling.BLOCK, stream_of(seed, "evaluation", block), truncation)

    def truncated(self, network: nn.Module, truncation: float) -> nn.Module:
        """The generator to sample with under `truncation`, where it is not a matter of latents alone."""
        return network

    def sampled_from(self, network: nn.Module) -> nn.Module:
        """The generator, which is in eval mode, as samples are drawn from it."""
        return network

    def draw_labels(self, count: int, stream: torch.Generator) -> Tensor:
        """Labels of fakes, (count,), uniform over the classes."""
        return torch.randint(self.classes, (count,), generator=stream)

    def generate(self, batch: Batch, latents: Latents) -> Fakes:
        """Fakes for one minibatch, with the graph that leads to the generator."""
        return self.generator(latents, batch.get("fake_label"))

    def shown(self, images: Tensor) -> Tensor:
        """Real images as the rule trains on them: (N, C, H, W) -> (N, C, h, w)."""
        return images

    def view(self, images: Tensor) -> Tensor:
        """What the discriminator is shown of images in training: (N, C, H, W) -> (N, C, H, W), augmented anew."""
        if not self.training:
            return images
        self._views += 1
        return self.augment(
            images,
            lambda count, numbers: self.draw(
                f"view {self._views}", count, lambda n, stream: torch.rand(n, numbers, generator=stream)
            ),
        )

    def judge(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """How the discriminator sees images: (N, C, H, W), (N,) or None -> logits (N,)."""
        return self.discriminator(self.view(images), labels if self.classes else None)

    def verdicts(self, images: Tensor, latents: Latents, labels: Tensor | None) -> Tensor:
        """What it says of fakes (N, C, H, W): one number for each of them, or for each pack."""
        return self.judge(images, labels)

    def discriminator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """What the discriminator minimises; `fakes` are detached."""
        raise NotImplementedError

    def generator_loss(self, batch: Batch, fakes: Fakes) -> Losses:
        """What the generator minimises; the discriminator's weights are frozen."""
        raise NotImplementedError

    def show(self, data: Data) -> None:
        """The data that samples are made of, for rules that need more than latents."""

    def measured(self, data: Data) -> tuple[str, ...]:
        """Those of `own_metrics` that these held-out images allow."""
        return self.own_metrics if len(data.held_out) else ()

    def measure(self, data: Data, how: Measuring = AS_USUAL) -> dict[str, Any]:
        """What `measured` names (metrics/scores.py: Value), and what else is asked for."""
        return {}

    def columns(self, images: Tensor, ema: bool = True) -> list[Tensor]:
        """What is shown of samples (N, C, H, W), side by side; `ema`: they are of the moving average."""
        return [images]

    def code_slices(self) -> dict[str, tuple[int, int]]:
        """Names of the codes among the latents (N, size), and where each begins and ends: what `traverse=true` shows.

        A width above 1 is a one-hot category, a width of 1 a continuous code in [-1, 1].
        """
        return {}

    def count(self, batch: Batch) -> int:
        """How many fakes a minibatch is given, and as how many training images it counts."""
        return len(batch["image"])

    def progressed(self, images: int) -> None:
        """Before each minibatch: what changes with the training images shown."""
        self.augment.set_progress(images)

    def moved(self, player: PlayerName) -> None:
        """After each step of a player: what a rule changes without a gradient."""

    def check_data(self, data: Data) -> None:
        """Raises UserError for a kind of data that the rule cannot be trained on; `data` is not loaded yet."""
        if data.noun == "texts":
            raise UserError(f"data: {type(data).__name__} has texts: use a model of them, such as mle or seqgan")

    def check_run(self, trainer: Any, data: Any) -> None:
        """Raises UserError for a run that the rule cannot bear: before anything is written, and in `setup`."""
        agreement.check_run(self, trainer, data)
        self.imitation.begin(self, data.shape)

    @property
    def pack(self) -> int:
        """How many images the discriminator judges together."""
        return getattr(self.discriminator, "pack", 1)

    # ---- turns ------------------------------------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        return self.phases[self.counters.phase]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Walks through the K minibatches of a Lightning batch: tensors (K, N, ...)."""
        for index in range(len(batch["image"])):
            parts = {key: value[index].chunk(self.phase.split) for key, value in batch.items()}
            count = len(parts["image"])
            for number in range(count):
                self.minibatch_step({key: of[number] for key, of in parts.items()}, number == count - 1)
            if self.counters.minibatches % self.step.accumulate == 0:  # a checkpoint never holds half a step
                for watcher in self.watchers:
                    watcher.on_minibatch_end(self.trainer, self)
            if self.trainer.should_stop:
                return

    def minibatch_step(self, batch: Batch, whole: bool) -> None:
        """One minibatch: the discriminator's micro-step and, when it is its turn, the generator's step.

        whole: nothing is left of what the data gave.
        """
        turn = next_turn(self.step, self.phase, self.counters, self.log_every)
        self.log_due, self.penalty_due, self.generator_penalty_due = turn.log, turn.penalty, turn.generator_penalty
        self.progressed(self.counters.images)
        for name, player in self.players.items():  # also of who rests: a checkpoint holds the rate of its moment
            rate = player.set_learning_rate(self.counters.generator_steps, self.phase.rate)
            if name in turn.movers:
                self.keep(name, {"learning_rate": rate})
        # what networks draw by themselves (dropout, noise) depends on the position alone, so that a resume is exact
        seed_everything(stream_seed(self.seed, "networks", self.counters.minibatches, self.global_rank))
        self.turns.play(self, batch, turn)
        self.advance(turn, self.count(batch) * self.trainer.world_size, whole)

    def play(self, batch: Batch, turn: Turn) -> None:
        """The work of a minibatch on the device, a function of its arguments, `draw` and the networks alone."""
        count, phase, larger = self.count(batch), turn.phase, self.step.generator_batch
        batch, _ = self.prepare({**batch, "image": self.shown(batch["image"])}, count, "")
        share = turn.discriminator and turn.generator and self.step.accumulate == larger == 1
        if turn.generator and not share:
            self._waiting.append(self.prepare(batch, count * larger, "generator ")[0] if larger > 1 else batch)
        self._views = 0

        fakes = None
        if turn.discriminator:
            with torch.set_grad_enabled(share):
                fakes = self.imitation.study(self, batch) if phase.fakes else None
            detached = tree_map(Tensor.detach, fakes)
            losses = self.loss(phase.discriminator_loss)(batch, detached)
            self.descend("discriminator", losses)
            if self.augment.ada and "sign" in losses:
                self.augment.ada.observe(losses["sign"], count)
            if turn.last:
                self.move("discriminator")
        if turn.generator and turn.last:
            with self.players["discriminator"].frozen():
                if share:
                    self.descend("generator", self.taught(phase, batch, fakes))
                for waiting in self._waiting:
                    again = self.imitation.study(self, waiting) if phase.fakes else None
                    self.descend("generator", self.taught(phase, waiting, again))
            self._waiting.clear()
            self.move("generator")

    def prepare(self, batch: Batch, count: int, purpose: str) -> tuple[Batch, Latents]:
        """The minibatch with what `count` fakes are made from, and their latents."""
        if self.classes and self.same_labels and count == len(batch["image"]):
            batch = {**batch, "fake_label": batch["label"]}
        elif self.classes:
            batch = {**batch, "fake_label": self.draw(f"{purpose}labels", count, self.draw_labels)}
        latents = self.draw(f"{purpose}latents", count, self.draw_latents)
        return {**batch, "latents": latents}, latents

    def taught(self, phase: Phase, batch: Batch, fakes: Fakes) -> Losses:
        """The generator's losses of a phase, and what it misses of a teacher."""
        return self.imitation.added(self, batch, fakes, self.loss(phase.generator_loss)(batch, fakes))

    def loss(self, name: str) -> Callable[[Batch, Fakes], Losses]:
        """The rule's method of this name, compiled where `step.compile` asks for it."""
        return self.compiled.get(name) or getattr(self, name)

    def draw(self, purpose: str, count: int, draw: Callable[[int, torch.Generator], Any]) -> Any:
        """This minibatch's part of what is drawn for the whole step over all ranks: a function of (seed, step)."""
        # torch.compiler.disable has no types, so that pyright sees a function without arguments
        return self.turns.drawn(purpose, lambda: self.draw_now(purpose, count, draw))  # pyright: ignore[reportCallIssue]

    @torch.compiler.disable  # pyright: ignore[reportUntypedFunctionDecorator]  # it draws on the host
    def draw_now(self, purpose: str, count: int, draw: Callable[[int, torch.Generator], Any]) -> Any:
        turn, part = divmod(self.counters.minibatches, self.step.accumulate)
        world, rank = (self._trainer.world_size, self._trainer.global_rank) if self._trainer else (1, 0)
        everything = draw(self.step.accumulate * world * count, stream_of(self.seed, purpose, turn))
        start = (part * world + rank) * count
        return tree_map(lambda t: to_device(t[start : start + count], self.device), everything)

    def descend(self, player: PlayerName, losses: Losses) -> None:
        """Adds the gradients of one minibatch, and keeps its losses for the log."""
        loss = losses["loss"] if self.step.accumulate == 1 else losses["loss"] / self.step.accumulate
        (self.scaler.scale(loss) if self.scaler else loss).backward()  # manual_backward adds hooks: 0.1 ms
        self.keep(player, losses)

    def keep(self, player: PlayerName, values: dict[str, Any]) -> None:
        """Remembers values for the next log line as "D/..." or "G/..."."""
        for key, value in values.items():
            self.metrics[f"{player[0].upper()}/{key}"] = value.detach() if isinstance(value, Tensor) else value

    def move(self, name: PlayerName) -> None:
        """One optimizer step of one player, on true gradients: the loss scale is taken off first."""
        player = self.players[name]
        player.average_gradients(self.trainer.world_size)
        if self.scaler:
            self.scaler.unscale_(player.optimizer)
        player.clip_gradients(measure=self.log_due)
        if self.scaler:
            self.scaler.step(player.optimizer)
            self.scaler.update()
        else:
            player.optimizer.step()
        player.forget_gradients()
        if name == "discriminator" and self.augment.ada:
            self.augment.ada.follow(self.counters.discriminator_steps + 1, self.trainer.strategy.reduce)
            if self.log_due:
                self.keep(name, {"ada_p": self.augment.ada.p.clone()})
        self.moved(name)
        if self.log_due:
            self.keep(name, {"gradient_norm": player.gradient_norm})

    def forget_minibatch(self) -> None:
        """Leaves nothing of a minibatch that was broken off, or only looked at."""
        for player in self.players.values():
            player.forget_gradients()
        self._waiting.clear()

    def advance(self, turn: Turn, images: int, whole: bool) -> None:
        """Follows the average, counts a minibatch of `images` over all ranks, and ends phases."""
        counters = self.counters
        losses = [self.metrics[key] for key in ("D/loss", "G/loss") if key in self.metrics]
        if losses:  # none before the first step of a generator alone
            self.recent.append(torch.stack(cast(list[Tensor], losses)).sum())
        if "generator" in turn.movers and self.ema is not None:
            since = self.step.accumulate * (counters.critic_steps + 1 if turn.discriminator else 1)
            self.ema.update(self.generator, images * since, counters.images + images)
        counters.count(turn, images, self.epoch_length, whole)
        budget, ended = self.phase.images, whole and turn.last
        if budget is not None and ended and counters.phase_images >= budget and self.phase is not self.phases[-1]:
            counters.phase += 1
            counters.phase_images = 0
            self.turns.forget()
            if self.phase.reset_optimizers:
                for player in self.players.values():
                    player.optimizer.state.clear()

    def sample(
        self, count: int, *, seed: int = 0, label: int | None = None, truncation: float | None = None, ema: bool = True
    ) -> Tensor:
        """Images (count, C, H, W) in [-1, 1]; image i depends on (seed, i) alone. See sampling.py.
        label: one class for all, for class-conditional models; truncation: latents further from 0 are drawn again;
        ema: from the moving average of the weights, where there is one.
        """
        return sampling.sample(self, count, seed=seed, label=label, truncation=truncation, ema=ema)

    # ---- Lightning --------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Chooses what makes the run fast, before there are optimizers."""
        self.check_run(self.trainer, cast(Any, self.trainer).datamodule)
        self.to(memory_format=torch.channels_last if wants_channels_last(self.step, self) else torch.contiguous_format)
        precision = self.trainer.precision_plugin
        self.scaler = precision.scaler if isinstance(precision, MixedPrecision) else None
        self.turns = (
            Eager() if why_no_graphs(self, self.trainer) else Graphs(CUDARecorder(), say, self.step.graphs == "on")
        )
        if self.step.compile:
            names = {name for phase in self.phases for name in (phase.discriminator_loss, phase.generator_loss)}
            self.compiled = {name: torch.compile(getattr(self, name)) for name in names}

    def configure_optimizers(self) -> list[Optimizer]:
        step = self.step
        taught = nn.ModuleList([self.generator, self.imitation.on(self)])
        networks = {"discriminator": self.discriminator, "generator": taught}
        clips = {"discriminator": step.discriminator_clip, "generator": step.generator_clip}
        self.players: dict[PlayerName, Player] = {
            name: Player(
                networks[name],
                self.optimizer_factories[name],
                self.schedules[name] or Constant(),
                clips[name],
                capturable=isinstance(self.turns, Graphs),
            )
            for name in ("discriminator", "generator")
        }
        return [player.optimizer for player in self.players.values()]

    def on_fit_start(self) -> None:
        trainer = self.trainer
        data = cast(Any, trainer).datamodule
        self.class_names, self.data_facts = data.class_names, data.facts()
        self.epoch_length: int = data.epoch_length(trainer.world_size, self.step.accumulate)
        self.log_every: int = cast(Any, trainer).log_every_n_steps
        self.watchers = [c for c in cast(Any, trainer).callbacks if isinstance(c, MinibatchWatcher)]
        self.find_place(data.minibatch_size(trainer.world_size, self.step.accumulate) * trainer.world_size)
        progress = cast(Any, trainer).fit_loop.epoch_progress.current  # Lightning counts epochs on from ours
        progress.ready = progress.started = progress.processed = progress.completed = self.counters.epoch

    def find_place(self, images: int) -> None:
        """The place in the epoch in minibatches of `images`, on a whole step: a continued run may have new sizes."""
        counters, accumulate = self.counters, self.step.accumulate
        counters.minibatches += -counters.minibatches % accumulate
        whole = accumulate // math.gcd(accumulate, self.phase.split)  # of the data's minibatches in a step
        counters.epoch_minibatches = counters.epoch_images // images // whole * whole
        counters.epoch_images = counters.epoch_minibatches * images
        if counters.epoch_minibatches >= self.epoch_length:
            counters.epoch += 1
            counters.epoch_minibatches = counters.epoch_images = 0

    def on_train_start(self) -> None:
        self.metrics = tree_map(lambda v: v.to(self.device) if isinstance(v, Tensor) else v, self.metrics)
        for player in self.players.values():
            player.apply_settings()

    def average_buffers(self) -> None:
        """BatchNorm statistics become the mean over the ranks; before sampling and saving, on every rank."""
        average_buffers(self, self.trainer.world_size)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["counters"] = asdict(self.counters)
        checkpoint |= {"config": self.config, "class_names": self.class_names, "data": self.data_facts}
        checkpoint["metrics"] = self.metrics  # not all of them come with every minibatch
        checkpoint |= self.imitation.state()
        checkpoint.pop("loops", None)  # Lightning's own counters: ours say where to go on

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.counters = Counters(**checkpoint["counters"])
        self.class_names, self.data_facts = checkpoint.get("class_names", []), checkpoint.get("data", {})
        self.metrics = checkpoint.get("metrics", {})
        self.imitation.recall(checkpoint)
