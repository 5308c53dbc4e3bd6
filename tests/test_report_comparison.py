"""What the report compares with what: the same data, the same way of scoring, runs that ended, other settings."""

import json
from pathlib import Path
from typing import Any

import pytest

from gan_lightning.commands.report import run
from gan_lightning.reporting import importance, report
from gan_lightning.reporting.curves import curves
from gan_lightning.reporting.finding import find_runs
from gan_lightning.reporting.pictures import samples_of, stops
from gan_lightning.reporting.report import Report, compare
from gan_lightning.reporting.runs import read_run
from tests.run_folders import noise, record, settings, write_run

pytest.importorskip("optuna")


def compared(root: Path, score: str | None = None) -> Report:
    return compare(find_runs(str(root)), score, "last")


def test_scores_without_a_fingerprint_compare_on_the_same_data_alone(tmp_path: Path) -> None:
    for name, value, data in (("a", 1.0, 16), ("b", 2.0, 16), ("c", 0.5, 32)):
        folder = write_run(tmp_path / name, [])
        (folder / "scores.jsonl").write_text(record("l1", value, 1000, real=""))
        (folder / "config.yaml").write_text(
            settings().replace("image_size: 16", f"image_size: {data}\n  workers: {data}")
        )
    found = compared(tmp_path)
    assert [row.label for row in found.ranking.rows] == ["1", "2", "B1"]
    assert found.ways == ["A (2 runs): data.image_size 16", "B (1 run): data.image_size 32"]
    assert "a (l1 1)" in found.headline[1]


def test_few_runs_do_not_decide_the_metric(tmp_path: Path) -> None:
    for index in range(4):
        folder = write_run(tmp_path / str(index), [1.0])
        with (folder / "scores.jsonl").open("a") as file:
            file.write(record("kid", 2.0, 1000) if index < 3 else "")
        config = settings()
        (folder / "config.yaml").write_text(config.replace("best: null", "best: kid") if index < 2 else config)
    assert compared(tmp_path).ranking.metric == "fid"  # two of four say otherwise
    (tmp_path / "2" / "config.yaml").write_text(settings().replace("best: null", "best: kid"))
    assert compared(tmp_path).ranking.metric == "kid"


def test_runs_that_did_not_end_by_themselves_are_not_averaged(tmp_path: Path) -> None:
    ends = [("finished", 5.0), ("finished", 6.0), ("interrupted", 80.0), ("diverged", 300.0)]
    for seed, (state, value) in enumerate(ends):
        write_run(tmp_path / f"a{seed}", [value], seed=seed, state=state)
    write_run(tmp_path / "b", [60.0], lr=1.0)
    write_run(tmp_path / "c", [2.0], lr=2.0, state="pruned")
    found = compared(tmp_path)
    assert [(len(group.rows), group.mean) for group in found.ranking.groups] == [(2, 5.5), (1, 60.0), (0, None)]
    assert found.groups_table is not None
    rows = [[cell.text for cell in row[:5]] for row in found.groups_table.rows]
    assert rows[0] == ["1", "a0 and 3 more", "2 of 4", "5.5", "0.71"]
    assert rows[2] == ["", "c", "0 of 1", "", ""]
    assert "interrupted, diverged" in found.groups_table.rows[0][2].title
    assert found.averaged.endswith("left out: 1 interrupted, 1 diverged, 1 pruned")
    assert "c (pruned) (fid 2), better than the next settings, a0, by 3 (4.2 standard" in found.headline[1]


def test_the_best_is_compared_with_other_settings(tmp_path: Path) -> None:
    for seed, value in enumerate([1.0, 1.5, 9.0]):
        write_run(tmp_path / f"a{seed}", [value], seed=seed)
    write_run(tmp_path / "b", [3.0], lr=1.0)
    best = compared(tmp_path).headline[1]
    assert "a0 (fid 1), better than the next settings, b, by 2 " in best
    assert "the settings of b 3 (not repeated), the next of a0 3.833 ± 4.5 (3 runs)" in best
    write_run(tmp_path / "c", [3.5], lr=2.0)
    assert "; those of the best run 3.833 ± 4.5 (3 runs)." in compared(tmp_path).headline[1]
    assert compared(tmp_path / "a0").headline[1] == "Best: a0 (fid 1)."


@pytest.mark.parametrize("state", ["running", "interrupted", "diverged", "failed", "pruned", "finished"])
def test_alarms_are_told_whatever_the_state(tmp_path: Path, state: str) -> None:
    write_run(tmp_path / "a", state=state, alarms=["it has collapsed"], reason="so: it is")
    found = compared(tmp_path)
    word = "collapsed" if state == "finished" else f"{state}, alarm"
    assert found.runs_table.rows[0][2].text == word
    assert found.states == [f"a: {word}: so: it is; it has collapsed"]


def test_shares_do_not_hang_on_the_order_of_the_runs(tmp_path: Path) -> None:
    for index in range(10):
        folder = write_run(tmp_path / f"{index} and more", [index + 0.3 * (index * 7 % 5)], lr=index + 0.5)
        (folder / "config.yaml").write_text(settings(index + 0.5, 0, width=str(index * 3 % 4)))
    found = compared(tmp_path)
    made = found.importance
    assert list(made.shares) == sorted(made.shares, key=lambda name: -made.shares[name])
    assert made.forests == importance.FORESTS
    assert all(spread > 0 for spread in made.spreads.values())
    assert found.shares[0].startswith("model.generator_optimizer.lr: ")
    assert " ± " in found.shares[0]
    again = importance.importance_of(found.ranking, found.keys[::-1])
    assert again.shares == made.shares
    assert [found.ranking.rows[place].run.name for place in made.places] == made.names


def test_a_curve_and_a_caption_are_of_one_way_of_scoring(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", [9.0, 8.0], picture=noise(8))
    with (folder / "scores.jsonl").open("a") as file:
        file.write(record("fid", 1.0, 2000, extractor="inception"))
    one = read_run(folder, "a")
    assert [score.value for score in one.scores["fid"]] == [1.0]
    assert [(left.file[-12:], left.reason) for left in one.left_out] == [
        ("scores.jsonl", "2 of fid, made in other ways than the newest")
    ]
    assert curves([one], "fid")[0]["runs"][0][1][1] == 1
    assert run([f"runs={tmp_path}", f"output={tmp_path / 'made'}"]) == 0
    page = (tmp_path / "made" / "report.html").read_text()
    assert "<p>1,000 images</p>" in page
    assert "<p>2,000 images, fid 1</p>" in page


def test_what_many_runs_lack_is_one_line(tmp_path: Path) -> None:
    for index in range(5):
        folder = write_run(tmp_path / str(index), state=None)
        (folder / "scores.jsonl").unlink()
    found = compared(tmp_path)
    file = str(tmp_path / "0" / "scores.jsonl")
    assert [line[: len(file) + 30] for line in found.files] == [f"5 scores.jsonl ({file}, {tmp_path}"[: len(file) + 30]]
    assert len(found.states) == 1
    assert found.states[0].startswith("5 runs (0, 1, 2, …): unknown: no status.json")


def test_an_unexpected_error_of_one_folder_costs_that_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bad", "good"):
        write_run(tmp_path / name)

    def broken(folder: Path, name: str) -> Any:
        if name == "bad":
            raise TypeError("of a kind that nobody thought of")
        return read_run(folder, name)

    monkeypatch.setattr(report, "read_run", broken)
    found = compared(tmp_path)
    assert [some.name for some in found.runs] == ["good"]
    assert found.files == [f"{tmp_path / 'bad'}: cannot be read: TypeError: of a kind that nobody thought of"]


def test_a_forest_that_fails_is_said(tmp_path: Path) -> None:
    for index in range(10):
        write_run(tmp_path / str(index), [float(index)], lr=(-1) ** index * 1.7e308 * (1 - index / 100))
    assert compared(tmp_path).importance.why_not.startswith("Optuna could not: ")


def test_stops_that_are_nearly_one_are_one(tmp_path: Path) -> None:
    assert stops([0, 10_000, 20_000, 20_096, 30_000], 12) == [0, 10_000, 20_000, 30_000]
    assert stops([0, 10_000, 30_000, 30_096], 12) == [0, 10_000, 30_096]
    assert stops([5], 12) == [5]
    assert samples_of([]).stops == []


def test_numbers_without_bounds(tmp_path: Path) -> None:
    for name in "ab":
        folder = write_run(tmp_path / name, [3.0], seed=ord(name), picture=noise(8))
        with (folder / "scores.jsonl").open("a") as file:
            file.write(record("fid", 1.7e308, 2000) + json.dumps({"metric": "fid", "value": 2.0, "batch_norm": ["x"]}))
            file.write("\n")
        (folder / "metrics.csv").write_text("images,generator_steps\n1e300,1\n1e308,2\n1e29,1\n9e29,2\n")
        (folder / "samples" / "e1-s999999999999999_ema.png").write_bytes(noise(8))
        digits = "a: 0x" + "f" * 6000 + "\nb: [{2020-01-01: 1}]\nc: !!set {y, x}\nd: [0x" + "f" * 6000 + "]\n"
        (folder / "config.yaml").write_text(f"{digits}seed: {ord(name)}\n")
    assert run([f"runs={tmp_path}", f"output={tmp_path / 'made'}"]) == 0
    read = read_run(tmp_path / "a", "a")
    assert read.settings["a"] == "0x" + "f" * 37 + "…"
    assert read.settings["b"] == '[{"2020-01-01": 1}]'
    assert read.settings["c"] == '["x", "y"]'
    assert [score.value for score in read.scores["fid"]] == [3.0]
