"""SeqGAN's rollouts, completed and judged, all at once and one after another: python -m benchmarks.rollouts

Every beginning of every sequence is completed `--rollouts` times by an LSTM and the result is judged by the CNN. Ours
(networks/text.py: rollouts) walks once over the places of all of them. The loops go through rollouts, beginnings and
places, with the sequences of a minibatch together, as SeqGAN's code does: one draws by torch.multinomial, the other as
we do. The medians are of interleaved runs in one process; memory is what one of its own needs beyond the networks.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks.throughput import table
from gan_lightning.networks.text import LSTMGenerator, TextCNN

Way = Callable[[LSTMGenerator, TextCNN, Tensor, int, int], Tensor]  # networks, tokens (N, L), rollouts, rows at once


def ours(generator: LSTMGenerator, discriminator: TextCNN, tokens: Tensor, rollouts: int, rows: int) -> Tensor:
    """The mean reward of each beginning's completions, (N, L-1)."""
    count, length = tokens.shape
    repeated = tokens.repeat_interleave(rollouts, 0)
    uniforms = torch.rand(len(repeated), length * (length - 1) // 2, device=tokens.device)
    size = max(rows // (length - 1), 1)
    judged = []
    for part, numbers in zip(repeated.split(size), uniforms.split(size), strict=True):
        made = generator.rollouts(part, numbers)
        judged.append(discriminator(made.flatten(0, 1)).sigmoid().view(length - 1, -1))
    return torch.cat(judged, 1).unflatten(1, (count, rollouts)).mean(2).T


def looped(multinomial: bool) -> Way:
    def loop(generator: LSTMGenerator, discriminator: TextCNN, tokens: Tensor, rollouts: int, rows: int) -> Tensor:
        count, length = tokens.shape
        total = torch.zeros(count, length - 1, device=tokens.device)
        for _ in range(rollouts):
            for known in range(1, length):
                made, state = tokens.clone(), generator.begin(count, tokens.device)
                fed = torch.zeros_like(tokens[:, 0])
                for place in range(length):
                    state = generator.step(generator.read(fed), state)
                    if place >= known and multinomial:
                        made[:, place] = torch.multinomial(generator.output(state[0]).softmax(1), 1)[:, 0]
                    elif place >= known:
                        made[:, place] = generator.draw(state[0], torch.rand(count, device=tokens.device))
                    fed = made[:, place]
                total[:, known - 1] += discriminator(made).sigmoid()
        return total / rollouts

    return loop


WAYS: dict[str, Way] = {
    "ours, all at once": ours,
    "loop, drawing as we do": looped(False),
    "loop, torch.multinomial": looped(True),
}


def prepared(options: argparse.Namespace) -> tuple[LSTMGenerator, TextCNN, Tensor, int, int]:
    torch.manual_seed(0)
    generator = LSTMGenerator(options.vocabulary, options.length).to(options.device)
    discriminator = TextCNN(options.vocabulary, options.length).to(options.device).eval()
    tokens = generator(torch.rand(options.batch, options.length, device=options.device))
    return generator, discriminator, tokens, options.rollouts, options.rows


@torch.no_grad()
def seconds(way: Way, options: argparse.Namespace, arguments: tuple) -> float:
    start = time.perf_counter()
    way(*arguments)
    if options.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak(name: str, options: argparse.Namespace) -> float:
    """MiB beyond what the networks and one look at a sequence need, in this process."""
    torch.set_num_threads(1)
    arguments = prepared(options)
    with torch.no_grad():
        arguments[1](arguments[2])
        if options.device == "cuda":
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            WAYS[name](*arguments)
            return (torch.cuda.max_memory_allocated() - before) / 2**20
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        WAYS[name](*arguments)
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("benchmarks.rollouts", description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--length", type=int, default=20)
    parser.add_argument("--vocabulary", type=int, default=5000)
    parser.add_argument("--rollouts", type=int, default=16)
    parser.add_argument("--rows", type=int, default=2048, help="completions at once (model.rollout_batch)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    arguments = prepared(options)
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(options.repeats):
        for name, way in WAYS.items():
            taken[name].append(seconds(way, options, arguments))
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        memory = {name: pool.apply(peak, (name, options)) for name in WAYS}
    completions = options.batch * options.rollouts * (options.length - 1)
    medians = {name: statistics.median(found) for name, found in taken.items()}
    first = medians[next(iter(WAYS))]
    rows = [
        [name, f"{median:.2f}", f"{completions / median:,.0f}", f"{median / first:.2f}", f"{memory[name]:,.0f}"]
        for name, median in medians.items()
    ]
    print(
        f"{completions:,} completions of {options.batch} sequences of {options.length} tokens, "
        f"vocabulary {options.vocabulary:,}, {options.rollouts} rollouts, {options.device}, one thread:\n"
    )
    print("\n".join(table(["", "seconds", "completions/s", "times ours", "peak MiB"], rows)))


if __name__ == "__main__":
    main(sys.argv[1:])
