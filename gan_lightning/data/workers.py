"""Processes that decode images for `prepare` and write their pixels into its shards. Without torch."""

import io
import multiprocessing
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from gan_lightning.data.decoding import Decoder
from gan_lightning.data.sources import Archive, Folder, open_source
from gan_lightning.errors import UserError


@dataclass
class Work:
    """What a worker needs: everything but the names."""

    root: Path
    decoder: Decoder
    output: Path
    per_shard: int

    @cached_property
    def source(self) -> Folder | Archive:
        return open_source(self.root)  # a zip file is opened by every process for itself

    def do(self, rows: Sequence[int], names: Sequence[str]) -> tuple[dict[int, str], dict[int, str]]:
        """Writes images of one shard; the stamps of those that could be read, and why others could not, by row."""
        stamps = {row: self.source.stamp(name) for row, name in zip(rows, names, strict=True)}
        pixels, reasons = self.decoder.decode_all([self.source.file(name) for name in names], threads=1)
        with open(shard_path(self.output, rows[0] // self.per_shard), "r+b") as file:
            size, start = pixels[0].nbytes, len(header(self.shape))
            for row, image in zip(rows, pixels, strict=True):
                file.seek(start + row % self.per_shard * size)
                file.write(image.data)
        unreadable = {rows[index]: reason for index, reason in reasons.items()}
        return {row: stamp for row, stamp in stamps.items() if row not in unreadable}, unreadable

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.per_shard, self.decoder.channels, self.decoder.size, self.decoder.size


def shard_path(output: Path, number: int) -> Path:
    return output / f"shard_{number:05}.npy"


def header(shape: tuple[int, ...]) -> bytes:
    """The beginning of a .npy file of bytes."""
    text = io.BytesIO()
    np.lib.format.write_array_header_1_0(text, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return text.getvalue()


def results(
    tasks: Sequence[tuple[Sequence[int], Sequence[str]]], work: Work, workers: int
) -> Generator[tuple[dict[int, str], dict[int, str]], None, None]:
    """`work.do` of every task, as they are done; by one worker in this process, by several in their own.

    Not multiprocessing's pools, whose workers outlive a parent that is killed.
    """
    if workers <= 1:
        yield from (work.do(*task) for task in tasks)
        return
    context = multiprocessing.get_context("spawn")
    left = iter(tasks)
    pipes: list[Connection] = []
    processes = []
    try:
        with no_interrupt():
            for _ in range(workers):
                ours, theirs = context.Pipe()
                process = context.Process(target=serve, args=(theirs, work), daemon=True)
                process.start()
                theirs.close()  # so that the end of the worker is seen
                pipes.append(ours)
                processes.append(process)
        busy: list[Connection] = []
        for pipe, task in zip(pipes, left, strict=False):
            pipe.send(task)
            busy.append(pipe)
        while busy:
            for pipe in wait(busy):
                assert isinstance(pipe, Connection)
                try:
                    result = pipe.recv()
                except EOFError:
                    raise UserError(
                        "a worker was killed, perhaps for want of memory; the same command goes on"
                    ) from None
                if isinstance(result, Exception):
                    raise result
                busy.remove(pipe)
                if (task := next(left, None)) is not None:
                    pipe.send(task)
                    busy.append(pipe)
                yield result
    finally:
        for pipe in pipes:
            pipe.close()  # which ends the worker
        for process in processes:
            process.join()


@contextmanager
def no_interrupt() -> Iterator[None]:
    """Ctrl-C, which goes to all processes, waits here, and those that are started never see it: the parent decides."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def serve(pipe: Connection, work: Work) -> None:
    """A worker's life: until the other end of the pipe is closed, or its process is no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where nothing could be kept back
    try:
        while True:
            task = pipe.recv()
            try:
                answer: Any = work.do(*task)
            except (OSError, UserError) as error:
                answer = error
            pipe.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
