"""From a generator and its data to records: images, features, scores; the same on any number of processes."""

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, nn

from gan_lightning import sampling
from gan_lightning.adversarial import AdversarialModule
from gan_lightning.data.base import Data, say
from gan_lightning.data.sets import ImageSet
from gan_lightning.ema import batch_norms
from gan_lightning.errors import UserError
from gan_lightning.metrics.extractors import Extractor, hash_of, load_extractor
from gan_lightning.metrics.own import Measuring
from gan_lightning.metrics.paired import Pair, PairedName, paired
from gan_lightning.metrics.path_length import distance_of, path_length
from gan_lightning.metrics.records import Record
from gan_lightning.metrics.scores import SCORES, Features, Name, Value, compute
from gan_lightning.paths import cache_folder, expand
from gan_lightning.types import NonNegativeInt, PositiveFloat, PositiveInt

Said = Callable[[int], None]  # told how many more images are done
GLANCED = 256  # samples that the alarms look at between scores
MEMORISATION: Name = "memorisation"
AUTOMATIC: tuple[Name, ...] = ("fid", "kid", "precision_recall", "modes", "diversity")  # KID where FID cannot be


@dataclass(frozen=True)
class ScoreSettings:
    """How scores are made.

    Args:
        names: the scores; None: those that the data says, for images FID (KID where there are too few images),
            precision and recall, modes, diversity.
        samples: fakes; None: as many as the data says, for images as many as real ones.
        real_samples: most real images, the first of their split; None: what the data says, 10,000 for most.
            Memorisation looks at all that were trained on.
        split: the real images to compare with: train (also those that data.subset leaves out), subset, held_out.
        extractor: digits, stacked_digits, objects, inception, pixels, torchvision/<model> or timm/<model>; None: what
            the data says.
        inception_weights: a file with torch-fidelity's Inception-v3; None: it is fetched once.
        extractor_weights: a state dict for torchvision's and timm's networks; None: theirs are fetched once.
        seed: of latents, subsets and splits.
        truncation: latents further from 0 are drawn again.
        border: pixels at each side that scores of pairs leave out; None: what the data says, for super-resolution its
            scale, for other data and for folders 0.
        force: score with fewer images than a metric can bear; the record says so.
        cache: where features of real images are kept; None: gan_lightning in the user's cache folder.
    """

    names: list[Name | PairedName | Literal["path_length"]] | None = None
    samples: PositiveInt | None = None
    real_samples: PositiveInt | None = None
    split: Literal["train", "subset", "held_out"] = "train"
    extractor: str | None = None
    inception_weights: Path | None = None
    extractor_weights: Path | None = None
    seed: NonNegativeInt = 0
    truncation: PositiveFloat | None = None
    border: NonNegativeInt | None = None
    force: bool = False
    cache: Path | None = None

    def load(self, default: str, own: Extractor | None = None) -> Extractor:
        """The extractor; `default`: where none is named; `own`: the only one for this data. Raises UserError."""
        name = self.extractor or (own.name if own else default)
        if self.inception_weights and name != "inception":
            raise UserError(f"scores.inception_weights={self.inception_weights}: needs scores.extractor=inception")
        if own:
            if name != own.name:
                raise UserError(f"scores.extractor={name}: is not for this data: leave it out, or use {own.name}")
            return own
        return load_extractor(name, self.inception_weights if name == "inception" else self.extractor_weights)

    def choose(
        self,
        extractor: Extractor,
        features: int,
        classes: int,
        n_real: int,
        n_fake: int,
        automatic: Sequence[Name] = AUTOMATIC,
    ) -> list[Name]:
        """The scores to compute. Raises UserError for one asked for that has too few images or no classifier."""
        chosen: list[Name] = []
        for name in automatic if self.names is None else self.names:
            if name == "path_length":
                continue  # no features, but the generator itself: `Scorer` makes it
            if name not in SCORES:
                continue  # nor here: these are of pairs
            score = SCORES[name]
            fewest = score.possible if self.force else score.fewest(features, classes)
            reason = None
            special = {
                metric: key for key, other in SCORES.items() if other.only == extractor.name for metric in other.metrics
            }
            if score.only is None and (same := special.keys() & set(score.metrics)):
                reason = f"{extractor.label} have their own: use {special[same.pop()]}"
            elif score.only and extractor.name != score.only:
                reason = f"is for {score.only}, not for what {extractor.label} sees"
            elif score.classifier and not classes:
                reason = f"{extractor.label} has no classes"
            elif score.images(n_real, n_fake) < fewest:
                wanted = f"{fewest} fakes" if score.fakes_alone else f"{fewest} real images and as many fakes"
                remedies = [*(["kid"] if name in ("fid", "mifid") and not self.force else []), "more images"]
                remedies += [] if self.force else ["scores.force=true"]
                reason = (
                    f"needs {wanted} with {extractor.label} ({features} features); "
                    f"there are {n_real} real images and {n_fake} fakes. Use {' or '.join(remedies)}"
                )
            if reason and self.names is not None:
                raise UserError(f"scores.names=[{name}]: {reason}")
            if not reason and not (self.names is None and name == "kid" and "fid" in chosen):
                chosen.append(name)
        return chosen


def world() -> tuple[int, int]:
    """This process's rank and how many there are."""
    return (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)


def from_first(value: Any) -> Any:
    """What the first process has, on all of them."""
    if world()[1] == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def refuse_shapes(stored: dict[str, Tensor], count: int, features: int, classes: int) -> None:
    """Raises ValueError for kept features that are not those of so many images."""
    wanted = {"features": (count, features)} | ({"logits": (count, classes)} if classes else {})
    found = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    if found != wanted:
        raise ValueError(f"it has {found} where {wanted} are wanted")


def extract(extractor: Extractor, blocks: Iterable[Tensor], device: torch.device, said: Said | None = None) -> Features:
    """Features of blocks of pixels uint8 (n, C, H, W), or of points float32 (n, D, 1, 1), as they come."""
    features: list[Tensor] = []
    logits: list[Tensor] = []
    for pixels in blocks:
        its_features, its_logits = extractor(pixels.to(device))
        features.append(its_features)
        logits += [] if its_logits is None else [its_logits]
        if said:
            said(len(pixels))
    return Features(torch.cat(features), torch.cat(logits) if logits else None)


def real_blocks(images: ImageSet, count: int) -> Iterator[Tensor]:
    """The first `count` images in blocks, as they are stored: uint8 (n, C, H, W), points float32 (n, D, 1, 1)."""
    for first in range(0, count, sampling.BLOCK):
        yield images.__getitems__(range(first, min(first + sampling.BLOCK, count)))["image"]


NOTHING = Extractor(nn.Identity(), "none", "")  # for data whose scores are not of features


class Scorer:
    """Scores generators against the images of one data set, whose features are computed once."""

    def __init__(self, settings: ScoreSettings, data: Data) -> None:
        """On the CPU; `to` moves it. Raises UserError for scores that cannot be made."""
        self.settings, self.device = settings, torch.device("cpu")
        self.said: Said | None = None
        sets = {"train": data.reference, "subset": data.train, "held_out": data.examples}
        self.images: ImageSet = sets[settings.split]
        self.n_real = min(len(self.images), settings.real_samples or data.score_images)
        self.n_fake = settings.samples or data.score_samples or self.n_real
        if not self.n_real:
            raise UserError(f"scores.split={settings.split}: there are no such images")
        self.stored, self.data = data.stored, data
        # points often begin further apart than real ones, and the right way is nearer
        self.glances = min(GLANCED, data.score_samples or GLANCED)
        self.path_length = "path_length" in (settings.names or [])
        self.names: list[Name] = []  # of the scores of features
        self.glanced: list[Name] = []
        if data.extractor is None:
            self.extractor, self.sizes = NOTHING, (0, 0)
            if settings.extractor:
                raise UserError(f"scores.extractor={settings.extractor}: sees images, and these are {data.noun}")
            if settings.names:
                raise UserError(f"scores.names=[{settings.names[0]}]: is of images, and these are {data.noun}")
            if settings.truncation:
                raise UserError(f"scores.truncation={settings.truncation}: is of images, and these are {data.noun}")
        else:
            self.extractor = settings.load(data.extractor, data.own_extractor())
            self.sizes = self.extractor.sizes(next(real_blocks(self.images, 1)))
            automatic = cast(Sequence[Name], data.scores or AUTOMATIC)
            varied = data.pictures and self.glances > 1
            self.glanced = [*(["diversity"] if varied else []), *(["modes"] if self.sizes[1] else [])]
            self.names = settings.choose(self.extractor, *self.sizes, self.n_real, self.n_fake, automatic)
        if self.path_length:
            distance_of(self.extractor)  # refuses networks that it cannot use
        self.training: ImageSet = data.train
        self.trained = "train" if data.train is data.reference else "subset"
        self.fingerprint = ""
        self._real: Features | None = None

    def to(self, device: torch.device) -> "Scorer":
        """The same, with its network on another device."""
        self.extractor, self.device = self.extractor.to(device), device
        return self

    def metrics(self, module: AdversarialModule) -> list[str]:
        """Everything that `score` makes of the model. Raises UserError for scores of pairs that cannot be made."""
        named = [metric for name in self.names for metric in SCORES[name].metrics]
        own = dict.fromkeys([*self.asked(module), *module.measured(self.data)])
        if pairs := [name for name in get_args(PairedName) if name in own]:  # tried now: else a run ends with it
            one, border = self.data.held_out.__getitems__([0]), self.settings.border
            border = cast(Any, self.data).border if border is None else border
            paired(pairs, [Pair(one["image"], one["image"], one.get("mask"))], border)
        return [*named, *(["path_length"] if self.path_length else []), *own]

    def asked(self, module: AdversarialModule) -> list[PairedName]:
        """Scores of pairs by name. Raises UserError where there are none: of this model, or of held-out images."""
        names = [name for name in self.settings.names or [] if name in get_args(PairedName)]
        if names and not set(get_args(PairedName)) & set(module.measured(self.data)):
            raise UserError(
                f"scores.names=[{names[0]}]: compares pairs: of folders (evaluate real=… fake=…), or of the held-out "
                "images of a translator and their truth"
            )
        return cast(list[PairedName], names)

    def estimate(self, module: AdversarialModule) -> float:
        """Seconds that scoring will take, roughly; draws and scores a few images."""
        began = time.monotonic()
        if self.names:
            extract(self.extractor, real_blocks(self.images, min(sampling.BLOCK, self.n_real)), self.device)
        extracted = time.monotonic()
        module.sample(
            sampling.BLOCK, seed=self.settings.seed
        )  # with batch norm's statistics, several blocks of forwards
        share = self.n_fake / sampling.BLOCK / world()[1]
        drawn = (time.monotonic() - extracted) / (sampling.STATISTICS_BLOCKS + 1)
        return (extracted - began + drawn) * share + 0.3

    @property
    def real(self) -> Features:
        """Features of the real images, from the cache where they are there; on the first process alone."""
        if self._real is None:
            self._real, self.fingerprint = self.features(self.images, self.n_real)
        return self._real

    def features(self, images: ImageSet, count: int) -> tuple[Features, str]:
        """Features of the first `count` images, from the cache where they are there, and their fingerprint."""
        extractor = self.extractor
        weights = hash_of(extractor.state_dict())  # a version may have been left as it was
        digest = hashlib.sha256(repr((extractor.name, extractor.version, weights, self.device.type)).encode())
        for block in real_blocks(images, count):
            digest.update(repr(tuple(block.shape)).encode() + block.numpy().tobytes())
        fingerprint = digest.hexdigest()[:16]
        given = self.settings.cache
        path = (expand(given) if given else cache_folder()) / f"{fingerprint}.safetensors"
        return self.cached(path, images, count), fingerprint

    def cached(self, path: Path, images: ImageSet, count: int) -> Features:
        """The features in a file, or those of the first `count` images, which are written there."""
        if path.exists():
            try:
                stored = load_file(path)
                refuse_shapes(stored, count, *self.sizes)
                return Features(stored["features"].to(self.device), _moved(stored.get("logits"), self.device))
            except (OSError, SafetensorError, KeyError, ValueError) as error:
                say(f"scores.cache={path.parent}: {path.name} cannot be read and is made again: {error}")
        found = extract(self.extractor, real_blocks(images, count), self.device, self.said)
        kept = {"features": found.features} | ({} if found.logits is None else {"logits": found.logits})
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({key: value.contiguous().cpu() for key, value in kept.items()}, part)
            part.replace(path)
        except (OSError, SafetensorError) as error:
            say(f"scores.cache={path.parent}: features of real images are not kept there: {error}")
            with suppress(OSError):  # half of it would keep the disk full
                part.unlink()
        return found

    def glance(self, module: AdversarialModule) -> dict[str, float]:
        """Diversity and missing modes from GLANCED samples, or fewer, for the alarms; on all processes."""
        fakes = self.fake(module, self.glances)
        if world()[0]:
            return from_first(None)
        found = compute(self.glanced, self.real, fakes, self.settings.seed)
        return from_first({name: value.value for name, value in found.items()})

    def fake(self, module: AdversarialModule, count: int, *, ema: bool = True) -> Features:
        """Features of samples, made by all processes together; on all of them."""
        rank, parts = world()
        drawn = sampling.blocks(
            module,
            count,
            seed=self.settings.seed,
            truncation=self.settings.truncation,
            ema=ema,
            part=rank,
            parts=parts,
        )
        if count <= sampling.BLOCK * rank:  # fewer blocks than processes
            sampling.sampler(module, ema=ema)  # batch norm may talk to the others
            empty = torch.zeros(0, sum(self.sizes), device=self.device).split(self.sizes, 1)
            mine = Features(empty[0], empty[1] if self.sizes[1] else None)
        else:
            mine = extract(self.extractor, map(self.stored, drawn), self.device, self.said)
        if parts == 1:
            return mine
        logits = None if mine.logits is None else together(mine.logits, count, parts)
        return Features(together(mine.features, count, parts), logits)

    def score(self, module: AdversarialModule, *, ema: bool = True, source: str) -> list[Record]:
        """A record of every score, on all processes."""
        fakes = self.fake(module, self.n_fake, ema=ema) if self.names else Features(torch.empty(0))
        path: dict[Any, dict[str, Value]] = {}
        if self.path_length:  # on all processes: batch norm may talk to the others
            settings = self.settings
            length = path_length(
                module, self.extractor, self.n_fake, settings.seed, truncation=settings.truncation, ema=ema
            )
            path = {"path_length": {"path_length": length}}
        also = self.asked(module)
        own = {}
        if module.measured(self.data) or also:
            settings = self.settings
            own = module.measure(self.data, Measuring(ema, also, settings.border, self.n_fake, settings.seed))
        if world()[0]:
            return from_first(None)
        values = {
            name: compute([name], self.real, fakes, self.settings.seed) for name in self.names if name != MEMORISATION
        }
        counters = module.counters
        network = module.ema.generator if ema and module.ema is not None else module.generator
        samples = sampling.BLOCK * sampling.STATISTICS_BLOCKS
        estimated = f"estimated over {samples} samples" if module.fresh_statistics else "of training"
        common = {
            "split": self.settings.split,
            "real": self.fingerprint,
            "weights": "ema" if ema and module.ema is not None else "raw",
            "batch_norm": estimated if batch_norms(network) else "none",
            "truncation": self.settings.truncation,
            "seed": self.settings.seed,
            "source": source,
            "step": counters.generator_steps,
            "epoch": counters.epoch,
            "images": counters.images,
            "seconds": round(counters.seconds, 2),
        }
        made = make_records({**values, **path}, self.extractor, self.sizes, self.n_real, self.n_fake, common)
        if MEMORISATION in self.names:  # against all that was trained on: copies may be of any of it
            training, fingerprint = self.features(self.training, len(self.training))
            found = {MEMORISATION: compute([MEMORISATION], training, fakes, self.settings.seed)}
            common |= {"split": self.trained, "real": fingerprint}
            made += make_records(found, self.extractor, self.sizes, len(training), self.n_fake, common)
        if own:
            common |= {"split": "held_out", "real": "", "truncation": None}
            fakes_alone = 0 if self.data.extractor else self.n_fake  # a translator makes one of each held-out image
            made += make_records({"own": own}, None, (0, 0), len(self.data.held_out), fakes_alone, common)
        return from_first(made)


def make_records(
    values: Mapping[Any, dict[str, Value]],
    extractor: Extractor | None,
    sizes: tuple[int, int],
    n_real: int,
    n_fake: int,
    common: dict[str, Any],
) -> list[Record]:
    """The values of every score with how they were made; `sizes`: the extractor's features and classes.

    Scores of pairs have no extractor.
    """
    return [
        Record(
            metric=metric,
            value=value.value,
            std=value.std,
            settings=value.settings,
            extractor=extractor.name if extractor else "none",
            version=extractor.version if extractor else "",
            resize=extractor.resize if extractor else "none",
            n_real=n_real,
            n_fake=n_fake,
            forced=name in SCORES and SCORES[name].images(n_real, n_fake) < SCORES[name].fewest(*sizes),
            **common,
        )
        for name, found in values.items()
        for metric, value in found.items()
    ]


def together(mine: Tensor, count: int, parts: int) -> Tensor:
    """Rows (n, D) of the blocks that each process made, in the order of all blocks: (count, D)."""
    block = sampling.BLOCK
    turns = math.ceil(math.ceil(count / block) / parts)
    padded = torch.zeros(turns * block, mine.shape[1], device=mine.device)
    padded[: len(mine)] = mine
    everyone = [torch.empty_like(padded) for _ in range(parts)]
    distributed.all_gather(everyone, padded)
    blocks = torch.stack([part.view(turns, block, -1) for part in everyone], 1)  # (turns, parts, block, D)
    return blocks.flatten(0, 2)[:count]


def _moved(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    return None if tensor is None else tensor.to(device)
