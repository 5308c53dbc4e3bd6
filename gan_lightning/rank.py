"""Another rank of a run on several devices: `python -m gan_lightning.rank <config.yaml> [checkpoint]`; not for users."""

import sys
from pathlib import Path

from omegaconf import OmegaConf


def main() -> int:
    from gan_lightning.commands.train import Settings, fit
    from gan_lightning.config import check

    config = Path(sys.argv[1])
    checkpoint = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    return fit(check(OmegaConf.to_container(OmegaConf.load(config)), Settings), config.parent, checkpoint)  # type: ignore[arg-type]  # a mapping


if __name__ == "__main__":
    sys.exit(main())
