"""What the report's parts do alone: fewer points, files that are too large or hostile, pictures at a step."""

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from gan_lightning.commands.report import run as report
from gan_lightning.reporting import files
from gan_lightning.reporting.curves import FEWEST, curves, decimated
from gan_lightning.reporting.files import LeftOut, Reader, clean, number
from gan_lightning.reporting.finding import find_runs
from gan_lightning.reporting.markdown import code, escaped
from gan_lightning.reporting.pictures import samples_of, stops
from gan_lightning.reporting.runs import read_run
from gan_lightning.reporting.state import read_state
from tests.run_folders import noise, record, write_run


def test_fewer_points_keep_extremes_ends_and_order() -> None:
    table = np.stack([np.arange(10_000.0), np.arange(10_000.0) / 10, np.sin(np.arange(10_000) / 500)])
    table[2, 5003], table[2, 7001], table[2, -1] = 50.0, -60.0, 3.0
    table[2, 2000:2600] = np.nan
    small = decimated(table, 100)
    assert 90 < small.shape[1] <= 100
    assert (np.diff(small[0]) >= 0).all()
    assert {50.0, -60.0} <= set(small[2].tolist())
    assert small[:, 0].tolist() == table[:, 0].tolist()
    assert small[:, -1].tolist() == table[:, -1].tolist()
    assert not np.isinf(small).any()
    assert abs(small[0, np.nanargmax(small[2])] - 5003) < 10_000 / 49
    assert decimated(table[:, :100], 100) is not None
    assert (decimated(table[:, :60], 100)[2] == table[2, :60]).all()


def test_many_long_runs_have_fewer_points_and_keep_their_last_value(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / str(i), [3.0], rows=3000), str(i)) for i in range(3)]
    drawn, without = curves(runs * 100, "fid")
    assert without == []
    assert drawn["metrics"][0] == "scores/fid"
    points = drawn["runs"][0][0][1]
    assert FEWEST <= points <= 200
    assert len(json.dumps(drawn)) < 1_300_000


def test_images_at_a_step_lie_between_the_lines(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a", [3.0, 2.0]), "a")  # 10 images a step
    assert run.images_at_steps([0, 40, 55, 200, 300]) == [0, 400, 550, 2000, 3000]
    (tmp_path / "a" / "metrics.csv").unlink()
    assert read_run(tmp_path / "a", "a").images_at_steps([50, 100]) == [500, 1000]  # from the scores
    (tmp_path / "a" / "scores.jsonl").unlink()
    assert read_run(tmp_path / "a", "a").images_at_steps([0, 50]) == [0, None]


def test_stops_are_spread_over_training() -> None:
    assert stops([0, 5, 5, 10], 12) == [0, 5, 10]
    found = stops(list(range(0, 10_001, 10)), 11)
    assert found == list(range(0, 10_001, 1000))


def test_a_large_file_is_read_at_both_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGEST", 3000)
    lines = [record("fid", float(index), index) for index in range(100)]
    (tmp_path / "scores.jsonl").write_text("".join(lines))
    run = read_run(tmp_path, "a")
    values = [score.value for score in run.scores["fid"]]
    assert values[0] == 0
    assert values[-1] == 99
    assert len(values) < 20
    assert any("what is in its middle" in one.reason for one in run.left_out)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &a [x]\nb: *a\n", "aliases"),
        ("- " * 100_000, "levels deep"),
        ("a: " + "[" * 1000, ""),
        ("a: !!python/object/apply:os.system ['touch x']\n", "could not determine a constructor"),
        ("just text", "holds no settings"),
        ("", "empty"),
        ("\x00", "cannot be read"),
        ("a: 1\n" * 300_000, "too large"),
    ],
)
def test_settings_that_are_none(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    reader = Reader(tmp_path)
    assert reader.mapping("config.yaml") == {}
    assert [reason in one.reason for one in reader.left_out] == [True]


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metrics.csv")
    assert read_run(tmp_path, "a").metrics == {}


def test_pictures_that_would_fill_memory_or_are_none(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", [3.0, 2.0], picture=noise())

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (folder / "samples" / "e0000-s00000000_ema.png").write_bytes(bomb)
    (folder / "samples" / "e0000-s00000100_ema.png").write_text("<svg/>")
    made = samples_of([read_run(folder, "a")])
    assert [frame.images for frame in made.frames[0]] == [2000]
    reasons = {one.file.rpartition("/")[2]: one.reason for one in made.left_out}
    assert "decompression bomb" in reasons["e0000-s00000000_ema.png"]
    assert "not a JPEG" in reasons["e0000-s00000100_ema.png"]


def test_the_moving_average_is_shown_before_the_last_weights(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", [3.0], picture=noise())
    (folder / "samples" / "e0000-s00000050_raw.png").write_bytes(noise())
    made = samples_of([read_run(folder, "a")])
    assert made.stops == [0, 1000]
    for file in (folder / "samples").glob("*_ema.png"):
        file.unlink()
    assert samples_of([read_run(folder, "a")]).stops == [500]


@pytest.mark.parametrize("pid", [0, -1, True, "1", None, 2**70, 1.5])
def test_a_process_number_that_is_none(tmp_path: Path, pid: object) -> None:
    import socket

    state = read_state({"state": "running", "pid": pid, "host": socket.gethostname()}, tmp_path)
    assert state.word == ("killed" if pid == 2**70 else "running")


def test_a_number_of_a_process_that_began_later(tmp_path: Path) -> None:
    import socket

    (tmp_path / "status.json").write_text("{}")
    status = {"state": "running", "pid": os.getpid(), "host": socket.gethostname()}
    assert read_state(status, tmp_path).word == "running"
    os.utime(tmp_path / "status.json", (1e9, 1e9))  # of another boot
    assert read_state(status, tmp_path).word == ("killed" if Path("/proc/stat").exists() else "running")


def test_texts_are_one_line_that_can_be_written() -> None:
    assert clean("a\nb\x00\x1b[31m\udcff\u202ec") == "a b  [31m c"
    assert len(clean("x" * 9000)) == 500
    assert LeftOut("a\nb", "c\nd") == LeftOut("a b", "c d")
    assert [number(value) for value in (1, "2", True, None, "x", "nan", 1e999, 10**400, [], 1e31)] == [
        *(1.0, 2.0),
        *[None] * 8,
    ]


def test_markdown_escapes() -> None:
    assert escaped("a|b") == "a\\|b"
    assert escaped("<b>@you</b>") == "&lt;b&gt;&#64;you&lt;/b&gt;"
    assert escaped("batch_size _x_ `c`") == "batch_size \\_x\\_ \\`c\\`"
    assert "https://" not in escaped("https://example.org")
    assert code("a ```` b").startswith("`````sh\n")


def test_folders_that_are_links_to_themselves_or_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "good")
    (tmp_path / "itself").symlink_to("itself")
    closed = tmp_path / "closed"
    closed.mkdir()
    stat, scandir = os.stat, os.scandir

    def refuse(path: object) -> None:
        if not isinstance(path, int) and str(closed) in os.fsdecode(path):  # type: ignore[arg-type]
            raise PermissionError(13, "Permission denied")

    def closed_stat(path: object, *args: object, **more: object) -> object:
        if not isinstance(path, int) and os.fsdecode(path) != str(closed):  # type: ignore[arg-type]
            refuse(path)
        return stat(path, *args, **more)  # type: ignore[arg-type]

    def closed_scandir(path: object) -> object:
        refuse(path)
        return scandir(path)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", closed_stat)
    monkeypatch.setattr(os, "scandir", closed_scandir)
    found = find_runs(str(tmp_path))
    assert [folder.name for folder in found.folders] == ["good"]
    assert found.left_out == [LeftOut(str(closed), "Permission denied")]


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    pytest.importorskip("bokeh")
    folder = os.fsencode(tmp_path) + b"/runs/\xff\xfebad"
    os.makedirs(folder)
    Path(os.fsdecode(folder), "config.yaml").write_text("a: 1\n")
    assert report([f"runs={tmp_path / 'runs'}", f"output={tmp_path / 'made'}"]) == 0
    assert "bad" in (tmp_path / "made" / "report.html").read_text()
