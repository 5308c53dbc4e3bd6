"""Every rule under every way to train it: the cases, a selection of them, and what comes out of one.

`python -m tests.matrix <cases.json> <folder>` is one of two ranks that go through a list of cases together.
"""

import copy
import json
import os
import random
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hydra.errors import InstantiationException
from lightning.pytorch import Callback
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gan_lightning.adversarial import images_of
from gan_lightning.budget import Budget
from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.callbacks.metrics import Metrics
from gan_lightning.checkpoint import FOLDER, LAST
from gan_lightning.commands.train import Settings, quieten
from gan_lightning.config import CONF, check, check_models, compose, instantiate
from gan_lightning.draws import stream_seed
from gan_lightning.errors import UserError
from gan_lightning.networks.equalized import EqualizedLinear
from gan_lightning.sequences import TextRule
from tests.processes import Process

ROOT = Path(__file__).parents[1]
BATCH = 8
SMALL = {
    "hidden": [16],
    "base_channels": 2,
    "max_channels": 4,
    "style_size": 8,
    "group_width": 2,
    "growth_channels": 2,
    "batch_norm": "none",
    "phase_shuffle": 0,  # each process draws its own
    "deviation_group": 0,  # of each process its own
}  # where a network has such a key


TEXT_SIZES = {
    "embedding": 4,
    "hidden": 8,
    "head_size": 4,
    "code": 4,
    "filters": 2,
    "guess": 4,
    "representations": 2,
    "dropout": 0.0,
}  # the same of texts


class Case(NamedTuple):
    """A rule and how it is trained."""

    rule: str
    precision: str
    accumulate: int
    ema: bool
    augment: str
    resume: bool
    processes: int

    def __str__(self) -> str:
        return "-".join(f"{name}={value}" for name, value in self._asdict().items())


FACTORS: dict[str, Sequence[Any]] = {
    "rule": sorted(f.stem for f in (CONF / "model").glob("[!_]*.yaml")),
    "precision": ("32-true", "bf16-mixed", "16-mixed"),
    "accumulate": (1, 2),
    "ema": (True, False),
    "augment": ("none", "DiffAugment", "ADA"),
    "resume": (False, True),
    "processes": (1, 2),
}
REFUSED = {  # what a rule says no to, and how the message begins
    ("dpgan", "precision", "16-mixed"): "trainer.precision=16-mixed: ",
    ("dpgan", "accumulate", 2): "model: step.accumulate=2: ",
    ("dpgan", "processes", 2): "trainer.devices=2: ",
    ("cyclegan", "augment", "DiffAugment"): "model.augment=[color]: ",
    ("cyclegan", "augment", "ADA"): "model: ada.pipeline=",
    ("pix2pix", "augment", "DiffAugment"): "model.augment=[color]: ",
    ("pix2pix", "augment", "ADA"): "model: ada.pipeline=",
    ("deepfill", "augment", "DiffAugment"): "model.augment=[color]: ",
    ("deepfill", "augment", "ADA"): "model: ada.pipeline=",
    ("deepfill_v1", "augment", "DiffAugment"): "model.augment=[color]: ",
    ("deepfill_v1", "augment", "ADA"): "model: ada.pipeline=",
}
SUPER_RESOLUTION = ("srresnet", "srgan", "esrgan")
TEXTS = ("mle", "seqgan", "relgan", "textgan")
for _rule in SUPER_RESOLUTION:
    REFUSED[_rule, "augment", "DiffAugment"] = "model.augment=[color]: "
    REFUSED[_rule, "augment", "ADA"] = "model: ada.pipeline="
for _rule in TEXTS:
    REFUSED[_rule, "augment", "DiffAugment"] = "model: augment: "
    REFUSED[_rule, "augment", "ADA"] = "model: ada.pipeline: "
REFUSED["wavegan", "augment", "DiffAugment"] = "model.augment=[color,translation,cutout]: "
REFUSED["wavegan", "augment", "ADA"] = "model.ada.pipeline=bgc: "
# steps of the generator alone
ALONE = {"srresnet": 2, "srgan": 1, "esrgan": 1, "mle": 2, "seqgan": 1, "relgan": 1, "textgan": 1}


def refusals(case: Case) -> list[tuple[str, str, Any]]:
    """The keys of REFUSED that apply."""
    return [key for key in REFUSED if key[0] == case.rule and getattr(case, key[1]) == key[2]]


# ---- which cases ----------------------------------------------------------------------------------------------------


def whole(**fixed: Any) -> list[Case]:
    """Every case with these values."""
    values = {name: (fixed[name],) if name in fixed else found for name, found in FACTORS.items()}
    return [Case(*chosen) for chosen in product(*values.values())]


def pairs(case: Case) -> set[Any]:
    """The pairs of two factors' values that a case tries; one that is refused tries nothing but its refusal."""
    refused = refusals(case)
    if refused:
        return {(("rule", rule), (factor, value)) for rule, factor, value in refused} if len(refused) == 1 else set()
    return set(combinations(case._asdict().items(), 2))


def wanted() -> set[Any]:
    """Every pair of values of two factors."""
    return {
        ((one, first), (two, second))
        for one, two in combinations(FACTORS, 2)
        for first, second in product(FACTORS[one], FACTORS[two])
    }


@cache
def pairwise() -> list[Case]:
    """A selection that tries every pair: rule by rule, always the case that tries most of what is missing."""
    missing, chosen = wanted(), []
    slow = ("resume", True), ("processes", 2)

    def gain(case: Case, tried: set[Any]) -> float:
        """Two processes take longer, above all those that are interrupted: one of these is enough."""
        return len(tried & missing) - 0.5 * (case.processes > 1) - 2 * (slow in tried and slow not in missing)

    for rule in FACTORS["rule"]:
        mine = whole(rule=rule)
        random.Random(rule).shuffle(mine)  # so that rules differ in what goes together
        while any(("rule", rule) == first for first, _ in missing):
            chosen.append(max(mine, key=lambda case: gain(case, pairs(case))))
            missing -= pairs(chosen[-1])
    return chosen


# ---- one case -------------------------------------------------------------------------------------------------------


@cache
def plain(rule: str) -> dict[str, Any]:
    """A rule's configuration as it stands in conf/."""
    small = ["data.image_size=32"] if rule in SUPER_RESOLUTION else []
    return check(compose("train", [f"model={rule}", *small], Settings), Settings)


def settings_of(case: Case, settings: dict[str, Any], batch: int) -> dict[str, Any]:
    """The configuration of a case, with small networks, from its rule's."""
    settings = copy.deepcopy(settings)
    model, step = settings["model"], settings["step"]
    for network in (model["generator"], model["discriminator"]):
        for part in (network, network.get("network", {})):  # of which a pair is made
            part.update({key: value for key, value in SMALL.items() if key in part})
        if case.rule in SUPER_RESOLUTION:
            network.update({key: value for key, value in (("blocks", 1), ("hidden", 16)) if key in network})
    step.update(accumulate=case.accumulate, critic_steps=min(2, step["critic_steps"]))
    model["step"] = step
    model["augment"] = ["color", "translation", "cutout"] if case.augment == "DiffAugment" else []
    if case.augment == "ADA":  # with a fixed probability: not every rule has one to follow
        model["ada"] = {**model["ada"], "pipeline": "bgc", "target": None, "p": 0.5}
    if case.rule in TEXTS:  # which end: the tokens that count differ from one process to the other
        for network in (model["generator"], model["discriminator"]):
            network.update({key: value for key, value in TEXT_SIZES.items() if key in network})
            if "filter_sizes" in network:
                network.update(filter_sizes=[1, 2], filters=[2, 2])
        model["ema"] = model["ema"] or {"_target_": "gan_lightning.ema.EMA", "_partial_": True}
    model["ema"] = {**model["ema"], "half_life": 100, "ramp_up": None} if case.ema else None
    if case.rule in ("mle", "seqgan"):
        model.update(discriminator_images=0, rollouts=2)
    if model.get("pretraining_images"):
        model["pretraining_images"] = 1  # ends with the first step
    if case.rule == "wavegan":
        settings["data"].update(samples=256, count=256)
        for network in (model["generator"], model["discriminator"]):
            network.update(samples=256, kernel=9)
    if case.rule == "began":
        model["balance"] = 1.0  # or k, which a resume must keep, stays at 0
    if case.rule == "cyclegan":
        model["pool"] = 8 * batch  # which nothing leaves: each of two processes has its own
    if case.rule == "deepfill":
        model["generator"]["base_channels"] = 4  # which must divide it
    if case.rule == "r3gan":
        model["half_life"] = None  # which begins at 0, where the average is the weights
    for player in ("generator", "discriminator"):
        # Adam divides by the gradient's size: without a floor it would blow rounding errors up to whole steps
        model[f"{player}_optimizer"]["eps"] = 1e-4
    settings["data"]["batch_size"] = batch
    settings["trainer"].update(accelerator="cpu", log_every_n_steps=1, devices=case.processes)
    return settings


class Probe(Callback):
    """Sees which images there are and which the discriminator is shown, losses, and what layers compute in."""

    def __init__(self, module: Any, dims: int) -> None:
        """dims: of a sample."""
        self.dims = dims
        self.real: set[bytes] = set()
        self.fakes: set[bytes] = set()
        self.shown: set[bytes] = set()
        self.losses: list[float] = []
        self.computed_in = ""
        kinds = nn.Linear, nn.modules.conv._ConvNd, EqualizedLinear
        layer = next(m for m in module.generator.modules() if isinstance(m, kinds))
        layer.register_forward_hook(self.computed)
        self.generate, module.generate = module.generate, self.generated
        self.judged: list[Tensor] = []
        self.of_texts = isinstance(module, TextRule)
        module.discriminator.register_forward_pre_hook(self.judges)

    def computed(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        self.computed_in = str(output.dtype)

    def generated(self, batch: Any, latents: Any) -> Tensor:
        images = self.generate(batch, latents)
        self.fakes.update(each(images_of(images), self.dims))
        return images

    def judges(self, discriminator: nn.Module, inputs: Any) -> None:
        images = torch.func.debug_unwrap(inputs[0], recurse=True)  # what vmap has made has no numbers yet
        self.judged.append(images.argmax(-1) if self.of_texts and images.ndim == 3 else images)  # of relaxed tokens

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        for images in batch["image"]:
            self.real.update(each(pl_module.shown(images), self.dims))

    def on_minibatch_end(self, trainer: Any, module: Any) -> None:
        self.losses += [float(module.metrics[key]) for key in ("D/loss", "G/loss") if key in module.metrics]
        if self.dims == 3:  # an image may be judged beside the one that it was made of
            channels = module.trainer.datamodule.channels
            self.judged = [images[:, -channels:] for images in self.judged]
        self.shown.update(*(each(images, self.dims) for images in self.judged))
        self.judged.clear()


def each(samples: Tensor, dims: int) -> list[bytes]:
    """Samples (..., *shape), each of so many dimensions, one by one."""
    return [sample.numpy().tobytes() for sample in samples.detach().float().flatten(0, -dims - 1)]


def outcome(case: Case, folder: Path, batch: int = BATCH, rule: dict[str, Any] | None = None) -> dict[str, Any]:
    """Runs a case: `refused` by which message, or what the run has come to; on two devices, what this rank has.

    `rule`: its configuration, if that is known. Checkpoints lie in `whole` and, of an interrupted run, in `parts`.
    """
    quieten()
    settings = settings_of(case, rule or plain(case.rule), batch)
    try:
        fit = partial(train, case, settings)
        minibatches = 2 * case.accumulate * settings["step"]["critic_steps"]
        found = fit(folder / "whole", minibatches)
        if case.resume:
            fit(folder / "parts", case.accumulate)
            fit(folder / "parts", minibatches, folder / "parts" / FOLDER / LAST)
    except InstantiationException:
        with pytest.raises(UserError) as refused:  # as the command line says it
            check_models(settings)
        return {"refused": str(refused.value)}
    except UserError as error:
        return {"refused": str(error)}
    return {**found, "minibatches": minibatches}


def train(
    case: Case, settings: dict[str, Any], folder: Path, minibatches: int, checkpoint: Path | None = None
) -> dict[str, Any]:
    """As commands.train.fit: up to so many minibatches, on from `checkpoint` if given."""
    torch.manual_seed(stream_seed(settings["seed"], "initialization"))
    data, module = instantiate(settings["data"]), instantiate(settings["model"])
    module.config = settings
    data.setup()
    before = {key: weight.detach().clone() for key, weight in module.named_parameters()}
    probe = Probe(module, len(data.shape))
    half = case.precision == "16-mixed"
    images = minibatches * data.batch_size * case.processes
    trainer = instantiate({**settings["trainer"], "precision": "32-true" if half else case.precision}).build(
        folder, [Budget(images=images), Metrics(), probe, Checkpoints()], [], []
    )
    if half:  # which TrainerSettings refuses on a CPU; a scale of 65536 would have the first steps left out
        scaler = torch.amp.GradScaler("cpu", init_scale=256)  # pyright: ignore[reportPrivateImportUsage]
        trainer.strategy.precision_plugin = MixedPrecision("16-mixed", "cpu", scaler)
    data.check_model(module)
    module.check_run(trainer, data)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return {
        "before": before,
        "after": module.state_dict(),
        "optimizers": [player.optimizer.state_dict()["state"] for player in module.players.values()],
        "losses": probe.losses,
        "computed_in": probe.computed_in,
        "real_shown": len(probe.real & probe.shown),
        "fakes_shown": len(probe.fakes & probe.shown),
        "shown": len(probe.shown),
        "batch_norm": any(isinstance(m, _BatchNorm) for m in module.modules()),
    }


# ---- two processes --------------------------------------------------------------------------------------------------


def together(cases: Iterable[Case], folder: Path, seconds: float) -> Callable[[int, int], dict[str, Any]]:
    """Runs the cases one after another in two processes: (number of the case, rank) -> its outcome."""
    folder.mkdir(exist_ok=True)
    listed = folder / "cases.json"
    listed.write_text(json.dumps([(case, plain(case.rule)) for case in cases]))  # composed once for both
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "WORLD_SIZE": "2"}
    command = ["-m", "tests.matrix", str(listed), str(folder)]
    ranks = [
        Process(command, ROOT, {**os.environ, **shared, "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"})
        for rank in range(2)
    ]
    try:
        codes = [rank.wait(seconds) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert codes == [0, 0], ranks[0].errors[-3000:]
    return lambda number, rank: torch.load(folder / str(number) / f"rank{rank}.pt", weights_only=True)


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[2])
    for number, (values, rule) in enumerate(json.loads(Path(sys.argv[1]).read_text())):
        place = folder / str(number)
        place.mkdir(exist_ok=True)
        torch.save(outcome(Case(*values), place, rule=rule), place / f"rank{os.environ['LOCAL_RANK']}.pt")


if __name__ == "__main__":
    main()
