"""Folders of runs, sweeps and data from strangers: what a command that goes on in them reads, and where it writes."""

import copy
import hashlib
import json
import math
import os
import shutil
import socket
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan_lightning import status
from gan_lightning.__main__ import main
from gan_lightning.callbacks.alarms import Alarms, Watch
from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.callbacks.metrics import Metrics
from gan_lightning.callbacks.samples import save_film
from gan_lightning.checkpoint import AtomicCheckpointIO, read_checkpoint
from gan_lightning.commands import train
from gan_lightning.contents import DEEPEST, check_callbacks, check_progress
from gan_lightning.errors import UserError, readable
from gan_lightning.networks.oracle import KEYS, OracleLSTM
from gan_lightning.sweeps import study as studies
from gan_lightning.sweeps.space import read_space
from tests.attacks.test_bad_input import Accepted, began, rarely
from tests.fake_data import write_photos
from tests.stored import store

TINY = ["data=digits", "data.image_size=8", "model=gan", "model.generator.hidden=[8]", "model.discriminator.hidden=[8]"]
TINY += ["trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1"]
TINY += ["data.batch_size=64", "budget.images=128", "scores.names=[]", "samples.count=4"]
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert main([*TINY, f"hydra.run.dir={folder}"]) == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is a stranger's."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(trained, tmp_path / "run"))


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message, which is one line."""
    capsys.readouterr()
    assert main(arguments) == 2, arguments
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.count("\n") == 1, said
    return said


def contents(folder: Path) -> dict[str, bytes]:
    """All but what says who holds the folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def changed(run: Path, change: Change) -> Path:
    path = run / "checkpoints" / "last.ckpt"
    stored = copy.deepcopy(read_checkpoint(path))
    change(stored)
    AtomicCheckpointIO().save_checkpoint(stored, path)
    return path


# ---- checkpoints ----------------------------------------------------------------------------------------------------


def set_state(callback: str, **values: Any) -> Change:
    return lambda stored: stored["callbacks"][callback].update(values)


PROGRESS: dict[str, Change] = {
    "a name that leads out": set_state("Checkpoints", also=["../../../victim"]),
    "an absolute name": set_state("Checkpoints", also=["/tmp/victim"]),
    "names that are none": set_state("Checkpoints", also=[3]),
    "sizes of events": set_state("Checkpoints", events={"x": "y"}),
    "a callback": lambda stored: stored["callbacks"].update(Alarms={"gradients": 3}),
    "callbacks": lambda stored: stored.update(callbacks=[1]),
    "optimizers": lambda stored: stored.update(optimizer_states=[{}]),
    "an optimizer's numbers": lambda stored: stored["optimizer_states"][0]["state"][0].update(exp_avg="x"),
    "schedules": lambda stored: stored.pop("lr_schedulers"),
    "a version": lambda stored: stored.update({"pytorch-lightning_version": "x"}),
    "metrics": lambda stored: stored.update(metrics=[3]),
    "counters": lambda stored: stored.update(counters={}),
}


@pytest.mark.parametrize("name", rarely(PROGRESS, 3))
def test_progress_that_is_none_is_refused_before_anything_is_written(
    name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = run.parent / "victim"
    victim.write_text("mine")
    changed(run, PROGRESS[name])
    before = contents(run)
    assert "last.ckpt" in refused([f"checkpoint={run}", "budget.images=192"], capsys)
    assert contents(run) == before
    assert victim.read_text() == "mine"


def test_what_runs_do_write_is_never_refused() -> None:
    """Samples are endlessly diverse beside real images that are all alike; Lightning has versions between releases."""
    alarms = Alarms("warn", Metrics(), None, Checkpoints(), print)
    stored = asdict(Watch(most_diverse=math.inf))
    check_callbacks(Path("last.ckpt"), {"callbacks": {"Alarms": stored}}, [alarms])
    assert alarms.watch.most_diverse == math.inf
    for version in ("2.6", "2.6.6", "2.6.0rc1", "2.6.0dev", "2.6.0.dev20260101", "2.5.0.post0", "2.6.0+local.1"):
        check_progress(Path("last.ckpt"), {"counters": {"images": 0}, "pytorch-lightning_version": version})


def ten_to_the(power: int) -> list[Any]:
    """So many values in a file of some hundred bytes: lists that stand ten times in the next one."""
    found: list[Any] = ["x"] * 10
    for _ in range(power - 1):
        found = [found] * 10
    return found


@pytest.mark.parametrize("part", rarely(["config", "class_names", "data", "counters"], 1))
def test_lists_that_unfold_to_more_than_any_memory_holds(
    part: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(run, lambda stored: stored.update({part: {**stored["config"], "on_collapse": ten_to_the(30)}}))
    assert path.stat().st_size < 10**6
    assert f"{part}: has more than" in refused(["sample", f"checkpoint={run}"], capsys)


def test_lists_in_lists_without_end(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep: list[Any] = []
    for _ in range(DEEPEST):
        deep = [deep]
    changed(run, lambda stored: stored["config"].update(on_collapse=deep))
    assert f"{DEEPEST} levels" in refused(["sample", f"checkpoint={run}"], capsys)


@pytest.mark.parametrize("arguments", rarely([["sample"], ["budget.images=192"], ["evaluate"]], 2))
def test_networks_that_are_larger_than_their_file_are_never_made(
    arguments: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def widen(stored: dict[str, Any]) -> None:
        stored["config"]["model"]["generator"]["latent_size"] = 10**12

    changed(run, widen)
    assert "its networks would have" in refused([*arguments, f"checkpoint={run}"], capsys)


def test_a_discriminator_that_an_export_invents(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", f"checkpoint={run}", "format=safetensors", "output=made", "grid=false"]) == 0
    about = json.loads(Path("made/config.json").read_text())
    about["config"]["model"]["discriminator"]["hidden"] = [10**6, 10**6]
    Path("made/config.json").write_text(json.dumps(about))
    assert "its networks would have" in refused(["sample", "checkpoint=made"], capsys)


OTHERS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "TorchScript": lambda path: torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(path)),
    "a state dict": lambda path: torch.save(torch.nn.Linear(2, 2).state_dict(), path),
    "the old format": lambda path: torch.save({}, path, _use_new_zipfile_serialization=False),
    "ONNX": lambda path: path.write_bytes(b"\x08\x07\x12\x07pytorch" + bytes(99)),
}


@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders")
@pytest.mark.parametrize("kind", rarely(OTHERS, 2))
def test_other_files_are_no_checkpoints(kind: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run.parent / "other.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is of yesterday
        OTHERS[kind](path)
    teacher = f"+model.imitation={{_target_: gan_lightning.imitation.Imitation, teacher: {path}}}"
    for arguments in ([f"checkpoint={path}"], ["sample", f"checkpoint={path}"], [*TINY, f"weights={path}"]):
        assert "other.pt" in refused(arguments, capsys)
    assert "other.pt" in refused([*TINY, teacher], capsys)
    assert not Path("outputs").exists()


# ---- what lies beside them ------------------------------------------------------------------------------------------

JUNK = [b"[" * 10**5 + b"\n", bytes(range(256)) * 9, b"[1]\n", b"null\n", b"x" * 300_000 + b"\n", b"images\n1e3\n"]
JUNK += [b'{"source":"train"}\n', b'{"source":"train","metric":"x","images":"y","value":1}\n']


BESIDE = [
    (file, number) for file in ("scores.jsonl", "metrics.csv", "status.json", ".lock") for number in range(len(JUNK))
]


@pytest.mark.parametrize("place", rarely(BESIDE, 1))
def test_files_of_a_run_that_are_none(place: tuple[str, int], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run goes on with others, or is refused by the file's name; what cannot be read is not overwritten then."""
    file, junk = place[0], JUNK[place[1]]
    (run / file).write_bytes(junk)
    code = main([f"checkpoint={run}", "budget.images=192"])
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert code == 0 or (code == 2 and file in said), (code, said)
    assert code == 0 or (run / file).read_bytes() == junk


STATUS = [{"pid": 2**70}, {"pid": -1}, {"commands": 3}, {"commands": [3]}, {"alarms": None}, {"host": 3}, {"state": {}}]


def test_a_status_that_is_none(tmp_path: Path) -> None:
    right = {"state": "running", "host": socket.gethostname(), "pid": 1}
    (tmp_path / status.FILE).write_text(json.dumps(right))
    assert status.read(tmp_path) is not None
    for change in STATUS:
        (tmp_path / status.FILE).write_text(json.dumps({**right, **change}))
        assert status.read(tmp_path) is None, change
    (tmp_path / status.FILE).write_text("[" * 10**5)
    assert status.read(tmp_path) is None


LINKS = [".lock", "traceback.txt", "metrics.part", "scores.part", "metrics.csv", "events", "config.yaml", "status.json"]


@pytest.mark.parametrize("name", rarely(LINKS, 1))
def test_nothing_is_written_through_links_in_a_run(name: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    victim = run.parent / "victim"
    if name == "events":
        name = next(run.glob("events*")).name
    kept = (run / name).read_bytes() if (run / name).exists() else b""
    victim.write_bytes(mine := kept + b"0\n" * 9)
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(victim)
    code = main([f"checkpoint={run}", "budget.images=192"])
    assert code in (0, 2)
    assert victim.read_bytes() == mine
    assert code == 0 or f"{name}: is a link to {victim}" in capsys.readouterr().err


def test_scores_are_not_added_through_a_link(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    victim = run.parent / "victim"
    victim.write_text("mine\n")
    (run / "scores.jsonl").symlink_to(victim)
    how = ["scores.names=[diversity]", "scores.samples=8", "scores.real_samples=8"]
    assert main(["evaluate", f"checkpoint={run}", *how]) == 2
    assert "scores.jsonl: is a link" in capsys.readouterr().err
    assert victim.read_text() == "mine\n"


def test_samples_that_are_no_pictures_are_left_out_of_the_film(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("L", (4, 4), number).save(tmp_path / f"e0000-s0000000{number}_ema.png")
    (tmp_path / "e0000-s00000001_ema.png").write_bytes(b"%!PS")
    save_film(tmp_path)
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 2  # type: ignore[attr-defined]  # a GIF has it
    (tmp_path / "film.gif").unlink()
    (tmp_path / "e0000-s00000002_ema.png").write_bytes(b"")
    save_film(tmp_path)
    assert not (tmp_path / "film.gif").exists()


# ---- sweeps and data ------------------------------------------------------------------------------------------------


def test_a_study_can_say_nothing_but_what_is_searched() -> None:
    """Its values are typed into Hydra: the name of a group may lead to any file."""
    space = read_space(["model=gan,dcgan", "data.batch_size=range(8,33,8)"])
    assert space.overrides({"model": "gan", "data.batch_size": 8}) == ["model=gan", "data.batch_size=8"]
    for values in ({"model": "../../../../tmp/x"}, {"model": "${oc.env:HOME}"}, {"data.batch_size": 7}, {}):
        with pytest.raises(UserError, match="not searched"):
            space.overrides({"model": "gan", "data.batch_size": 8, **values} if values else {})


@pytest.mark.parametrize("damage", ["facts", "cut"])
def test_a_study_that_is_none(damage: str, tmp_path: Path) -> None:
    facts = {"objective": "diversity"}
    study = studies.begin(tmp_path, facts, [])
    if damage == "facts":
        study.set_user_attr("facts", 3)
    else:
        (tmp_path / studies.FILE).write_bytes((tmp_path / studies.FILE).read_bytes()[:9000])
    with pytest.raises(UserError, match=r"sweep with other settings|cannot be used"):
        studies.begin(tmp_path, facts, [])


def npy(shape: tuple[int, ...], kind: str, content: bytes = b"") -> bytes:
    """An array whose head may say what is not so."""
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head + content


ARRAYS = [
    b"",
    npy((10**6, 10**6), "<i8"),
    npy((4,), "<i8", b"\x7f" * 32),
    npy((4,), "<U9", bytes(144)),
    npy((4,), "|O"),
]


@pytest.mark.parametrize("file", rarely(["shard_00000.npy", "labels.npy", "numbers.npy"], 2))
def test_arrays_of_a_prepared_folder_that_lie(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With digests that fit: they come from the same stranger."""
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos", count=2)
    prepare = ["prepare", "output=made", f"data.root={tmp_path / 'photos'}", "data.image_size=8", "data.workers=1"]
    assert main(prepare) == 0
    for content in ARRAYS:
        Path("made", file).write_bytes(content)
        index = json.loads(Path("made/prepared.json").read_text())
        index["files"][file] = hashlib.sha256(content).hexdigest()
        Path("made/prepared.json").write_text(json.dumps(index))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's, of sizes beyond all numbers
            said = refused(["data=image_folder", "data.root=made", "model=gan", "data.image_size=8"], capsys)
        assert "made" in said


def test_parameters_that_claim_or_unpack_to_more_than_there_is(tmp_path: Path) -> None:
    for name, content in (("claims", npy((10**6, 10**6), "<f4")), ("bomb", npy((2**27,), "|u1", bytes(2**27)))):
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w", zipfile.ZIP_DEFLATED) as file:
            for number, key in enumerate(KEYS):
                file.writestr(f"{key}.npy", content if number == 0 else npy((1,), "<f4", bytes(4)))
        with pytest.raises(UserError, match=rf"{name}\.npz: .*(allocate|unpack)"):
            OracleLSTM.of_file(tmp_path / f"{name}.npz")


LINKED: dict[str, list[str]] = {
    "data.root_b": ["data=paired_folder", "model=pix2pix", "data.image_size=64", "data.root_a=a", "data.root_b=b"],
    "data.mask_root": ["data=inpainting_folder", "model=deepfill", "data.masks=files", "data.root=a"],
    "data.root": ["data=superres_folder", "model=srgan", "data.image_size=32", "data.root=b"],
    "fake": ["evaluate", "real=a", "fake=b", "scores.names=[psnr]"],
}


@pytest.mark.parametrize("key", rarely(LINKED, 0))
def test_links_out_of_every_kind_of_data_are_said(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "build_callbacks", began)
    for folder in ("a", "elsewhere"):
        Path(folder).mkdir()
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
            pixels[:8, :8] = 255
            Image.fromarray(pixels).save(Path(folder, f"{number}.png"))
    if "mask" in key:
        for path in Path("elsewhere").iterdir():
            Image.fromarray(np.eye(64, dtype=np.uint8) * 255).save(path)
    Path("b").mkdir()
    for path in Path("elsewhere").iterdir():
        Path("b", path.name).symlink_to(path.absolute())
    more = ["data.mask_root=b", "data.image_size=64"] if "mask" in key else []
    with suppress(Accepted):
        assert main([*LINKED[key], *more]) == 0
    assert [message for message in caplog.messages if f"{key}=" in message and "4 links lead out of it" in message]


def test_names_of_files_do_not_command_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "\x1b]0;x\x07\u202e\x85.txt"
    (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    said = refused(["data=text_file", "model=seqgan", f"data.root={name}"], capsys)
    assert r"data.root=\x1b]0;x\x07\u202e\x85.txt: the file is empty" in said
    assert readable("two\nlines of 照片, ë and 😀") == "two\nlines of 照片, ë and 😀"


def test_a_fresh_run_leaves_the_files_of_others(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "film.mkv.part").write_text("half of a download")
    assert main([*TINY, f"hydra.run.dir={tmp_path}"]) == 0
    assert (tmp_path / "film.mkv.part").exists()


def test_a_stored_run_is_what_these_tests_need(tmp_path: Path) -> None:
    """What is refused above is not refused when it is right."""
    run = store("gan", tmp_path / "run")
    assert main(["sample", f"checkpoint={run}", "count=1", "grid=false", f"output={tmp_path / 'out'}"]) == 0


# ---- tar files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar_files_are_not_unpacked(
    mode: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the data itself they are refused by name; among images they are none."""
    inside = tmp_path / "work" / "inside"
    write_photos(inside / "photos", 20)
    monkeypatch.chdir(inside)
    archive = inside / ("data.tar.gz" if mode == "w:gz" else "data.tar")
    with tarfile.open(archive, mode) as file:
        for name in ("../escaped.png", str(tmp_path / "absolute.png")):
            file.add(next((inside / "photos").rglob("*.png")), name)
    said = refused(["data=image_folder", f"data.root={archive}", "data.image_size=16", "model=gan"], capsys)
    assert str(archive) in said
    shutil.copy(archive, inside / "photos")
    small = [*TINY, "data=image_folder", "data.root=photos", "data.image_size=16", "data.batch_size=8"]
    assert main([*small, "budget.images=16", "hydra.run.dir=run"]) == 0
    assert not [*tmp_path.rglob("escaped*"), *tmp_path.rglob("absolute*")]
