"""Where metrics go: TensorBoard events and metrics.csv, both without gap or double line over a resume."""

import csv
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from gan_lightning.errors import UserError
from gan_lightning.exhibits import Exhibit

# Made when they are imported, so that no checker knows them.
Session: Any = plugin_data_pb2.HParamsPluginData  # type: ignore[attr-defined]
Status: Any = api_pb2.Status  # type: ignore[attr-defined]
Summary: Any = summary_pb2.Summary  # type: ignore[attr-defined]


@runtime_checkable
class RunLogger(Protocol):
    """What our loggers are told beside metrics. Steps are images seen; only the first rank writes."""

    def begin(self, settings: dict[str, Any]) -> None:
        """Training begins, or goes on; settings: the run's, flat."""
        ...

    def show(self, exhibit: Exhibit, tag: str, step: int) -> None: ...

    def say(self, tag: str, text: str, step: int) -> None: ...

    def score(self, values: dict[str, float], step: int) -> None:
        """Scores, and glances at samples: what not every line of metrics has."""
        ...

    def end(self, *, failed: bool) -> None:
        """Training is over, and was not interrupted."""
        ...


EVENTS, METRICS = "events.out.tfevents.*", "metrics.csv"


def sizes_of_events(folder: Path) -> dict[str, int]:
    """How many bytes the files of TensorBoard's events in a run's folder have."""
    return {file.name: file.stat().st_size for file in folder.glob(EVENTS)}


def cut_events(folder: Path, sizes: dict[str, int]) -> None:
    """Leaves what the events in a run's folder were at a checkpoint: `sizes_of_events` then.

    TensorBoard's own means forgets by images alone, and knows no order among the events of a run's end.
    """
    for file in folder.glob(EVENTS):
        if file.name not in sizes:
            file.unlink()
        elif file.is_symlink():
            file.unlink()  # of a folder that came from elsewhere: what it leads to is not ours to cut
        elif file.stat().st_size > sizes[file.name]:  # less: the machine went down, and they are lost
            os.truncate(file, sizes[file.name])


def ours(loggers: Iterable[Logger]) -> list[RunLogger]:
    """Those that can be told more than metrics."""
    return [logger for logger in loggers if isinstance(logger, RunLogger)]


def check_loggers(makers: dict[str, Any]) -> None:
    """Raises UserError for a logger whose package is missing; makers: partial classes, or None."""
    for maker in makers.values():
        check = getattr(getattr(maker, "func", None), "check", None)
        if check:
            check()


class TensorBoard(TensorBoardLogger):
    """TensorBoard events in the run's folder; the horizontal axis is images seen.

    Args:
        folder: the run's folder.
        images: images seen by the checkpoint that the run goes on from; later events are hidden. None: a new run.
    """

    def __init__(self, folder: Path, images: int | None = None) -> None:
        left = images is None and any(folder.glob(EVENTS))  # by a run killed before its checkpoint
        super().__init__(
            save_dir=folder,
            name="",
            version="",
            default_hp_metric=False,
            purge_step=0 if left else None if images is None else images + 1,
        )

    @rank_zero_only
    def begin(self, settings: dict[str, Any]) -> None:
        """A row of the HParams tab, which is there from the beginning, whatever becomes of the run.

        No list of metrics goes with it: every run of a sweep would have its own, and the tab reads one alone. So it
        shows all curves by their last values. Of a run that was continued it keeps the first settings.
        """
        begun: Any = Session(session_start_info={})
        for key, value in settings.items():
            kind = "bool" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
            setattr(begun.session_start_info.hparams[key], f"{kind}_value", value)
        self._summarise(metadata.SESSION_START_INFO_TAG, begun)

    @rank_zero_only
    def show(self, exhibit: Exhibit, tag: str, step: int) -> None:
        exhibit.log(self.experiment, tag, step)

    @rank_zero_only
    def say(self, tag: str, text: str, step: int) -> None:
        self.experiment.add_text(tag, text, step)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Raises OSError where nothing can be written, which Lightning takes for a mistake in the metrics."""
        try:
            super().log_metrics(metrics, step)
        except ValueError as error:
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            raise

    def score(self, values: dict[str, float], step: int) -> None:
        self.log_metrics(values, step)

    @rank_zero_only
    def end(self, *, failed: bool) -> None:
        status = Status.Value("STATUS_FAILURE" if failed else "STATUS_SUCCESS")
        self._summarise(metadata.SESSION_END_INFO_TAG, Session(session_end_info={"status": status}))

    def _summarise(self, tag: str, session: Any) -> None:
        writer = self.experiment.file_writer
        assert writer is not None
        described = metadata.create_summary_metadata(session)
        writer.add_summary(Summary(value=[Summary.Value(tag=tag, metadata=described)]))
        self.experiment.flush()

    def finalize(self, status: str) -> None:
        """Closes the file. After a failure it may not be writable: that is said by the first error."""
        with suppress(*([OSError] if status == "failed" else [])):
            super().finalize(status)

    @rank_zero_only
    def save(self) -> None:
        """Flushes the events. Lightning would write hyper-parameters a second time: config.yaml holds them."""
        self.experiment.flush()


class CSV(Logger):
    """`metrics.csv`: a line every `trainer.log_every_n_steps` minibatches, columns as they come.

    Args: as TensorBoard's; lines after `images` are removed.

    Raises UserError for a file of the run that goes on which is no table of metrics.
    """

    def __init__(self, folder: Path, images: int | None = None) -> None:
        super().__init__()
        self.path = folder / METRICS
        self.images = images
        self.columns: list[str] = []
        if images is not None:
            self._kept()  # before anything is written: it may be no such file

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run's config.yaml holds them."""

    @rank_zero_only
    def begin(self, settings: dict[str, Any]) -> None:
        """Forgets the lines after the checkpoint: perhaps none is written in their place."""
        if kept := self._kept():
            self._write(kept, [])
        else:
            self.path.unlink(missing_ok=True)

    def show(self, exhibit: Exhibit, tag: str, step: int) -> None:
        """The run's folder `samples` holds it."""

    def say(self, tag: str, text: str, step: int) -> None:
        """It was printed."""

    def score(self, values: dict[str, float], step: int) -> None:
        """`scores.jsonl` holds them."""

    def end(self, *, failed: bool) -> None:
        """Every line is in the file already."""

    @rank_zero_only
    def save(self) -> None:
        """Has the lines outlast a power cut: a checkpoint that is about to be written is of them."""
        if self.path.exists():
            with self.path.open("a") as file:
                os.fsync(file.fileno())

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
        try:
            with self.path.open(newline="", errors="replace") as file:
                whole = [line for line in file if line.endswith("\n")]  # a machine that goes down leaves half of one
            rows = list(csv.DictReader(whole))
        except csv.Error as error:
            raise UserError(f"{self.path}: cannot be read: {error}; move it away") from None
        if rows and "images" not in rows[0]:
            raise UserError(f"{self.path}: is no table of metrics; move it away")
        rows = [row for row in rows if None not in row and None not in row.values()]
        return [row for row in rows if len(row["images"]) < 20 and row["images"].isdecimal()]

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
