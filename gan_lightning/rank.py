"""Another rank of a run: `python -m gan_lightning.rank <config.yaml> [checkpoint]`; started by the first, not typed."""

import sys
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf


def main() -> int:
    from gan_lightning.budget import EXIT_CODES
    from gan_lightning.commands.train import Settings, fit
    from gan_lightning.config import check

    config = Path(sys.argv[1])
    checkpoint = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    stored = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(config)))
    code = fit(check(stored, Settings), config.parent, checkpoint)
    return 0 if code in EXIT_CODES.values() else code  # an interrupt is no failure of this rank; the first reports it


if __name__ == "__main__":
    sys.exit(main())
