"""SeqGAN's rollouts, completed and judged, all at once and one after another: python -m benchmarks.rollouts

Every beginning of every sequence is completed `--rollouts` times by an LSTM, and the result is judged by the CNN. Ours
(networks/text.py: rollouts) walks once over the places of all of them. The loops go through rollouts, beginnings and
places: with the sequences of a minibatch together, as SeqGAN's code does, drawing as we do or by torch.multinomial; or
one sequence after another. The medians are of interleaved runs in one process; memory is what one of its own has more
of while it works than before.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.throughput import table
from gan_lightning.networks.text import LSTMGenerator, TextCNN

# networks (without the second nothing is judged), tokens (N, L), rollouts, rows at once
Way = Callable[[LSTMGenerator, TextCNN | None, Tensor, int, int], Tensor]


def rewards(discriminator: TextCNN | None, tokens: Tensor) -> Tensor:
    """Of sequences (N, L): (N,)."""
    return discriminator(tokens).sigmoid() if discriminator else torch.zeros(len(tokens), device=tokens.device)


def ours(generator: LSTMGenerator, discriminator: TextCNN | None, tokens: Tensor, rollouts: int, rows: int) -> Tensor:
    """The mean reward of each beginning's completions, (N, L-1)."""
    count, length = tokens.shape
    repeated = tokens.repeat_interleave(rollouts, 0)
    uniforms = torch.rand(len(repeated), length * (length - 1) // 2, device=tokens.device)
    size = max(rows // (length - 1), 1)
    judged = []
    for part, numbers in zip(repeated.split(size), uniforms.split(size), strict=True):
        made = generator.rollouts(part, numbers)
        judged.append(rewards(discriminator, made.flatten(0, 1)).view(length - 1, -1))
    return torch.cat(judged, 1).unflatten(1, (count, rollouts)).mean(2).T


def looped(multinomial: bool) -> Way:
    def loop(
        generator: LSTMGenerator, discriminator: TextCNN | None, tokens: Tensor, rollouts: int, rows: int
    ) -> Tensor:
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
                total[:, known - 1] += rewards(discriminator, made)
        return total / rollouts

    return loop


def one_by_one(
    generator: LSTMGenerator, discriminator: TextCNN | None, tokens: Tensor, rollouts: int, rows: int
) -> Tensor:
    found = [looped(True)(generator, discriminator, tokens[i : i + 1], rollouts, rows) for i in range(len(tokens))]
    return torch.cat(found)


WAYS: dict[str, Way] = {
    "all at once": ours,
    "minibatches, drawing as we do": looped(False),
    "minibatches, torch.multinomial": looped(True),
    "one by one, torch.multinomial": one_by_one,
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


def resident() -> float:
    """MiB of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


@torch.no_grad()
def peak(name: str, options: argparse.Namespace) -> float:
    """MiB that the work adds in this process, at most."""
    torch.set_num_threads(1)
    arguments = prepared(options)
    if options.device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        WAYS[name](*arguments)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before, most, done = resident(), 0.0, threading.Event()

    def look() -> None:
        nonlocal most
        while not done.wait(0.002):
            most = max(most, resident())

    looking = threading.Thread(target=look)
    looking.start()
    WAYS[name](*arguments)
    done.set()
    looking.join()
    return most - before


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
    alone = arguments[0], None, *arguments[2:]
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for _ in range(options.repeats):
        for name, way in WAYS.items():
            taken[name].append((seconds(way, options, alone), seconds(way, options, arguments)))
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        memory = {name: pool.apply(peak, (name, options)) for name in list(WAYS)[:-1]}
    completions = options.batch * options.rollouts * (options.length - 1)
    medians = {name: [statistics.median(found) for found in zip(*pairs, strict=True)] for name, pairs in taken.items()}
    first = medians[next(iter(WAYS))]
    rows = [
        [name, *(f"{took:.2f} ({took / least:.1f})" for took, least in zip(both, first, strict=True)), shown]
        for name, both in medians.items()
        for shown in [f"{memory[name]:,.0f}" if name in memory else ""]
    ]
    print(
        f"{completions:,} completions of {options.batch} sequences of {options.length} tokens, "
        f"vocabulary {options.vocabulary:,}, {options.rollouts} rollouts, {options.device}, one thread:\n"
    )
    print("\n".join(table(["", "completed, s (times ours)", "and judged, s", "peak MiB"], rows)))


if __name__ == "__main__":
    main(sys.argv[1:])
