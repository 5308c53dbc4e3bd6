"""The command report on whole, broken, old, hostile and many runs: what the page and the Markdown say."""

import json
import math
import re
import statistics
import time
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from gan_lightning.__main__ import main
from gan_lightning.commands.report import run
from gan_lightning.errors import UserError
from tests.run_folders import noise, record, settings, write_run

pytest.importorskip("bokeh")
pytest.importorskip("optuna")

VOID = {"meta", "input", "wbr", "img", "br", "link", "hr"}
HOSTILE = '<script>alert(1)</script>|`x`" onload=@team'


class Page(HTMLParser):
    """A page as a browser would cut it: elements, ids, scripts, the texts of rows; well-formed or an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: dict[str, list[list[str]]] = {}
        self.table = ""
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert len(found) == len(attrs), attrs
        self.elements.append((tag, found))
        self.ids.update([found["id"] or ""] if "id" in found else [])
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.table = found.get("id") or "other"
            self.rows[self.table] = []
        if tag == "tr":
            self.rows[self.table].append([])
        if tag in ("td", "th"):
            self.rows[self.table][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[self.table][-1][-1] += data
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def column(self, name: str, table: str = "runs") -> list[str]:
        place = self.rows[table][0].index(name)
        return [row[place] for row in self.rows[table][1:]]


def made(folder: Path, *arguments: str, runs: str = "") -> tuple[Page, str, str]:
    """The page, its text and the Markdown of the runs below a folder."""
    output = folder.parent / f"{folder.name}_report"
    assert run([f"runs={runs or folder}", f"output={output}", "overwrite=true", *arguments]) == 0
    text = (output / "report.html").read_text(encoding="utf-8")
    return Page(text), text, (output / "report.md").read_text(encoding="utf-8")


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder with its size and when it changed."""
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs of every kind, and what is said of them."""
    root = tmp_path_factory.mktemp("zoo") / "runs"
    write_run(root / "good", [3.0, 1.25], picture=noise())
    write_run(root / "better_once", [0.5, 2.5], lr=1e-3)
    write_run(root / HOSTILE.replace("/", "_"), [1.75], reason=HOSTILE, state="diverged", commands=[HOSTILE])
    write_run(root / "killed", [5.0], state="running", pid=2**22 + 1)
    write_run(root / "alive", [6.0], state="running")
    write_run(root / "elsewhere", [7.0], state="running", host="another")
    write_run(root / "collapsed", [8.0], alarms=["at 20,000 images the generator has collapsed"])
    old = write_run(root / "old", [9.0], state=None)
    (old / "config.yaml").write_text("seed: 0\ntrainer:\n  gpus: 1\n")
    (old / "metrics.csv").write_text("step,loss\n1,2\n")
    writing = write_run(root / "writing", [4.0], picture=noise())
    for name in ("scores.jsonl", "metrics.csv"):
        (writing / name).write_bytes((writing / name).read_bytes() + b'{"metric": "fid", "value": 0.0001, 1,2')
    (writing / "samples" / "e0000-s00000100_ema.png").write_bytes(noise()[:900])
    texts = write_run(root / "texts", [10.0])
    (texts / "samples").mkdir()
    (texts / "samples" / "e0001-s00000100_raw.txt").write_text(f"a sentence of {HOSTILE}\n" * 30)
    (root / "unscored" / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "metrics.csv", "scores.jsonl", "status.json"):
        (root / "hollow").mkdir(exist_ok=True)
        (root / "hollow" / name).write_bytes(b"")
    (root / "empty").mkdir()
    bad = write_run(root / "bad", [11.0])
    (bad / "config.yaml").write_text("a: &a [1, 2]\nb: [*a, *a]\n")
    (bad / "status.json").write_text("[" * 100_000)
    (bad / "metrics.csv").write_bytes(b'images,"D/loss\n1,2,3\n\x00\xff,5\n')
    (bad / "scores.jsonl").write_text(record("fid", None, 1) + "[]\n5\nx\n" + record("fid", 11.0, 900))
    before = contents(root)
    found = made(root)
    assert contents(root) == before  # nothing was written there, and no file touched
    return root, *found


def test_the_page_is_whole_and_loads_nothing(zoo: Any) -> None:
    _, page, text, _ = zoo
    assert [name for name, count in page.ids.items() if count > 1] == []
    for tag, attributes in page.elements:
        for key, value in attributes.items():
            assert not key.startswith("on"), (tag, key)
            if key in ("src", "href", "srcset", "data", "action"):
                assert value is not None
                assert value.startswith(("data:image/webp;base64,", "#")), (tag, key, value[:60])
        assert tag not in ("link", "iframe", "object", "embed", "base")
    policy = next(some["content"] for tag, some in page.elements if some.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    assert policy.count("sha256-") == 3 == sum(tag == "script" and not some for tag, some in page.elements)
    assert "@import" not in text.partition("</style>")[0]
    assert "url(" not in text.partition("</style>")[0]


def test_nothing_of_a_run_becomes_markup(zoo: Any) -> None:
    _, page, text, table = zoo
    assert "<script>alert" not in text
    assert "alert(1)" in page.text
    assert page.column("run").count(HOSTILE.replace("/", "_")) == 1
    outside = re.sub(r"(?s)```.*?```", "", table)
    assert "<script" not in outside
    assert "@team" not in outside
    row = next(line for line in table.splitlines() if line.startswith("|") and "diverged" in line)
    assert (
        len(re.findall(r"(?<!\\)\|", row))
        == len(re.findall(r"(?<!\\)\|", table.partition("| rank")[2].splitlines()[0])) + 1
    )


def test_the_order_of_both_tables_is_the_rank_and_their_numbers_are_the_files(zoo: Any) -> None:
    root, page, _, table = zoo
    values = {"good": 1.25, HOSTILE.replace("/", "_"): 1.75, "better_once": 2.5, "writing": 4.0, "killed": 5.0}
    assert page.column("run")[:5] == list(values)
    assert [float(value) for value in page.column("fid last")[:5]] == list(values.values())
    assert page.column("rank")[:3] == ["1", "2", "3"]
    assert page.column("rank").count("") == 2  # unscored, hollow
    lines = [re.split(r"(?<!\\)\|", line) for line in table.splitlines() if line.startswith("| ")]
    heading = [cell.strip() for cell in lines[0]]
    named = {line[2].strip(): line for line in lines[1 : 1 + len(page.column("run"))]}
    for name in ("good", "better_once", "killed", "writing"):
        written = [
            json.loads(line) for line in (root / name / "scores.jsonl").read_text().splitlines() if line[-1] == "}"
        ]
        assert float(named[name][heading.index("fid last")]) == written[-1]["value"]
        assert float(named[name][heading.index("fid best")]) == min(line["value"] for line in written)


def test_states(zoo: Any) -> None:
    _, page, _, table = zoo
    found = dict(zip(page.column("run"), page.column("state"), strict=True))
    assert found["good"] == "finished"
    assert found["killed"] == "killed"
    assert found["alive"] == found["elsewhere"] == "running"
    assert found["collapsed"] == "collapsed"
    assert found["old"] == found["hollow"] == found["bad"] == "unknown"
    assert "its process 4194305 is gone" in page.text
    assert "killed: killed: its process" in table
    assert "on another, as its file says" in page.text


def test_what_is_left_out_is_said_with_its_reason(zoo: Any) -> None:
    root, page, _, table = zoo
    for file, reason in (
        ("writing/scores.jsonl", "half a line"),
        ("writing/metrics.csv", "half a line"),
        ("writing/samples/e0000-s00000100_ema.png", ""),
        ("unscored/scores.jsonl", "is not there"),
        ("hollow/config.yaml", "empty"),
        ("hollow/status.json", "empty"),
        ("empty", "an empty folder"),
        ("bad/config.yaml", "cannot be read: it has aliases"),
        ("bad/status.json", "cannot be read"),
        ("bad/scores.jsonl", "3 line(s) that hold no record"),
        ("old/metrics.csv", "has no column images"),
    ):
        assert f"{root / file}: {reason}".strip() in page.text, file
        assert f"{root / file}: {reason}" in table, file


def test_commands_and_runs_that_did_not_record_theirs(zoo: Any) -> None:
    root, page, _, table = zoo
    assert "python -m gan_lightning seed=0" in page.text
    assert f"The command was not recorded; its settings are in {root / 'old' / 'config.yaml'}." in page.text
    assert "```sh\npython -m gan_lightning seed=0\n```" in table
    assert f"```sh\n{HOSTILE}\n```" in table


def test_samples_of_pictures_and_of_texts(zoo: Any) -> None:
    _, page, _, _ = zoo
    stops = next(some["data-stops"] for _, some in page.elements if some.get("id") == "stop")
    assert stops == "0 1000 2000"
    assert "2,000 images, fid 1.25" in page.text
    assert "1,000 images, fid 3" in page.text
    writing = [some["data-stops"] for tag, some in page.elements if some.get("class") == "frame"]
    assert Counter(" ".join(map(str, writing)).split()) == {"0": 3, "1": 3, "2": 3}  # every run at every stop
    assert page.text.count("a sentence of <script>") == 10
    assert any((some.get("alt") or "").startswith("real samples") for tag, some in page.elements if tag == "img")


def test_by_best(zoo: Any) -> None:
    root, *_ = zoo
    page, _, table = made(root, "by=best")
    assert page.column("run")[0] == "better_once"
    assert "best fid of training" in table


def test_runs_are_named_in_every_way_and_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "sweep/000", "sweep/001_seed2"):
        write_run(tmp_path / "outputs" / name)
    (tmp_path / "outputs" / "latest").symlink_to("sweep/000")
    (tmp_path / "outputs" / "again").symlink_to(".")  # a circle

    def names(given: str) -> list[str]:
        return sorted(made(tmp_path / "outputs", runs=given)[0].column("run"))

    assert names("outputs/a") == ["a"]
    assert names("latest") == ["000"]
    assert names("outputs/sweep") == ["000", "001_seed2"]
    assert names("[outputs/a,outputs/b]") == ["a", "b"]
    assert names("outputs/[ab]") == ["a", "b"]
    assert names("[outputs/a,outputs/latest,'outputs/sweep/00*',outputs/sweep/000]") == [
        "a",
        "sweep/000",
        "sweep/001_seed2",
    ]
    assert names("outputs") == ["a", "b", "sweep/000", "sweep/001_seed2"]
    (tmp_path / "outputs" / "latest").unlink()
    for given, said in (
        ("latest", "no run under"),
        ("nowhere", "runs=nowhere: there is no such folder"),
        ("outputs/x*", "there is no such folder"),
        ("outputs/a/config.yaml", "is a file"),
        ("[]", "names no folder"),
    ):
        with pytest.raises(UserError, match=re.escape(said)):
            run([f"runs={given}"])
    (tmp_path / "hollow" / "x").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no run \(config.yaml, .* in hollow or below .*an empty folder"):
        run(["runs=hollow"])


def test_output_is_refused_before_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write_run(tmp_path / "a")
    place = tmp_path / "report"
    assert main(["report", f"runs={one}", f"output={place}"]) == 0
    said = capsys.readouterr().out
    assert "1 run compared; files left out whole or in part: 0" in said
    assert f"{place / 'report.html'} (" in said
    assert sorted(file.name for file in place.iterdir()) == ["report.html", "report.md"]
    for output, words in (
        (place, "overwrite=true"),
        (one / "x", "lies in the run"),
        (one / "config.yaml", "is a file"),
    ):
        with pytest.raises(UserError, match=words):
            run([f"runs={one}", f"output={output}"])
    assert not (one / "x").exists()
    with pytest.raises(UserError, match="score=kid: no run has it; there are fid"):
        run([f"runs={one}", f"output={tmp_path / 'other'}", "score=kid"])
    assert not (tmp_path / "other").exists()


def test_scores_that_were_made_in_different_ways_have_ranks_of_their_own(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for index in range(3):
        write_run(root / f"a{index}", [1.0 + index])
    other = write_run(root / "b", [0.5])
    (other / "scores.jsonl").write_text(record("fid", 0.5, 1000, n_fake=64) + record("fid", 0.1, 1000, "evaluate"))
    normed = write_run(root / "c", [9.0])  # its network has batch norm: the same way
    (normed / "scores.jsonl").write_text(record("fid", 9.0, 1000, batch_norm="estimated over 512 samples"))
    page, text, table = made(root)
    assert page.column("run") == ["a0", "a1", "a2", "c", "b"]
    assert page.column("rank") == ["1", "2", "3", "4", "B1"]
    assert page.column("made") == ["A", "A", "A", "A", "B"]
    assert "The scores were made in 2 ways" in page.text
    assert "**The scores were made in 2 ways, and only those of one way compare**" in table
    assert "B (1 run): n_fake 64" in page.text
    assert "B (1 run): n_fake 64" in table
    assert "1 score of the command evaluate, not ranked here" in page.text
    write_run(root / "d", [1.5])
    assert "made in 2 ways" in text
    assert "made" not in made(root, runs=f"[{root / 'a0'},{root / 'd'}]")[0].rows["runs"][0]


def test_seeds_are_averaged(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    values = {1e-4: [2.0, 2.5, 3.25], 1e-3: [1.5, 4.0, 5.0]}
    for lr, some in values.items():
        for seed, value in enumerate(some):
            write_run(root / f"{lr}_seed{seed}", [value], lr=lr, seed=seed)
    page, _, table = made(root)
    first = [row[1:5] for row in page.rows["groups"][1:]]
    for row, some in zip(first, values.values(), strict=True):
        assert row[1] == "3"
        assert float(row[2]) == pytest.approx(statistics.fmean(some), abs=5e-4)
        assert float(row[3]) == pytest.approx(statistics.stdev(some), abs=5e-2)
    assert page.column("run")[0] == "0.001_seed0"  # the best run, of the worse settings
    assert "## Seeds averaged" in table
    pooled = math.sqrt(sum(statistics.variance(some) for some in values.values()) / 2)
    assert f"({0.5 / pooled:.1f} standard deviations over seeds)" in page.text
    page, _, table = made(root, runs=str(root / "*_seed0"))
    assert "groups" not in page.rows
    assert "no settings were run with several seeds" in table


def test_columns_for_what_differs_once(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for index in range(3):
        one = write_run(root / f"{index}", [2.0], lr=10.0**-index, seed=index)
        text = settings(10.0**-index, index, loss="hinge" if index else "x" * 100)
        (one / "config.yaml").write_text(text.replace("critic_steps: 1", f"critic_steps: {index + 1}"))
    page, _, table = made(root)
    heading = page.rows["runs"][0]
    assert heading[-3:] == ["model.generator_optimizer.lr", "model.loss", "step.critic_steps"]
    assert "seed" in heading
    assert page.column("model.loss")[0] in ("x" * 27 + "…", "hinge")
    assert any(some.get("title") == "x" * 100 for tag, some in page.elements if tag == "td")
    assert "model.step.critic_steps" not in table


def test_importance_of_settings(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for index in range(12):
        one = write_run(root / f"{index:02}", [float(index // 3)], lr=10.0 ** -(index // 3))
        (one / "config.yaml").write_text(settings(10.0 ** -(index // 3), 0, width=str(8 * (index % 3))))
    write_run(root / "failed", [100.0], lr=7.0, state="failed")
    page, _, table = made(root)
    shares = dict(re.findall(r"^- (\S+): (\d+)% ± \d+%$", table, re.MULTILINE))
    assert int(shares["model.generator_optimizer.lr"]) > 90
    assert int(shares["model.width"]) < 10
    assert "12 settings of 12 runs, seeds averaged; left out: 1 failed" in page.text
    few, _, table = made(root, runs=str(root / "0[0-4]"))
    assert "it takes 8 different settings with a score (5 settings of 5 runs" in few.text
    assert "Not computed: it takes 8" in table


@pytest.mark.parametrize(
    ("count", "most", "side"),
    [(50, 5, 60), pytest.param(50, 5, 180, marks=pytest.mark.slow), pytest.param(200, 10, 180, marks=pytest.mark.slow)],
)
def test_many_runs_make_a_page_of_bounded_size(tmp_path: Path, count: int, most: int, side: int) -> None:
    root, pictures = tmp_path / "runs", [noise(side, seed) for seed in range(3)]
    for index in range(count):
        values = [5 - place / 10 + index % 7 for place in range(6 if side < 100 else 12)]
        write_run(root / f"{index:03}", values, 1e-4 * (1 + index), index, rows=300, picture=pictures[index % 3])
    began = time.monotonic()
    page, text, _ = made(root)
    assert time.monotonic() - began < 60
    assert len(text) < most * 2**20
    assert len(page.rows["runs"]) == count + 1
    figures = sum(tag == "figure" and "data-run" in some for tag, some in page.elements)
    assert figures == min(count, 50)
    assert ("samples of the first 50 runs only, of 200" in page.text) == (count > 50)


KINDS = {
    "gan": ["model=gan"],
    "points": ["model=gan", "data=ring", "network@model=mlp_points"],
    "texts": ["model=seqgan"],
    "sounds": ["model=wavegan", "data=tones"],
}


@pytest.mark.parametrize("kinds", [["gan"], pytest.param(list(KINDS), marks=pytest.mark.slow)])
def test_real_runs(tmp_path: Path, kinds: list[str]) -> None:
    root = tmp_path / "runs"
    for name in kinds:
        assert main([*KINDS[name], "trainer=debug", "trainer.accelerator=cpu", f"hydra.run.dir={root / name}"]) == 0
    page, text, table = made(root)
    assert sorted(page.column("run")) == sorted(kinds)
    for name in kinds:
        place = page.column("run").index(name)
        lines = [json.loads(line) for line in (root / name / "scores.jsonl").read_text().splitlines()]
        last = {line["metric"]: f"{line['value']:.4g}" for line in lines if line["value"] is not None}
        metric = page.rows["runs"][0][4].removesuffix(" last")
        assert page.column(f"{metric} last")[place] == last.get(metric, "")
        assert last.get(metric, "") in table
        assert page.column("images")[place] == f"{lines[-1]['images']:,}"
        figure = next(some for tag, some in page.elements if tag == "figure" and some.get("data-run") == str(place))
        assert figure
    assert "is not there" not in table
    assert text.count("data:image/webp") >= 2
