"""The whole benchmark with the smallest settings."""

import json
from pathlib import Path

import pytest

from benchmarks.throughput import CONTENDERS, main


@pytest.mark.slow
def test_every_contender_is_timed(tmp_path: Path) -> None:
    output = tmp_path / "results" / "small"
    settings = ["--threads", "1", "--rounds", "1", "--seconds", "0.05", "--output", str(output)]
    main(["--networks", "mlp", "--batch", "64", "--profile", str(tmp_path / "profile"), *settings])

    report = json.loads(output.with_name("small.json").read_text())
    rows = {row["contender"]: row for row in report["rows"]}
    assert list(rows) == list(CONTENDERS)
    for row in rows.values():
        assert row["error"] is None
        assert 0 < row["slowest"] <= row["images_per_second"] <= row["fastest"]
        assert row["times_seed_script"] > 0
        assert row["share_of_limit"] > 0
    assert rows["seed script"]["times_seed_script"] == 1
    assert all(value > 0 for value in report["limits"].values())
    assert report["machine"]["threads"] == 1
    assert "| ours |" in output.with_name("small.md").read_text()
    assert (tmp_path / "profile" / "mlp-64-32.json").exists()
