"""Decodes a folder or a zip file of images once, for training that starts at once."""

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any, TypedDict

from rich import progress
from rich.console import Console

from gan_lightning.config import check, compose, instantiate, read_overrides
from gan_lightning.config.messages import mistake
from gan_lightning.data.listing import INDEX, read_index
from gan_lightning.data.preparing import Preparation, prepare, refuse_others, verify
from gan_lightning.errors import UserError
from gan_lightning.paths import expand
from gan_lightning.types import Node, PositiveInt

LINE_SECONDS = 15.0  # where there is no terminal: a line this often


class Settings(TypedDict):
    """The keys of conf/prepare.yaml."""

    output: Path
    shard_mb: PositiveInt
    verify: bool
    data: Annotated[Node, Preparation]


def run(arguments: list[str]) -> int:
    """The command: exit code 0, also where there was nothing to do; 2 where files cannot be read; 130 for Ctrl-C."""
    chosen = [override for override in read_overrides(arguments) if override.key == "data"]
    for override in chosen:
        if override.value != "image_folder":
            raise mistake("data", override.value, "only data=image_folder can be prepared")
    given = [str(override) for override in read_overrides(arguments) if override not in chosen]
    settings = check(compose("prepare", given, Settings), Settings)
    output = expand(settings["output"])
    preparation: Preparation = instantiate(settings["data"])
    if settings["verify"] and not (output / INDEX).is_file():
        raise UserError(f"output={output}: not prepared to the end, so there is nothing to verify")
    if settings["verify"]:
        refuse_others(output, preparation.settings(settings["shard_mb"]))
    began, bar = time.monotonic(), Bar()
    try:
        if settings["verify"]:
            with bar:
                verify(output, bar.told)
            print(f"{output}: every file is what it was")
            return 0
        with bar:
            made = prepare(preparation, output, settings["shard_mb"], bar.told, bar.line)
    except KeyboardInterrupt:
        print(f"gan_lightning: interrupted; the same command goes on in {output}", file=sys.stderr)
        return 130
    images = read_index(output)["images"]
    seconds = time.monotonic() - began
    speed = f" in {seconds:.1f} s ({bar.decoded / seconds:,.0f} files/s)" if made else "; nothing to do"
    print(f"{output}: finished, {images:,} images{speed}")
    print("Next:")
    print("  python -m gan_lightning data=image_folder " + " ".join(training(settings["data"], output)))
    return 0


def training(data: dict[str, Any], output: Path) -> list[str]:
    """The arguments that train on what was made of `data`."""
    usual = {"channels": 3, "fit": "crop", "resample": "lanczos", "labels": True}
    more = [f"data.{key}={str(data[key]).lower()}" for key, value in usual.items() if data[key] != value]
    return [f"data.root={shlex.quote(str(output))}", f"data.image_size={data['image_size']}", *more]


class Bar:
    """A bar with files/s and the time left; plain lines where the output is no terminal."""

    def __init__(self) -> None:
        self.console = Console()
        self.bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[speed]}"),
            progress.TimeRemainingColumn(compact=True),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.tasks: dict[str, progress.TaskID] = {}
        self.decoded = 0
        self.said = self.began = time.monotonic()

    def __enter__(self) -> "Bar":
        self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def line(self, text: str) -> None:
        self.bar.console.print(text, highlight=False, soft_wrap=True)

    def told(self, what: str, done: int, total: int) -> None:
        """So many images, or files with their checksums, are done."""
        if what not in self.tasks:
            self.tasks[what] = self.bar.add_task(what, total=total, speed="")
            self.began = time.monotonic()
        now = time.monotonic()
        speed = f"{done / max(now - self.began, 1e-9):,.0f} files/s" if what == "images" else ""
        self.decoded = done if what == "images" else self.decoded
        self.bar.update(self.tasks[what], completed=done, speed=speed)
        if not self.console.is_terminal and now - self.said >= LINE_SECONDS:
            self.said = now
            print(f"{what}: {done:,} of {total:,} {speed}", flush=True)
