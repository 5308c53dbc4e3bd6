"""Drawing images from a generator. Nothing here touches the streams that training draws from."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from gan_lightning.draws import seed_everything, stream_seed
from gan_lightning.ema import evaluating, with_fresh_statistics

if TYPE_CHECKING:
    from gan_lightning.adversarial import AdversarialModule

BLOCK = 64  # latents are drawn in blocks of this many, so that sample i never depends on how many are asked for
STATISTICS_BLOCKS = 8  # blocks of samples that BatchNorm statistics are averaged over


def evaluation_latents(
    module: "AdversarialModule", count: int, seed: int, truncation: float | None = None, first: int = 0
) -> Any:
    """Latents of samples first … first + count - 1, tensors (count, …): a function of (seed, sample index) alone."""
    blocks = range(first // BLOCK, (first + count - 1) // BLOCK + 1)
    drawn = [module.evaluation_block(seed, block, truncation) for block in blocks]
    skip = first % BLOCK
    return tree_map(lambda *parts: torch.cat(parts)[skip : skip + count].to(module.device), drawn[0], *drawn[1:])


def evaluation_labels(
    module: "AdversarialModule", count: int, label: int | Sequence[int] | None = None, first: int = 0
) -> Tensor | None:
    """One class for all, or these (None: every class) in turn, (count,); None for unconditional models."""
    if not module.classes:
        return None
    chosen = range(module.classes) if label is None else [label] if isinstance(label, int) else label
    places = torch.arange(first, first + count, device=module.device) % len(chosen)
    return torch.tensor(chosen, device=module.device)[places]


def statistics_inputs(module: "AdversarialModule", truncation: float | None = None) -> list[tuple[Any, Tensor | None]]:
    """Latents and labels of the samples that BatchNorm statistics are averaged over."""
    return [
        (evaluation_latents(module, BLOCK, 0, truncation, first), evaluation_labels(module, BLOCK, first=first))
        for first in range(0, BLOCK * STATISTICS_BLOCKS, BLOCK)
    ]


@torch.no_grad()
def sampler(module: "AdversarialModule", *, ema: bool = True, truncation: float | None = None) -> nn.Module:
    """The generator to sample with, in eval mode, with BatchNorm statistics estimated for its weights.

    ema: the moving average where there is one, else the weights of the last step. truncation: of the latents that are
    sampled, and so of those that the statistics are of (Brock et al. 2019: standing statistics).
    """
    network = module.ema.generator if ema and module.ema is not None else module.generator
    if not module.fresh_statistics:
        return module.sampled_from(evaluating(network))
    with torch.autocast(module.device.type, enabled=False):
        network = with_fresh_statistics(network, statistics_inputs(module, truncation))
    return module.sampled_from(network if truncation is None else module.truncated(network, truncation))


@torch.no_grad()
def render(network: nn.Module, latents: Any, labels: Tensor | None, device: torch.device, seed: int = 0) -> Tensor:
    """Images (N, C, H, W) in [-1, 1], in float32 whatever the precision of training, or what the data has for samples.

    seed: of what the network draws by itself (dropout); no stream of the program is touched.
    """
    with torch.autocast(device.type, enabled=False), torch.random.fork_rng([device] if device.type == "cuda" else []):
        seed_everything(seed)
        made = network(latents, labels)
        return made.float() if made.is_floating_point() else made


def blocks(module: "AdversarialModule", count: int, *, ema: bool = True, **settings: Any) -> Iterator[Tensor]:
    """Images as those of `rendered`, of the generator that `ema` says."""
    network = sampler(module, ema=ema, truncation=settings.get("truncation"))
    return rendered(module, network, count, **settings)


def rendered(
    module: "AdversarialModule",
    network: nn.Module,
    count: int,
    *,
    seed: int = 0,
    label: int | Sequence[int] | None = None,
    truncation: float | None = None,
    part: int = 0,
    parts: int = 1,
) -> Iterator[Tensor]:
    """Images (up to BLOCK, C, H, W) in [-1, 1] of every `parts`-th block of `count` samples, from block `part` on.

    network: what `sampler` gave; label: one class, or several in turn.
    """
    for first in range(BLOCK * part, count, BLOCK * parts):
        size = min(BLOCK, count - first)
        latents = evaluation_latents(module, size, seed, truncation, first)
        labels = evaluation_labels(module, size, label, first)
        yield render(network, latents, labels, module.device, stream_seed(seed, "noise", first))


def sample(module: "AdversarialModule", count: int, **settings: Any) -> Tensor:
    """Images (count, C, H, W) in [-1, 1]; image i depends on (seed, i) alone. Settings as those of `blocks`."""
    return torch.cat(list(blocks(module, count, **settings)))
