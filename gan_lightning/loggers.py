"""Where metrics go: TensorBoard events and metrics.csv, both without gap or double line over a resume."""

import csv
import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only


class TensorBoard(TensorBoardLogger):
    """TensorBoard events in the run's folder; the horizontal axis is images seen.

    Args:
        folder: the run's folder.
        images: images seen by the checkpoint that the run goes on from; later events are hidden. None: a new run.
    """

    def __init__(self, folder: Path, images: int | None = None) -> None:
        left = images is None and any(folder.glob("events.out.tfevents.*"))  # by a run killed before its checkpoint
        super().__init__(
            save_dir=folder,
            name="",
            version="",
            default_hp_metric=False,
            purge_step=0 if left else None if images is None else images + 1,
        )

    @rank_zero_only
    def save(self) -> None:
        """Flushes the events. Lightning would write hyper-parameters a second time: config.yaml holds them."""
        self.experiment.flush()


class CSV(Logger):
    """`metrics.csv`: a line every `trainer.log_every_n_steps` minibatches, columns as they come.

    Args: as TensorBoard's; lines after `images` are removed.
    """

    def __init__(self, folder: Path, images: int | None = None) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self.images = images
        self.columns: list[str] = []

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run's config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {"images": step, **metrics}
        if not self.columns:
            self._write(self._kept(), list(row))
        if any(key not in self.columns for key in row):
            self._write(self._read(), list(row))
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    def _read(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def _kept(self) -> list[dict[str, str]]:
        return [row for row in self._read() if int(row["images"]) <= (self.images or 0)]

    def _write(self, rows: list[dict[str, str]], columns: list[str]) -> None:
        """The whole file with these columns too, replaced at once."""
        known = list(rows[0]) if rows else self.columns
        self.columns = [*known, *(key for key in columns if key not in known)]
        part = self.path.with_suffix(".part")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(part, self.path)
