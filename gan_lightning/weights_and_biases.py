"""Weights & Biases beside the other loggers: online where there is a key and a network, else kept for `wandb sync`."""

import html
import json
import netrc
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from gan_lightning.data.wav import to_int16, write_wav
from gan_lightning.errors import UserError
from gan_lightning.exhibits import Exhibit
from gan_lightning.exporting.packages import need

Mode = Literal["auto", "online", "offline", "disabled"]
FOLDER = "wandb"  # of the run's, which the package makes
MEMORY = "images.json"  # in it: which run of theirs it is, and how far that has come
SECONDS = 20  # to reach them
LONGEST = 60  # seconds for what is not sent yet, when the run ends


class WeightsAndBiases(Logger):
    """Metrics, scores, samples and alarms; the horizontal axis is images seen.

    A continued run goes on in the same run of theirs, and sends nothing again that it has sent.

    Args:
        folder: the run's folder; files go to `wandb` in it.
        images: images seen by the checkpoint that the run goes on from; None: a new run.
        project, entity, group, tags: theirs.
        name: of the run; None: its folder's.
        mode: auto: online where a key is found (WANDB_API_KEY or netrc), else offline, and nothing asks for one.
            WANDB_MODE says what auto is, where it is set.

    Raises UserError for mode=online without a key.
    """

    def __init__(
        self,
        folder: Path,
        images: int | None = None,
        *,
        project: str = "gan_lightning",
        entity: str | None = None,
        name: str | None = None,
        group: str | None = None,
        tags: list[str] | None = None,
        mode: Mode = "auto",
    ) -> None:
        super().__init__()
        if mode == "online" and not has_key():
            raise UserError("logger.wandb.mode=online: there is no key; set WANDB_API_KEY, or type `wandb login` once")
        self.folder = folder
        self.mode: Mode = mode
        self.about = {"project": project, "entity": entity, "group": group, "tags": tags}
        self.about["name"] = name or folder.absolute().name
        self.run: Any = None
        self.id, self.sent = secrets.token_hex(4), -1
        if images is not None and self.memory.exists():
            kept = json.loads(self.memory.read_text())
            self.id, self.sent = kept["id"], kept["images"]
        self.newest = self.sent

    @classmethod
    def check(cls) -> None:
        """Raises UserError where the package is missing."""
        need(["wandb"], "logger=wandb", "wandb")

    @property
    def memory(self) -> Path:
        return self.folder / FOLDER / MEMORY

    @property
    def name(self) -> str:
        return FOLDER

    @property
    def version(self) -> str:
        return self.id

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """`begin` does."""

    @rank_zero_only
    def begin(self, settings: dict[str, Any]) -> None:
        mode = chosen_mode(self.mode)
        if mode != "online":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # nothing at all is sent
        import wandb  # here: it takes a second, and is not always wanted
        from wandb.errors import Error

        (self.folder / FOLDER).mkdir(parents=True, exist_ok=True)
        if mode == "offline" and self.mode == "auto":
            print(f"wandb: no key is set, nothing is sent; later: wandb sync {self.folder / FOLDER}/offline-run-*")
        try:
            self.run = self._start(mode, settings)
        except Error as error:
            if mode != "online":
                raise
            reason = str(error).partition("\n")[0]
            print(f"wandb: {reason}; nothing is sent; later: wandb sync {self.folder / FOLDER}/offline-run-*")
            wandb.teardown()  # which knows this id as one in use
            self.run = self._start("offline", settings)

    def _start(self, mode: Mode, settings: dict[str, Any]) -> Any:
        import wandb

        wandb.setup(settings=wandb.Settings(silent=True))
        how = wandb.Settings(
            silent=True, console="off", init_timeout=SECONDS, finish_timeout=LONGEST, disable_code=True, save_code=False
        )
        known: Any = {"mode": mode, "resume": "allow", "config": settings, "settings": how, **self.about}
        return wandb.init(dir=str(self.folder), id=self.id, **known)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """What was sent before a run was interrupted comes again after it, and is left out."""
        if self.run is None or step is None or step <= self.sent:
            return
        if step > self.newest:
            self.newest = step
            self._remember()
        self.run.log(metrics, step=step)

    def _remember(self) -> None:
        part = self.memory.with_suffix(".part")
        part.write_text(json.dumps({"id": self.id, "images": self.newest}))
        os.replace(part, self.memory)

    @rank_zero_only
    def show(self, exhibit: Exhibit, tag: str, step: int) -> None:
        exhibit.log(self, tag, step)

    @rank_zero_only
    def say(self, tag: str, text: str, step: int) -> None:
        self.add_text(tag, text, step)

    def score(self, values: dict[str, float], step: int) -> None:
        self.log_metrics(values, step)

    def end(self, *, failed: bool) -> None:
        """`finalize` says so."""

    def add_image(self, tag: str, img_tensor: Tensor, global_step: int) -> None:
        """As an exhibit asks for it: uint8 (3, h, w)."""
        import wandb

        self.log_metrics({tag: wandb.Image(img_tensor.permute(1, 2, 0).cpu().numpy())}, global_step)

    def add_text(self, tag: str, text_string: str, global_step: int) -> None:
        import wandb

        self.log_metrics({tag: wandb.Html(f"<pre>{html.escape(text_string)}</pre>", inject=False)}, global_step)

    def add_audio(self, tag: str, snd_tensor: Tensor, global_step: int, sample_rate: int) -> None:
        """(1, T) in [-1, 1]. As a file: of numbers they would make one with yet another package."""
        import wandb

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sound.wav"
            write_wav(path, to_int16(snd_tensor[0].cpu().numpy()), sample_rate)
            self.log_metrics({tag: wandb.Audio(str(path))}, global_step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self.run is not None:
            self.run.finish(exit_code=0 if status == "success" else 1)
            self.run = None


def chosen_mode(mode: Mode) -> Mode:
    """What auto stands for here."""
    said = os.environ.get("WANDB_MODE")
    if mode == "auto" and said in ("online", "offline", "disabled"):
        return said
    return ("online" if has_key() else "offline") if mode == "auto" else mode


def has_key() -> bool:
    """Whether a key for their service is in the environment or in the file netrc."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    for place in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        try:
            if place and netrc.netrc(os.path.expanduser(place)).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False
