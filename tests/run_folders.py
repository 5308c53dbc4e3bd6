"""Run folders as training leaves them, written in no time: for the tests of the report."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

MADE = {
    "settings": {"k": 3},
    "extractor": "digits",
    "version": "1",
    "resize": "none",
    "n_real": 1438,
    "n_fake": 1438,
    "split": "train",
    "real": "0c1b0c456bea1a5f",
    "weights": "ema",
    "batch_norm": "none",
    "truncation": None,
    "seed": 0,
    "forced": False,
}


def settings(lr: float = 2e-4, seed: int = 0, **more: str) -> str:
    """A small config.yaml, with what follows other keys in it; more: lines of the node model."""
    lines = "".join(f"  {key}: {value}\n" for key, value in more.items())
    step = "critic_steps: 1"
    return (
        f"seed: {seed}\nstep:\n  {step}\ndata:\n  _target_: gan_lightning.data.digits.Digits\n  image_size: 16\n"
        f"  seed: {seed}\nmodel:\n  _target_: gan_lightning.models.gan.GAN\n  seed: {seed}\n"
        f"  step:\n    {step}\n{lines}"
        f"  generator_optimizer:\n    lr: {lr}\n    betas:\n    - 0.5\n    - 0.999\nscores:\n  best: null\n"
    )


def record(metric: str, value: float | None, images: int, source: str = "train", **other: Any) -> str:
    """A line of scores.jsonl."""
    where = {"source": source, "step": images // 10, "epoch": 0, "images": images, "seconds": images / 100}
    return json.dumps({"metric": metric, "value": value, "std": None, **MADE, **where, **other}) + "\n"


def write_run(
    folder: Path,
    values: list[float] | None = None,
    lr: float = 2e-4,
    seed: int = 0,
    state: str | None = "finished",
    rows: int = 5,
    picture: bytes | None = None,
    **status: Any,
) -> Path:
    """A run of 1,000 images for every value of "fid"; `state=None`: of an older version, without status.json."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(settings(lr, seed))
    values = [3.0, 2.0] if values is None else values
    end = 1000 * max(1, len(values))
    lines = ["images,epoch,minibatches,generator_steps,seconds,images_per_second,D/loss,G/loss"]
    for row in range(1, rows + 1):
        images = end * row / rows
        lines.append(f"{images:.0f},0,{row},{images / 10:.0f},{images / 100},100.0,{1 / row},{row}")
    (folder / "metrics.csv").write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    lines = [record("fid", value, 1000 * place) for place, value in enumerate(values, 1)]
    (folder / "scores.jsonl").write_text("".join(lines))
    if state:
        said = {
            "state": state,
            "reason": None,
            "commands": [f"python -m gan_lightning seed={seed}"],
            "version": "0.1.0",
        }
        said |= {"host": socket.gethostname(), "pid": os.getpid(), "began": "2026-01-01T00:00:00", "ended": None}
        (folder / "status.json").write_text(json.dumps(said | {"alarms": [], "sweep": None} | status))
    if picture:
        (folder / "samples").mkdir()
        (folder / "samples" / "real.png").write_bytes(picture)
        for images in range(0, end + 1, 1000):
            (folder / "samples" / f"e0000-s{images // 10:08d}_ema.png").write_bytes(picture)
    return folder


def noise(side: int = 64, seed: int = 0) -> bytes:
    """A PNG that no codec makes small."""
    from io import BytesIO

    file = BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()
