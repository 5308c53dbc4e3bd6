"""The wheel, installed elsewhere, runs from any folder: its configurations travel with it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_a_wheel_installed_elsewhere_runs(tmp_path: Path) -> None:
    place, away = tmp_path / "place", tmp_path / "away"
    away.mkdir()
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*install, "--target", str(place), str(wheel)], check=True, capture_output=True)
    environment = os.environ | {"PYTHONPATH": str(place), "PYTHONSAFEPATH": "1"}

    def answer(*command: str) -> str:
        done = subprocess.run([sys.executable, *command], cwd=away, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = answer("-c", "import gan_lightning.config as c; print(c.CONF)").strip()
    assert Path(where) == place / "gan_lightning" / "conf"
    answer("-m", "gan_lightning", "trainer=debug", "trainer.accelerator=cpu")
    assert (away / "outputs" / "latest" / "checkpoints" / "last.ckpt").exists()
    assert (place / "bin" / "gan-lightning").exists()
    assert "dcgan" in answer(str(place / "bin" / "gan-lightning"), "--help")
