"""evaluate: scores of a checkpoint, and of two folders of images; samples beside their nearest training images."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from gan_lightning.callbacks.samples import beside_nearest
from gan_lightning.commands import evaluate, sample, train
from gan_lightning.commands.evaluate import files
from gan_lightning.data.pixels import to_float
from gan_lightning.data.sets import InMemory
from gan_lightning.errors import UserError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    small = ["model=gan", "model.generator.hidden=[16]", "model.discriminator.hidden=[16]", "trainer=debug"]
    assert train.run([*small, "trainer.accelerator=cpu", "scores=off", f"hydra.run.dir={folder}"]) == 0
    return folder


def digits() -> Tensor:
    """uint8 (1797, 8, 8)."""
    return (torch.from_numpy(np.asarray(load_digits(return_X_y=True)[0])).view(-1, 8, 8) * 15.9).to(torch.uint8)


def write(folder: Path, images: Tensor, suffix: str = "png") -> Path:
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        Image.fromarray(image.numpy()).save(folder / f"{index:04d}.{suffix}")
    return folder


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_checkpoint(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["fid", "kid", "inception_score", "mifid", "density_coverage", "memorisation", "path_length"]
    arguments = [f"checkpoint={trained}", "accelerator=cpu", f"scores.names=[{','.join(names)}]"]
    for seed in (0, 0, 1):
        assert evaluate.run([*arguments, "scores.samples=200", "scores.real_samples=300", f"scores.seed={seed}"]) == 0
    output = capsys.readouterr().out
    kept = records(trained / "scores.jsonl")
    assert len(kept) == 3 * 9
    assert {"fid", "kid", "path_length", "authenticity"} <= {str(record["metric"]) for record in kept}
    assert {record["n_real"] for record in kept} == {300, 1438}  # memorisation: all
    assert {record["n_fake"] for record in kept} == {200}
    assert all(record["source"] == "evaluate" and record["step"] == 3 for record in kept)
    first, second, third = (kept[i : i + 9] for i in (0, 9, 18))
    assert first == second != third
    assert "digits v1" in output
    assert f"{first[0]['value']:.4g}" in output


def test_every_truncation_is_scored(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each as if it had been asked for alone, the last without any."""
    few = [f"checkpoint={trained}", "accelerator=cpu", "scores.names=[kid,diversity]", "scores.samples=100"]

    def scored(name: str, *arguments: str) -> list[dict[str, object]]:
        assert evaluate.run([*few, f"output={tmp_path / name}", *arguments]) == 0
        return records(tmp_path / name)

    swept = scored("swept.jsonl", "truncation=[0.1,1,null]")
    assert "truncation" in capsys.readouterr().out
    assert [record["truncation"] for record in swept] == [0.1, 0.1, 1.0, 1.0, None, None]
    for number, one in enumerate(("truncation=0.1", "scores.truncation=1", "ema=true")):
        assert scored(f"{number}.jsonl", one) == swept[2 * number : 2 * number + 2]
    spread = [float(str(record["value"])) for record in swept if record["metric"] == "diversity"]
    assert spread[0] < spread[1] < spread[2]


def test_two_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = digits()
    real, fake = write(tmp_path / "real", images[:300]), write(tmp_path / "fake", images[300:600])
    noise = write(tmp_path / "noise", torch.randint(0, 256, (300, 8, 8), dtype=torch.uint8))
    found = {}
    for name, folder in (("fake", fake), ("noise", noise)):
        output = tmp_path / f"{name}.jsonl"
        digit = ["scores.extractor=digits", "accelerator=cpu", f"output={output}"]
        assert evaluate.run([f"real={real}", f"fake={folder}", *digit]) == 0
        found[name] = {record["metric"]: record["value"] for record in records(output)}
        assert {record["weights"] for record in records(output)} == {str(folder)}
    assert found["noise"]["fid"] > 10 * found["fake"]["fid"]  # type: ignore[operator]  # values are numbers
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fake", "fake.jsonl", "noise", "noise.jsonl", "real"]


def test_images_of_several_sizes_and_modes(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for index in range(40):
        size = 20 + index % 3
        colours = np.random.default_rng(index).integers(0, 256, (size, size + 5, 3), dtype=np.uint8)
        Image.fromarray(colours).convert("L" if index % 2 else "RGB").save(folder / f"{index}.png")
    assert evaluate.run([f"real={folder}", f"fake={folder}", "accelerator=cpu", "scores.names=[kid,diversity]"]) == 0


def test_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A known error: 10 levels everywhere is a PSNR of 20 log10(255 / 10) dB."""
    images = digits()[:5].repeat_interleave(4, 1).repeat_interleave(4, 2) // 2
    real, fake = write(tmp_path / "real", images), write(tmp_path / "fake", images + 10)
    output = tmp_path / "pairs.jsonl"
    names = "scores.names=[psnr,ssim]"
    assert evaluate.run([f"real={real}", f"fake={fake}", names, "accelerator=cpu", f"output={output}"]) == 0
    found = {record["metric"]: record["value"] for record in records(output)}
    assert found["psnr"] == pytest.approx(20 * np.log10(255 / 10), rel=1e-5)
    assert 0 < float(str(found["ssim"])) < 1
    os.rename(fake / "0002.png", fake / "other.png")
    with pytest.raises(UserError, match=r"other\.png"):
        evaluate.run([f"real={real}", f"fake={fake}", names, "accelerator=cpu"])


def test_pairs_are_found_in_subfolders(tmp_path: Path) -> None:
    for index in range(3):
        for side in ("real", "fake"):
            image = digits()[index : index + 1].repeat_interleave(4, 1).repeat_interleave(4, 2)
            write(tmp_path / side / str(index), image)
    output = tmp_path / "pairs.jsonl"
    folders = [f"real={tmp_path / 'real'}", f"fake={tmp_path / 'fake'}", "scores.extractor=inception"]  # not needed
    assert evaluate.run([*folders, "scores.names=[psnr,ssim]", "accelerator=cpu", f"output={output}"]) == 0
    found = {record["metric"]: record["value"] for record in records(output)}
    assert found == {"psnr": 100.0, "ssim": 1.0}  # exact: as much as counts


def test_the_first_images_are_of_all_folders(tmp_path: Path) -> None:
    for index in range(4):
        write(tmp_path / "real" / str(index), digits()[10 * index : 10 * index + 10])
    first = files("real", tmp_path / "real")[:20]
    assert {path.parent.name for path in first} == {"0", "1", "2", "3"}


def test_pictures_beside_samples_are_no_samples(trained: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn"
    sample.run([f"checkpoint={trained}", "count=8", "nearest=true", f"output={drawn}", "accelerator=cpu"])
    assert {path.name for path in files("fake", drawn)} == {f"{index:05d}.png" for index in range(8)}
    write(tmp_path / "others", digits()[:1])
    os.rename(tmp_path / "others" / "0000.png", tmp_path / "others" / "grid.png")
    assert len(files("fake", tmp_path / "others")) == 1


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ([], "give checkpoint="),
        (["real=x"], "given: real"),
        (["real=x", "fake=y", "checkpoint=z"], "give checkpoint="),
        (["real=not-there", "fake=."], "real=not-there: no such folder"),
        (["real={photos}", "fake={empty}"], "no images in it"),
        (["real={prepared}", "fake={photos}"], "prepared: prepared for training"),
        (["real={photos}", "fake={photos}", "scores.names=[fid]"], "scores.names=[fid]: needs 129"),
        (["real={photos}", "fake={photos}", "scores.names=[path_length]"], "give checkpoint="),
        (["real={photos}", "fake={broken}", "scores.names=[kid]"], "broken.png"),
        (["checkpoint={run}", "scores.names=[psnr]"], "psnr"),
        (["checkpoint={run}", "output=not-there/scores.jsonl"], "output=not-there/scores.jsonl: there is no folder"),
        (["real={large}", "fake={photos}", "scores.names=[kid]"], "decompression bomb"),
        (["real={photos}", "fake={photos}", "ema=false"], "ema=false: says something of a model"),
        (["real={photos}", "fake={photos}", "truncation=1"], "truncation=1: says something of a model"),
        (["checkpoint={run}", "truncation=[]"], "truncation=[]: give one number or several"),
        (["checkpoint={run}", "truncation=[0.5,-1]"], "truncation"),
        (["checkpoint={run}", "truncation=1", "scores.truncation=2"], "scores.truncation=2: truncation=1 says it"),
        (["real={photos}", "fake={photos}", "data.root=."], "data.root=.: says something of a model"),
        (["checkpoint={run}", "data=mnist"], "data=mnist"),
    ],
)
def test_bad_input(
    arguments: list[str], fragment: str, trained: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    """Said before any work is done."""
    places = {"photos": write(tmp_path / "photos", digits()[:30]), "run": trained}
    for name in ("empty", "broken", "prepared"):
        (tmp_path / name).mkdir()
        places[name] = tmp_path / name
    (tmp_path / "prepared" / "prepared.json").touch()
    places["large"] = write(tmp_path / "large", torch.zeros(1, 40, 40, dtype=torch.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    for index in range(30):
        (tmp_path / "broken" / f"{index}-broken.png").write_bytes(b"not an image")
    with pytest.raises(UserError) as error:
        evaluate.run([argument.format(**places) for argument in arguments])
    assert fragment in str(error.value)
    assert not capsys.readouterr().out


# ---- the nearest training images ------------------------------------------------------------------------------------


def test_nearest_finds_copies() -> None:
    """Copies of training images have themselves beside them, whatever block they are in."""
    images = digits()[:, None]
    chosen = torch.tensor([3, 900, 1796])
    panel = beside_nearest(to_float(images[chosen]), InMemory(images))
    side = 8 * 6 + 6  # enlarged, framed
    left, right = panel[:, 4 + 3 : 4 + side - 3, 4 + 3 : 4 + side - 3], panel[:, 7 : 1 + side, 7 + side : 1 + 2 * side]
    assert torch.equal(left, right)
    assert panel[:, 5, 5 + side].tolist() == [255, 210, 0]  # the frame of the second


def test_sample_nearest(trained: Path, tmp_path: Path) -> None:
    output = tmp_path / "drawn"
    assert sample.run([f"checkpoint={trained}", "count=8", "nearest=true", f"output={output}", "accelerator=cpu"]) == 0
    with Image.open(output / "nearest.png") as picture:
        assert picture.mode == "RGB"
        assert min(picture.size) > 50
    assert (trained / "samples" / "nearest.png").exists()  # written at the end of training
