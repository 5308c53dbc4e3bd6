"""Broken images, sounds and texts, through the commands that read them: an exit code of 2 and their names, or they are
read; never a traceback."""

import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gan_lightning.__main__ import main
from gan_lightning.commands import train
from gan_lightning.data.decoding import Decoder, Unreadable
from gan_lightning.data.vocabulary import read_lines
from gan_lightning.data.wav import read_wav
from gan_lightning.errors import UserError
from tests.attacks.broken_files import bomb, encoded, images, pixels, sounds, texts, wav
from tests.attacks.test_bad_input import Accepted, began, rarely
from tests.stored import store

NO_CACHE = ["data.cache=off", "data.image_size=16"]
PAIRED = ["data=paired_folder", "model=pix2pix", "data.cache=off", "data.image_size=64"]
HOLES = ["data=inpainting_folder", "model=deepfill", *NO_CACHE]
LARGER = ["data=superres_folder", "model=srgan", "data.image_size=32"]
SPEECH = ["data=speech_folder", "model=wavegan", "data.labels=none", "data.rate=8000"]
TEXT = ["data=text_file", "model=seqgan"]
Route = Callable[[Path, Path], list[str]]  # a folder of broken files, and one for what is made -> arguments
ROUTES: dict[str, Route] = {
    "image_folder": lambda data, made: ["data=image_folder", f"data.root={data}", *NO_CACHE],
    "paired_folder": lambda data, made: [*PAIRED, f"data.root={data}"],
    "two paired folders": lambda data, made: [*PAIRED, f"data.root_a={data}", f"data.root_b={data}"],
    "inpainting_folder": lambda data, made: [*HOLES, f"data.root={data}"],
    "alpha": lambda data, made: [*HOLES, f"data.root={data}", "data.masks=alpha"],
    "superres_folder": lambda data, made: [*LARGER, f"data.root={data}"],
    "prepare": lambda data, made: ["prepare", f"output={made}", f"data.root={data}", "data.workers=1"],
    "evaluate": lambda data, made: ["evaluate", f"real={data}", f"fake={data}", "scores.names=[psnr]"],
}


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(train, "build_callbacks", began)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def answered(arguments: list[str], capsys: pytest.CaptureFixture[str], *names: str) -> bool:
    """Whether files were refused, in a message that names one of these; they may also be read."""
    try:
        code = main(arguments)
    except Accepted:
        code = 0
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "Warning" not in said, said
    assert code in (0, 2), arguments
    if code == 0:
        return False
    assert any(name in said for name in names), (arguments, said)
    return True


def written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def refused_images(files: dict[str, bytes], folder: Path) -> Iterator[str]:
    """The names of those that the decoder cannot read: it raises Unreadable and nothing else."""
    decoder = Decoder(16, 3, "crop", "lanczos")
    for name in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                decoder.decode(folder / name)
            except Unreadable:
                yield name


def test_there_are_hundreds_and_the_same_for_every_seed() -> None:
    for made, fewest in ((images, 150), (sounds, 110), (texts, 30)):
        assert len(made()) >= fewest
        assert made() == made()
        assert made() != made(1)


def test_every_image_is_read_or_said_to_be_unreadable(tmp_path: Path) -> None:
    files = images()
    refused = list(refused_images(files, written(tmp_path / "images", files)))
    assert len(refused) > 80
    assert {"empty.png", "says50000.png", "script.png", "drawing.jpg", "float.tif"} <= set(refused)
    assert {"cmyk.jpg", "animated.webp", "one.png"}.isdisjoint(refused)


def test_every_sound_is_read_or_said_to_be_unreadable(tmp_path: Path) -> None:
    files = sounds()
    refused: dict[str, str] = {}
    folder = written(tmp_path / "sounds", files)
    for name in files:
        try:
            read_wav(folder / name, 8000)
        except UserError as error:
            refused[name] = str(error)
    assert all(name in said and "\n" not in said for name, said in refused.items())
    assert len(refused) > 50
    assert {"channels0.wav", "rate0.wav", "block65535.wav"} <= set(refused)


def test_every_text_is_read_or_said_to_be_unreadable(tmp_path: Path) -> None:
    files = texts()
    refused: dict[str, str] = {}
    folder = written(tmp_path / "texts", files)
    for name in files:
        try:
            read_lines("data.root", folder / name)
        except UserError as error:
            refused[name] = str(error)
    assert all(name in said and "\n" not in said for name, said in refused.items())
    assert {"empty.txt", "utf16.txt", "latin.txt", "surrogates.txt", "blank.txt", "overlong.txt"} <= set(refused)
    assert {"mark.txt", "words.txt", "endless.txt"}.isdisjoint(refused)


@pytest.mark.parametrize("route", rarely(ROUTES, 1))
def test_a_folder_of_them_through_a_command(route: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {name: content for name, content in images().items() if not name.startswith("textbomb")}
    folder = written(tmp_path / "images", files)
    if "pair" in route:  # one name for two files is another mistake
        for path in folder.iterdir():
            path.rename(path.with_name(path.name.replace(".", "_") + path.suffix))
    names = [path.name for path in folder.iterdir()]
    assert answered(ROUTES[route](folder, tmp_path / "made"), capsys, *names)
    assert not list(Path.cwd().iterdir())


@pytest.mark.slow
def test_a_folder_of_sounds_and_a_file_of_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sounds()
    assert answered([*SPEECH, f"data.root={written(tmp_path / 'sounds', files)}"], capsys, *files)
    files = {name: content for name, content in texts().items() if name in ("utf16.txt", "zeros.txt", "mark_alone.txt")}
    folder = written(tmp_path / "texts", files)
    for name in files:
        answered([*TEXT, f"data.root={folder / name}"], capsys, name, "data.")
    assert not list(Path.cwd().iterdir())


@pytest.mark.slow
def test_images_that_are_to_be_found_or_translated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only what is broken is said: the others are translated."""
    some = {name: content for name, content in images().items() if name.startswith(("cut", "head", "says", "zeros"))}
    folder = written(tmp_path / "images", {name.replace(".", "_") + f".{name[-3:]}": some[name] for name in some})
    names = [path.name for path in folder.iterdir()]
    model = store("pix2pix", tmp_path / "translator")
    assert answered(["translate", f"checkpoint={model}", f"input={folder}", "output=out"], capsys, *names)
    shutil.rmtree("out")
    model = store("gan", tmp_path / "run")
    assert answered(["project", f"checkpoint={model}", f"input={folder}"], capsys, *names)
    assert not list(Path.cwd().iterdir())


def test_bombs_are_not_unpacked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """20,000 × 20,000 pixels in 50 KB, and a head that claims 4 GB of sound."""
    folder = written(tmp_path / "images", {"bomb.png": bomb(), "good.png": encoded(pixels(random.Random(0)), "PNG")})
    assert answered(ROUTES["image_folder"](folder, tmp_path), capsys, "bomb.png")
    assert answered(ROUTES["prepare"](folder, tmp_path / "made"), capsys, "bomb.png")
    folder = written(tmp_path / "sounds", {"bomb.wav": wav(claimed=2**32 - 2)})
    assert len(read_wav(folder / "bomb.wav", 8000)) == 400  # what is there, as of a stream that was cut off


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_each_image_by_itself(route: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, (name, content) in enumerate(images().items()):
        folder = written(tmp_path / str(number), {name: content})
        answered(ROUTES[route](folder, tmp_path / f"made{number}"), capsys, name, "image_size", "data.", "images")


@pytest.mark.slow
def test_each_sound_and_text_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, (name, content) in enumerate(sounds().items()):
        folder = written(tmp_path / str(number), {name: content})
        answered([*SPEECH, f"data.root={folder}"], capsys, name)
    for name, content in texts().items():
        folder = written(tmp_path / name, {name: content})
        answered([*TEXT, f"data.root={folder / name}"], capsys, name, "data.")
