"""Files from strangers: nothing in them is executed, nothing leads out of the folder that a user named.

A canary is a file that would be there if something had run.
"""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import gan_lightning
from gan_lightning.__main__ import main
from gan_lightning.checkpoint import AtomicCheckpointIO, read_checkpoint
from gan_lightning.commands import train
from gan_lightning.commands.pictures import safe_name
from gan_lightning.commands.sample import class_folders
from gan_lightning.config import check, compose
from gan_lightning.config.signatures import locate
from gan_lightning.errors import UserError
from gan_lightning.metrics.extractors import read_weights
from gan_lightning.networks.oracle import OracleLSTM
from tests.attacks.test_bad_input import Accepted, began, rarely
from tests.fake_data import write_photos
from tests.stored import store

TARGETS = [
    "os.system",
    "subprocess.Popen",
    "builtins.eval",
    "builtins.open",
    "torch.hub.load",
    "torch.load",
    "torch.nn.modules.module.torch.hub.load",
    "gan_lightning.paths.os.system",
    "gan_lightning.paths.Path",
    "gan_lightning.commands.train.fit",
    "gan_lightning.__main__.main",
    "gan_lightning.commands.sweep.signal.signal",
    "gan_lightning.checkpoint.torch.load",
    "gan_lightning.models.gan.GAN.load_from_checkpoint",
    "gan_lightning.models.gan.GAN.__init__.__globals__",
    "lightning.pytorch.loggers.csv_logs.ExperimentWriter",
    "lightning.pytorch.cli.LightningCLI",
    "hydra.utils.get_method",
    "_target_",
    "",
    "..",
    "gan_lightning.",
    "gan_lightning..paths",
    "gan_lightning/../os.system",
]
USES = {  # commands that read a checkpoint, which is the last argument
    "continue": ["train"],
    "weights": ["train", "data=digits", "model=gan", "data.image_size=8"],
    "sample": ["sample"],
    "evaluate": ["evaluate"],
    "export": ["export", "format=safetensors"],
    "compress": ["compress", "method=prune"],
    "translate": ["translate", "input=x.png"],
    "project": ["project", "input=x.png"],
}


class Canary:
    """What pickle would call."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.place}'",)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store("gan", tmp_path_factory.mktemp("stored") / "run")


@pytest.fixture(autouse=True)
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it would be; nothing is trained."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(train, "build_callbacks", began)
    Image.new("RGB", (8, 8)).save("x.png")
    return tmp_path / "canary"


def answer(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message of a command that refuses."""
    assert main(arguments) == 2, arguments
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def used(use: str, checkpoint: Path) -> list[str]:
    return [*USES[use], f"{'weights' if use == 'weights' else 'checkpoint'}={checkpoint}"]


@pytest.mark.parametrize("use", rarely(USES, 1))
def test_a_pickle_is_no_checkpoint(use: str, run: Path, canary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = read_checkpoint(run / "checkpoints" / "last.ckpt")
    path = canary.with_name("hostile.ckpt")
    AtomicCheckpointIO().save_checkpoint({**stored, "state_dict": {"generator": Canary(canary)}}, path)
    said = answer(used(use, path), capsys)
    assert "hostile.ckpt" in said
    assert not canary.exists()
    torch.load(path, weights_only=False)
    assert canary.exists()  # it would have bitten


def test_pickles_among_arrays_weights_and_caches(
    run: Path, canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bite = np.array([Canary(canary)], dtype=object)
    np.savez(tmp_path / "oracle.npz", embedding=bite)
    with pytest.raises(UserError, match=r"oracle\.npz"):
        OracleLSTM.of_file(tmp_path / "oracle.npz")
    torch.save({"a": Canary(canary)}, tmp_path / "weights.pth")
    for name in ("weights.pth", "weights.safetensors"):
        (tmp_path / name).write_bytes((tmp_path / "weights.pth").read_bytes())
        with pytest.raises(UserError, match="not a state dict"):
            read_weights(tmp_path / name)
    write_photos(tmp_path / "photos")
    prepare = ["prepare", "output=made", f"data.root={tmp_path / 'photos'}", "data.image_size=8", "data.workers=1"]
    assert main(prepare) == 0
    capsys.readouterr()
    for name in ("labels.npy", "numbers.npy", "shard_00000.npy"):
        kept = Path("made", name).read_bytes()
        np.save(Path("made", name), bite, allow_pickle=True)
        assert name in answer([*prepare, "verify=true"], capsys)
        said = answer(["data=image_folder", "data.root=made", "model=gan", "data.image_size=8"], capsys)
        assert "made" in said
        Path("made", name).write_bytes(kept)
    assert not canary.exists()


@pytest.mark.parametrize("content", rarely(["pickle", "noise", "empty", "names", "deep"], 1))
def test_poisoned_caches_are_made_again(
    content: str, canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file that a run and its scores leave in the user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_photos(tmp_path / "photos")
    arguments = ["data=image_folder", f"data.root={tmp_path / 'photos'}", "data.image_size=8", "model=gan"]
    with pytest.raises(Accepted):
        main(arguments)
    kept = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    torch.save(Canary(canary), tmp_path / "pickle")
    bad = {
        "pickle": (tmp_path / "pickle").read_bytes(),
        "noise": os.urandom(999),
        "empty": b"",
        "names": b'{"root": "/", "unreadable": {"../../x.png": "y"}}',
        "deep": b"[" * 10**5,
    }[content]
    assert {".uint8", ".json"} <= {path.suffix for path in kept}
    for path, whole in kept.items():
        path.write_bytes(bad)
        with pytest.raises(Accepted):
            main(arguments)
        if path.suffix == ".uint8":
            assert path.read_bytes() == whole
    assert not canary.exists()


@pytest.mark.parametrize("content", rarely(["shapes", "pickle"], 1))
def test_a_poisoned_cache_of_features(content: str, run: Path, canary: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", f"checkpoint={run}", "scores.names=[diversity]", "scores.samples=16"]
    arguments += [f"scores.cache={tmp_path / 'features'}", "scores.real_samples=16", "output=scores.jsonl"]
    code = main(arguments)
    assert code == 0
    for path in (tmp_path / "features").iterdir():
        if content == "pickle":
            torch.save({"features": Canary(canary)}, path)
        else:
            save_file({"features": torch.zeros(3, 1)}, path)
    assert main(arguments) == 0
    first, second = (json.loads(line) for line in Path("scores.jsonl").read_text().splitlines())
    assert first["value"] == second["value"]
    assert not canary.exists()


@pytest.mark.parametrize("target", TARGETS)
def test_only_classes_of_the_allow_list_are_found(target: str) -> None:
    with pytest.raises(UserError):
        locate(target)


@pytest.mark.parametrize(
    "target", [TARGETS[0], *(pytest.param(target, marks=pytest.mark.slow) for target in TARGETS[1:])]
)
def test_a_target_in_a_stored_configuration(
    target: str, run: Path, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = read_checkpoint(run / "checkpoints" / "last.ckpt")
    path = canary.with_name("hostile.ckpt")
    node = {"_target_": target, "_args_": [f"touch {canary}"], "_partial_": False}
    for place in ("generator", "generator_optimizer", "step"):
        config = {**stored["config"], "model": {**stored["config"]["model"], place: node}}
        AtomicCheckpointIO().save_checkpoint({**stored, "config": config}, path)
        assert f"model.{place}._target_={target}" in answer(["sample", f"checkpoint={path}"], capsys)
    assert "_target_" in answer([f"checkpoint={path}"], capsys)
    assert not canary.exists()


MISPLACED = [
    ("model", "gan_lightning.data.digits.Digits"),
    ("model", "torch.nn.Identity"),
    ("data", "gan_lightning.steps.Step"),
    ("trainer", "torch.nn.Identity"),
    ("model.generator", "gan_lightning.steps.Step"),
    ("model.step", "torch.nn.Identity"),
    ("logger.csv", "gan_lightning.steps.Step"),
]


@pytest.mark.parametrize("misplaced", rarely(MISPLACED, 2))
def test_a_class_in_the_wrong_place_is_not_made(
    misplaced: tuple[str, str], run: Path, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file may name any class of the allow-list: only what belongs in a place is made there."""
    key, target = misplaced
    stored = read_checkpoint(run / "checkpoints" / "last.ckpt")
    node: Any = stored["config"]
    for part in key.split(".")[:-1]:
        node[part] = dict(node.get(part) or {})
        node = node[part]
    node[key.rpartition(".")[2]] = {"_target_": target}
    path = canary.with_name("hostile.ckpt")
    AtomicCheckpointIO().save_checkpoint(stored, path)
    assert f"{key}._target_={target}: must be the class " in answer(["sample", f"checkpoint={path}"], capsys)


def test_interpolations_in_a_stored_configuration_are_text(
    run: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    stored = read_checkpoint(run / "checkpoints" / "last.ckpt")
    path = canary.with_name("hostile.ckpt")
    for text in ("${oc.env:SECRET}", "${hydra:runtime.cwd}", "${oc.decode:${oc.env:SECRET}}", "\\${oc.env:SECRET}"):
        for key in ("seed", "on_collapse"):
            AtomicCheckpointIO().save_checkpoint({**stored, "config": {**stored["config"], key: text}}, path)
            for command in (["sample", f"checkpoint={path}"], [f"checkpoint={path}"]):
                said = answer(command, capsys)
                assert f"{key}={text}" in said
                assert "hunter2" not in said


def broken_checkpoints(stored: dict[str, Any]) -> dict[str, Any]:
    """Checkpoints whose parts are missing or of another kind."""
    things: list[Any] = [None, 3, "x", [], {}, {"x": {}}, [[1]], torch.zeros(2), -1.5, {3: 4}]
    found: dict[str, Any] = {}
    for key in ("config", "state_dict", "counters", "class_names", "data"):
        found[f"without {key}"] = {name: value for name, value in stored.items() if name != key}
        found |= {f"{key} {number}": {**stored, key: thing} for number, thing in enumerate(things)}
    for key in stored["config"]:
        for number, thing in enumerate((torch.zeros(2), b"x", {1, 2}, (3, {"_target_": "os.system"}), {None: 1})):
            found[f"config.{key} {number}"] = {**stored, "config": {**stored["config"], key: thing}}
    return found


@pytest.mark.parametrize("every", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_checkpoints_with_parts_of_another_kind(
    every: int, run: Path, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = read_checkpoint(run / "checkpoints" / "last.ckpt")
    path, failed = canary.with_name("hostile.ckpt"), []
    for name, checkpoint in list(broken_checkpoints(stored).items())[::every]:
        AtomicCheckpointIO().save_checkpoint(checkpoint, path)
        try:
            code = main(["sample", f"checkpoint={path}", "count=1", "grid=false", f"output={canary.parent / name}"])
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")
        else:
            assert code in (0, 2)
            assert "Traceback" not in capsys.readouterr().err
    assert not failed, "\n".join(failed)


def test_a_checkpoint_that_unpacks_to_more(run: Path, canary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = canary.with_name("bomb.ckpt")
    with (
        zipfile.ZipFile(run / "checkpoints" / "last.ckpt") as whole,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out,
    ):
        for info in whole.infolist():
            out.writestr(info.filename, whole.read(info) + bytes(10**6) * (info.filename.endswith("/0")))
    assert "unpack" in answer(["sample", f"checkpoint={path}"], capsys)


# archives and folders of data


def picture() -> bytes:
    Image.new("RGB", (8, 8), "red").save("y.png")
    return Path("y.png").read_bytes()


NAMES = [
    "../../up.png",
    "/abs/x.png",
    "a/../../../up.png",
    "C:\\x.png",
    "..\\..\\up.png",
    "c/con.png",
    "a\nb.png",
    "d/" * 200 + "x.png",
]


def test_names_in_an_archive_never_become_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile("x.zip", "w") as archive:
        for name in [*NAMES, "link.png", "good.png"]:
            info = zipfile.ZipInfo(name)
            if name == "link.png":
                info.external_attr = 0o120777 << 16  # a symbolic link to what it holds
            archive.writestr(info, b"/etc/passwd" if name == "link.png" else picture())
    before = set(tmp_path.rglob("*"))
    arguments = ["prepare", "data.root=x.zip", "output=made", "data.image_size=8", "data.workers=1"]
    assert "link.png" in answer(arguments, capsys)
    assert main([*arguments, "data.skip_unreadable=true"]) == 0
    made = {path for path in tmp_path.rglob("*") if path not in before}
    assert made
    assert all(path.is_relative_to(tmp_path / "here" / "made") for path in made)


def test_an_archive_that_unpacks_to_a_thousand_times_as_much(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile("x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.bmp", picture()[:2] + bytes(2**27))
        archive.writestr("good.png", picture())
    said = answer(["prepare", "data.root=x.zip", "output=made", "data.image_size=8", "data.workers=1"], capsys)
    assert "bomb.bmp: 128 MiB when unpacked, of " in said


DEEP = "[" * 10**5
LABELS = [DEEP, f'{{"labels": {DEEP}', '{"labels": {"a": 1}}', '{"labels": [["a", 1e99]]}', "\0"]


@pytest.mark.parametrize("number", rarely(range(len(LABELS)), 1))
def test_labels_that_are_a_bomb(number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(tmp_path / "photos")
    (tmp_path / "photos" / "dataset.json").write_text(LABELS[number])
    for command in (["data=image_folder"], ["prepare", "output=made"]):
        assert "dataset.json" in answer([*command, f"data.root={tmp_path / 'photos'}", "data.image_size=32"], capsys)


LIES: list[dict[str, Any]] = [
    {"files": {"shard_/../../../../../etc/passwd": "x"}},
    {"files": {"/etc/passwd": "x"}},
    {"files": {"shard_00000.npy": "x", "../x": "y"}},
    {"files": [1]},
    {"images": "many"},
    {"images_per_shard": 0},
    {"images_per_shard": -5},
    {"classes": [3]},
    {"classes": {"a": 1}},
    {"settings": []},
    {"settings": {}},
    {"left_out": 3},
]


@pytest.mark.parametrize("change", rarely(LIES, 2))
def test_an_index_of_a_prepared_folder_that_lies(
    change: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photos(tmp_path / "photos", count=4)
    prepare = ["prepare", "output=made", f"data.root={tmp_path / 'photos'}", "data.image_size=8", "data.workers=1"]
    assert main(prepare) == 0
    capsys.readouterr()
    index = json.loads(Path("made/prepared.json").read_text())
    Path("made/prepared.json").write_text(json.dumps(index | change))
    said = answer(["data=image_folder", "data.root=made", "model=gan", "data.image_size=8"], capsys)
    assert "made" in said
    assert "root:" not in said
    if "settings" not in change:
        assert "prepared.json" in answer([*prepare, "verify=true"], capsys)


def test_nothing_is_written_through_links_in_a_prepared_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_photos(tmp_path / "photos", count=4)
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    prepare = ["prepare", "output=made", f"data.root={tmp_path / 'photos'}", "data.image_size=8", "data.workers=1"]
    (tmp_path / "photos" / "cats" / "bad.png").write_bytes(b"x")
    assert "bad.png" in answer(prepare, capsys)  # begun, not finished
    (tmp_path / "photos" / "cats" / "bad.png").unlink()
    Path("made/shard_00000.npy").unlink()
    names = [
        "shard_00000.npy",
        "shard_00000.part",
        "labels.npy",
        "labels.npy.part",
        "prepared.json.part",
        "images.jsonl",
    ]
    for name in [*names, "unreadable.txt.part", ".unfinished/journal.jsonl.part"]:
        Path("made", name).unlink(missing_ok=True)
        Path("made", name).symlink_to(victim)
    assert main(prepare) == 0
    assert victim.read_bytes() == b"mine"


def test_links_out_of_the_data_are_said_once_and_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Many data sets are farms of links: they are the user's own, and are read; one line says so."""
    write_photos(tmp_path / "elsewhere")
    (tmp_path / "photos").mkdir()
    for name in ("cats", "dogs"):
        (tmp_path / "photos" / name).symlink_to(tmp_path / "elsewhere" / name)
    (tmp_path / "photos" / "cats2").symlink_to(tmp_path / "photos" / "cats")
    with pytest.raises(Accepted):
        main(["data=image_folder", f"data.root={tmp_path / 'photos'}", "model=gan", "data.image_size=8"])
    said = [message for message in caplog.messages if "out of it" in message]
    assert len(said) == 1
    assert "3 links lead" in said[0]
    assert f"cats to {tmp_path / 'elsewhere' / 'cats'}; followed" in said[0]


# names that become files

CLASSES = [
    "../../x",
    "a/b",
    "/etc/x",
    "nul\0l",
    "x" * 5000,
    "照" * 300,
    "..",
    ".",
    "",
    "a\nb",
    "\ud800",
    "C:\\x",
    "~",
    "a",
    "A",
]


def test_names_of_classes_stay_in_their_folder(run: Path, tmp_path: Path) -> None:
    module = gan_lightning.load(run)
    module.classes, module.class_names = len(CLASSES), CLASSES
    places = [(tmp_path / "out" / name) for name in class_folders(module)]
    assert len({str(place).casefold() for place in places}) == len(CLASSES)
    for place in places:
        place.mkdir(parents=True)
        assert place.resolve().parent == tmp_path / "out"
    assert all(len(os.fsencode(safe_name(name))) <= 100 for name in CLASSES)


def test_an_exported_folder_with_a_hostile_configuration(
    run: Path, canary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", f"checkpoint={run}", "format=safetensors", "output=exported", "grid=false"]) == 0
    capsys.readouterr()
    about = json.loads(Path("exported/config.json").read_text())
    for target in ("os.system", "gan_lightning.commands.train.fit", "torch.hub.load"):
        about["config"]["model"]["generator"] = {"_target_": target, "_args_": [f"touch {canary}"]}
        Path("exported/config.json").write_text(json.dumps(about))
        assert f"model.generator._target_={target}" in answer(["sample", "checkpoint=exported"], capsys)
    torch.save(Canary(canary), "exported/generator.safetensors")
    assert "generator.safetensors" in answer(["sample", "checkpoint=exported"], capsys)
    Path("exported/generator.safetensors").rename("exported/generator.pt2")
    assert "which is not read" in answer(["sample", "checkpoint=exported"], capsys)
    assert not canary.exists()


def test_what_a_check_of_a_configuration_reads() -> None:
    """Nothing but what is in it."""
    with pytest.raises(UserError, match=r"seed=\$\{oc\.env:HOME\}: must be an integer"):
        check({**compose_defaults(), "seed": "${oc.env:HOME}"}, train.Settings)


def compose_defaults() -> dict[str, Any]:
    return check(compose("train", [], train.Settings), train.Settings)
