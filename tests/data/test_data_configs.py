"""Every file of conf/data builds its class."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from gan_lightning.config import CONF
from gan_lightning.data.base import Data
from gan_lightning.data.translation import Translation

FILES = sorted((CONF / "data").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_config(file: Path) -> None:
    config = OmegaConf.load(file)
    assert isinstance(config, DictConfig)
    config.seed = 3
    if OmegaConf.is_missing(config.data, "root") or config.data.get("root", "") is None:
        config.data.root = "photos"
    if "target" in config.data:  # voices
        config.data.update(source="ann", target="bob")
    data = instantiate(config.data)
    assert isinstance(data, Data)
    assert (data.seed, data.workers) == (3, 0)
    if not isinstance(data, Translation):  # whose papers have small batches, and mirror
        assert (data.batch_size, data.flip) == (256 if data.noun == "points" else 64, False)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_comment_that_help_shows(file: Path) -> None:
    comment = next(line for line in file.read_text().splitlines() if not line.startswith("# @"))
    assert comment.startswith("# ")
    assert comment.endswith(".")
