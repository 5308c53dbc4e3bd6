"""Every file of conf/data builds its class."""

from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from gan_lightning.config import CONF
from gan_lightning.data.base import ImageData

FILES = sorted((CONF / "data").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_config(file: Path) -> None:
    config = OmegaConf.load(file)
    assert isinstance(config, DictConfig)
    config.seed = 3
    if OmegaConf.is_missing(config.data, "root"):
        config.data.root = "photos"
    data = instantiate(config.data)
    assert isinstance(data, ImageData)
    assert (data.batch_size, data.seed, data.workers, data.flip) == (256 if not data.pictures else 64, 3, 0, False)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_comment_that_help_shows(file: Path) -> None:
    comment = next(line for line in file.read_text().splitlines() if not line.startswith("# @"))
    assert comment.startswith("# ")
    assert comment.endswith(".")
