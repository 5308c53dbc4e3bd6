"""Another rank of a run: `python -m gan_lightning.rank <config.yaml> [checkpoint]`; started by the first, not typed."""

import sys
import time
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

SHORT = 2.0  # seconds in which the first rank may say the same, and end this one


def main() -> int:
    from gan_lightning.commands.train import Settings, fit
    from gan_lightning.config import check
    from gan_lightning.faults import Lost, tell
    from gan_lightning.watching import GRACE, watch_parent

    watch = watch_parent()
    config = Path(sys.argv[1])
    checkpoint = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    stored = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(config)))
    try:
        return fit(check(stored, Settings), config.parent, checkpoint)
    except Exception as error:
        deadline = time.monotonic() + (GRACE if isinstance(error, Lost) else SHORT)
        while time.monotonic() < deadline and not watch.lost():
            time.sleep(0.05)
        tell(error)
        return 1
    finally:
        watch.over.set()


if __name__ == "__main__":
    sys.exit(main())
