"""`export`: files that do what torch does, in processes without it; folders that stand in the place of runs; cards."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import gan_lightning
from gan_lightning.commands import evaluate, export, sample, train
from gan_lightning.config import instantiate
from gan_lightning.errors import UserError
from gan_lightning.exporting import comparing, hub, onnx, packages, weights
from gan_lightning.exporting.graph import Drawing, Graph, Port, misplaced
from gan_lightning.networks.text import LSTMGenerator
from gan_lightning.networks.unet import Noise
from gan_lightning.sampling import evaluation_labels, evaluation_latents, sampler
from tests.stored import settings_like, store

QUICK = {"cgan"}
ALL = ["onnx", "torch_export", "safetensors"]


def exported(run: Path, output: Path, formats: Sequence[str], *arguments: str) -> Path:
    asked = f"format=[{','.join(formats)}]"
    assert export.run([f"checkpoint={run}", f"output={output}", asked, *arguments]) == 0
    return output


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = store("dcgan", tmp_path_factory.mktemp("runs") / "a run, 照片")
    record = {"metric": "fid", "extractor": "digits", "version": "1", "n_real": 1438, "n_fake": 1000, "split": "train"}
    record |= {"weights": "ema", "source": "train", "seed": 0, "settings": {}, "std": None, "truncation": None}
    lines = [{**record, "value": value, "images": images} for value, images in ((9.5, 100), (3.25, 640))]
    lines.append({**record, "value": 1.5, "weights": "raw", "images": 640})
    (folder / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(run, tmp_path_factory.mktemp("exported") / "files", ["onnx", "safetensors"])


def alone(program: str, place: Path, *, isolated: bool = True) -> str:
    """What a process prints that is started elsewhere, without this project on its path."""
    line = [sys.executable, *(["-I"] if isolated else []), "-c", program]
    done = subprocess.run(line, cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- what a file makes ----------------------------------------------------------------------------------------------


def test_a_file_runs_without_torch(folder: Path, run: Path, tmp_path: Path) -> None:
    """The lines of the model card, as they stand there."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(import numpy.*?)```", card, re.DOTALL)
    save = f"np.savez({str(tmp_path / 'made.npz')!r}, latents=latents, images=images, pixels=pixels)"
    more = "import sys; assert not {'torch', 'gan_lightning'} & set(sys.modules), 'torch was imported'"
    sizes = "session.run(None, {'latents': np.zeros((count, 100), np.float32)})[0]"
    more += f"\nfor count in (1, 2, 5, 64): assert len({sizes}) == count"
    alone(f"{lines}\n{save}\n{more}", folder)
    made = np.load(tmp_path / "made.npz")
    with torch.no_grad():
        expected = sampler(gan_lightning.load(run))(torch.from_numpy(made["latents"]), None).numpy()
    assert expected.std() > 0.01
    np.testing.assert_allclose(made["images"], expected, atol=1e-5)
    wanted = np.rint((expected + 1) * 127.5)
    assert np.abs(made["pixels"].astype(int) - wanted).max() <= 1


@pytest.mark.slow
def test_a_program_runs_without_this_project(run: Path, tmp_path: Path) -> None:
    folder = exported(run, tmp_path / "files", ["torch_export"], "grid=false")
    latents = evaluation_latents(gan_lightning.load(run), 64, 7)
    torch.save(latents, tmp_path / "latents.pt")
    program = f"""import sys, torch
network = torch.export.load({str(folder / "generator.pt2")!r}).module()
latents = torch.load({str(tmp_path / "latents.pt")!r})
torch.save([network(latents[:count]) for count in (1, 2, 5, 64)], {str(tmp_path / "made.pt")!r})
assert "gan_lightning" not in sys.modules"""
    alone(program, tmp_path)
    network = sampler(gan_lightning.load(run))
    for made in torch.load(tmp_path / "made.pt"):
        torch.testing.assert_close(made, network(latents[: len(made)], None), atol=1e-6, rtol=0)


def of_file(path: Path, given: Sequence[Tensor]) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    return torch.from_numpy(session.run(None, dict(zip(names, (t.numpy() for t in given), strict=True)))[0])


NOISELESS = ["cgan", "infogan", "acgan", "biggan", "stylegan2", "progan", "r3gan", "resnet", "wavegan"]
NOISELESS += ["mle", "seqgan", "relgan", "textgan"]


@pytest.mark.parametrize(
    "rule", [pytest.param(rule, marks=[] if rule in QUICK else [pytest.mark.slow]) for rule in NOISELESS]
)
def test_files_are_what_sample_draws_from(rule: str, tmp_path: Path) -> None:
    trained = store(rule, tmp_path / "run")
    formats = ALL if rule not in QUICK else ["onnx", "safetensors"]
    place = exported(trained, tmp_path / "files", formats, "grid=false")
    module = gan_lightning.load(trained)
    network = sampler(module)
    program = torch.export.load(place / "generator.pt2").module() if "torch_export" in formats else None
    for count in (1, 2, 5, 64):
        latents, labels = evaluation_latents(module, count, 11), evaluation_labels(module, count)
        given = [latents] if labels is None else [latents, labels]
        with torch.no_grad():
            expected = network(latents, labels)
        for made in (of_file(place / "generator.onnx", given), *([program(*given)] if program else [])):
            torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)
    assert expected.double().std() > 1e-3
    assert torch.equal(gan_lightning.load(place).sample(70, seed=3), module.sample(70, seed=3))
    assert (place / "vocabulary.json").exists() == ("words" in module.data_facts)


TRANSLATORS = ["srgan", "esrgan", "cyclegan", "pix2pix", "deepfill", "deepfill_v1"]


@pytest.mark.slow
@pytest.mark.parametrize("rule", TRANSLATORS)
def test_files_are_what_translate_uses(rule: str, tmp_path: Path) -> None:
    trained = store(rule, tmp_path / "run")
    module = gan_lightning.load(trained)
    for direction in ("a2b", "b2a") if rule == "cyclegan" else ("a2b",):
        more = ["noise=none"] if rule == "pix2pix" else []
        place = exported(trained, tmp_path / direction, ALL, f"direction={direction}", "grid=false", *more)
        network: Any = module.translating(direction=direction)  # pyright: ignore
        for layer in network.modules():
            if isinstance(layer, Noise):
                layer.forward = lambda input: input
        program = torch.export.load(place / "generator.pt2").module()
        step = network.multiple
        for count, height, width in ((1, 4, 3), (2, 3, 6), (5, 3, 3), (1, 9, 4)):
            image = torch.rand(count, 3 if rule in ("srgan", "esrgan") else 1, step * height, step * width) * 2 - 1
            given = [image]
            if module.takes_masks:  # pyright: ignore
                mask = torch.zeros_like(image)
                mask[..., 2:9, 3:8] = 1
                given.append(mask)
            whole = torch.cat([image * (1 - given[1]), given[1]], 1) if len(given) > 1 else image
            with torch.no_grad():
                expected = network(whole)
            for made in (of_file(place / "generator.onnx", given), program(*given)):
                torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)
        assert expected.std() > 1e-4


def test_noise_of_a_network_is_an_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pix2pix: numbers below the share of dropout leave a value out, those above let it pass."""
    settings = settings_like("pix2pix")
    settings["model"]["generator"]["image_size"] = settings["model"]["input_size"] = 8
    trained = store("pix2pix", tmp_path / "run", settings)
    place = exported(trained, tmp_path / "files", ["onnx"], "grid=false")
    session = onnxruntime.InferenceSession(str(place / "generator.onnx"))
    shapes = {one.name: one.shape for one in session.get_inputs()}
    assert shapes["image"] == ["N", 1, "8*h", "8*w"]
    image = torch.rand(2, 1, 16, 24) * 2 - 1
    numbers = {
        name: torch.rand(2, shape[1], *sides(shape, (2, 3))) for name, shape in shapes.items() if name != "image"
    }
    waiting = list(numbers.values())
    assert waiting
    numbers["image"] = image

    def given(x: Tensor, p: float, training: bool) -> Tensor:
        return x.where(waiting.pop(0) >= p, torch.zeros(())) / (1 - p)

    made: Any = session.run(None, {name: one.numpy() for name, one in numbers.items()})[0]
    network = gan_lightning.load(trained).translating()  # pyright: ignore
    monkeypatch.setattr(nn.functional, "dropout", given)
    with torch.no_grad():
        np.testing.assert_allclose(made, network(image).numpy(), atol=1e-5)


def sides(shape: list[Any], parts: tuple[int, int]) -> list[int]:
    """Of "4*h" and "4*w", for so many parts."""
    return [int(str(size).split("*")[0]) * part for size, part in zip(shape[2:], parts, strict=True)]


def test_misplaced_tokens_are_seen() -> None:
    torch.manual_seed(0)
    generator = LSTMGenerator(5, 4)
    uniforms = torch.rand(6, 4)
    tokens = generator(uniforms)
    assert float(misplaced(generator, uniforms, tokens).max()) < 1e-6
    wrong = tokens.clone()
    wrong[2, 3] = (wrong[2, 3] + 2) % 5
    probabilities = generator.logits(wrong)[2, 3].softmax(0).detach()
    before = float(probabilities[: wrong[2, 3]].sum())
    after = before + float(probabilities[wrong[2, 3]])
    number = float(uniforms[2, 3])
    found = misplaced(generator, uniforms, wrong)
    assert float(found[2, 3]) == pytest.approx(max(before - number, number - after), abs=1e-6)
    assert float(found[2, 3]) > 0.01
    assert int((found > 1e-6).sum()) == 1


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_above_the_tolerance_nothing_is_left(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = onnx.runner

    def wrong(path: Path) -> Any:
        right = runner(path)
        return lambda given: right(given) + 0.002 * (len(given[0]) == 64)

    monkeypatch.setattr(onnx, "runner", wrong)
    with pytest.raises(UserError, match=r"tolerance=0.001: format=onnx differs from torch by 2.0e-03 at most, 1.8e-03"):
        exported(run, tmp_path / "new" / "files", ["safetensors", "onnx"], "tolerance=1e-3")
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_filled_and_others_stay(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """output= may be a mount, or where the user stands; a failure takes nothing away that another process wrote."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    exported(run, Path(), ["safetensors"], "grid=false")
    assert sorted(path.name for path in Path().iterdir()) == ["README.md", "config.json", "generator.safetensors"]

    def fill(folder: Path) -> None:
        with export.appearing(folder) as part:
            (part / "a").touch()
            (folder.parent / "002").mkdir()
            raise OSError(28, "full")

    with pytest.raises(UserError, match="cannot be written: full"):
        fill(tmp_path / "new" / "001")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["002"]


class Wrong(Graph):
    """A graph whose output is known."""

    def __init__(self) -> None:
        super().__init__(nn.Identity())
        self.ports, self.output = [Port("x", ("N", 2), "float32", "")], Port("y", ("N", 2), "float32", "")

    def forward(self, x: Tensor) -> Tensor:
        return x

    def tried(self) -> list[tuple[Tensor, ...]]:
        return [(torch.zeros(1, 2),), (torch.ones(3, 2),)]


def test_differences_are_of_all_that_was_tried() -> None:
    def run(given: Sequence[Tensor]) -> Tensor:
        return given[0] + torch.tensor([0.0, 0.5]) * given[0]

    found = comparing.compare(Wrong(), run, "format=x", 1.0)
    assert (found.largest, found.mean, found.batches) == (0.5, 1.5 / 8, (1, 3))
    for bad in (lambda given: given[0] * torch.nan, lambda given: given[0][:1, :1], lambda given: given[0].double()):
        with pytest.raises(UserError):
            comparing.compare(Wrong(), bad, "format=x", 1e9)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["format=tflite"], "format=tflite"),
        (["format=[]"], r"format=\[\]"),
        (["direction=b2a"], "direction=b2a: GAN makes images of latents"),
        (["noise=none"], "noise=none: DCGANGenerator draws none"),
        (["tolerance=0"], "tolerance=0"),
        (["push_to=name"], "push_to=name: must be <user>/<name>"),
        (["push_to=a/b/c"], "push_to=a/b/c"),
        (["push_to=../etc"], "push_to="),
        (["dry_run=false"], "dry_run=false: there is nothing to send"),
        (["push_to=me/it", "dry_run=false"], "dry_run=false: there is no token"),
    ],
)
def test_bad_input(
    arguments: list[str], fragment: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match=fragment):
        export.run([f"checkpoint={run}", f"output={tmp_path / 'out'}", *arguments])
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = packages.importlib.util.find_spec
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(UserError, match=r'format=onnx: needs onnxscript: pip install "gan_lightning\[export\]"'):
        exported(run, tmp_path / "out", ["onnx"])


def test_nothing_is_overwritten(folder: Path, run: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    with pytest.raises(UserError, match=r"output=.* not an empty folder"):
        exported(run, folder, ["safetensors"])
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    for _ in range(2):
        assert export.run([f"checkpoint={run}", "format=safetensors", "grid=false", "ema=false"]) == 0
    assert sorted(path.name for path in (run / "exported").iterdir()) == ["001", "002"]
    raw = load_file(run / "exported" / "001" / "generator.safetensors")
    average = load_file(folder / "generator.safetensors")
    assert raw.keys() == average.keys()
    assert any(not torch.equal(raw[name], average[name]) for name in raw)


# ---- a folder in the place of a run ---------------------------------------------------------------------------------


def test_a_folder_is_sampled_and_evaluated(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = gan_lightning.load(folder)
    assert not module.training
    assert module.ema is None
    assert torch.equal(module.sample(70, seed=3), gan_lightning.load(run).sample(70, seed=3))
    for place, output in ((folder, "a"), (run, "b")):
        assert sample.run([f"checkpoint={place}", f"output={tmp_path / output}", "count=2", "accelerator=cpu"]) == 0
    assert (tmp_path / "a" / "00001.png").read_bytes() == (tmp_path / "b" / "00001.png").read_bytes()
    capsys.readouterr()
    copied = tmp_path / "copy"
    copied.mkdir()
    for path in folder.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    assert evaluate.run([f"checkpoint={copied}", "scores.names=[]", "accelerator=cpu"]) == 0
    assert "D/loss" not in capsys.readouterr().out
    again = exported(copied, tmp_path / "again", ["safetensors"], "grid=false")
    assert "moving average of the generator" in (again / "README.md").read_text(encoding="utf-8")
    assert (again / "generator.safetensors").read_bytes() == (folder / "generator.safetensors").read_bytes()


def test_a_folder_is_not_continued_but_begun_from(folder: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing to go on from; use weights="):
        train.run([f"checkpoint={folder}"])
    settings = settings_like("dcgan")
    module, data = instantiate(settings["model"]), instantiate(settings["data"])
    untouched = copy.deepcopy(module.discriminator.state_dict())
    train.fine_tune(module, folder, data)
    average = sampler(gan_lightning.load(run)).state_dict()
    for network in (module.generator, module.ema.generator):
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, average[name]), name
    for name, tensor in module.discriminator.state_dict().items():
        assert torch.equal(tensor, untouched[name])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "generator.onnx").touch()
    with pytest.raises(UserError, match=r"holds generator\.onnx, which is not read: export with format=safetensors"):
        gan_lightning.load(tmp_path / "other")


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "torch.load", "subprocess.run"])
def test_a_folder_runs_no_foreign_code(target: str, folder: Path, tmp_path: Path) -> None:
    about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    about["config"]["model"]["generator"] = {"_target_": target, "_args_": [f"touch {tmp_path / 'ran'}"]}
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    (hostile / "config.json").write_text(json.dumps(about))
    (hostile / "generator.safetensors").write_bytes((folder / "generator.safetensors").read_bytes())
    with pytest.raises(UserError, match=target.replace(".", r"\.")):
        gan_lightning.load(hostile)
    assert not (tmp_path / "ran").exists()


def spoilt(about: Any, state: dict[str, Tensor]) -> dict[str, tuple[Any, dict[str, Tensor] | bytes]]:
    """Folders that cannot be used: what is in them."""
    name, tensor = next(iter(state.items()))
    nans = state.get("layers.0.weight", tensor) * torch.nan
    return {
        "is no JSON": ("[" * 100_000, state),
        "not the configuration": ({"format": "other"}, state),
        "its config has no model": ({**about, "config": {}}, state),
        "class_names must": ({**about, "class_names": [1]}, state),
        "data must": ({**about, "data": {"words": "abc"}}, state),
        "counters: images=-1": ({**about, "counters": {"images": -1}}, state),
        "counters: epoch=inf": ({**about, "counters": {"epoch": float("inf")}}, state),
        "counters: phase=7": ({**about, "counters": {"phase": 7}}, state),
        "weights must be ema": ({**about, "weights": ["raw"]}, state),
        "cannot be read": (about, b"\xff" * 64),
        "do not fit its networks": (about, {name: tensor}),
        "layers.* is \\(1,\\), not": (about, {**state, "layers.0.weight": torch.zeros(1)}),
        "other is \\(2,\\), not nothing": (about, {**state, "other": torch.zeros(2)}),
        "not finite": (about, {**state, "layers.0.weight": nans}),
    }


CASES = list(spoilt({}, {"a": torch.zeros(1)}))


@pytest.mark.parametrize("fragment", CASES)
def test_a_broken_folder_is_one_message(fragment: str, folder: Path, tmp_path: Path) -> None:
    about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del about["sha256"]  # of the file as it was
    said, state = spoilt(about, load_file(folder / "generator.safetensors"))[fragment]
    (tmp_path / "config.json").write_text(said if isinstance(said, str) else json.dumps(said))
    if isinstance(state, bytes):
        (tmp_path / "generator.safetensors").write_bytes(state)
    else:
        save_file(state, tmp_path / "generator.safetensors")
    with pytest.raises(UserError, match=fragment):
        gan_lightning.load(tmp_path)


# ---- the card and the Hub -------------------------------------------------------------------------------------------


def test_the_card(folder: Path, run: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---")[1])
    assert head["library_name"] == "gan_lightning"
    assert head["pipeline_tag"] == "unconditional-image-generation"
    assert {"gan", "onnx", "safetensors"} <= set(head["tags"])
    assert "license" not in head
    module = gan_lightning.load(run)
    count = sum(parameter.numel() for parameter in module.generator.parameters())
    assert f"DCGANGenerator`, {count:,} parameters" in card
    assert "| fid | 3.25 | digits v1 | 1,438 (train) | 1,000 | 640 |" in card
    assert "9.5" not in card
    assert "![samples](grid.png)" in card
    assert (folder / "grid.png").exists()
    assert yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])["model"]["ema"]["_target_"].endswith("EMA")
    assert "1,438 images to train on" in card
    assert "| images seen | 640 |" in card
    model = onnxruntime.InferenceSession(str(folder / "generator.onnx")).get_modelmeta().custom_metadata_map
    assert model["model"] == "GAN"
    assert model["run"] == run.name
    assert model["values of latents"] == "N(0, 1)"


def test_no_path_of_this_machine_is_published() -> None:
    config = {"data": {"root": "/home/alice/photos", "names": ["~/secret/x", "a/b"], "rate": 3}, "x": "/"}
    assert weights.without_paths(config) == {"data": {"root": "photos", "names": ["x", "a/b"], "rate": 3}, "x": "data"}


class Recorded:
    """An API of the Hub that is told everything and sends nothing."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.error = error

    def create_repo(self, repo_id: str, **how: Any) -> str:
        self.calls.append(("create", (repo_id, how)))
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, **how: Any) -> None:
        if self.error:
            raise self.error
        self.calls.append(("upload", how))


def test_a_push_says_what_it_would_send_and_sends_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = Recorded()
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "secret")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda token: api)
    exported(run, tmp_path / "dry", ["safetensors"], "grid=false", "push_to=me/it")
    assert not api.calls
    said = capsys.readouterr().out
    assert "dry run" in said
    for path in (tmp_path / "dry").iterdir():
        assert re.search(rf"{path.stat().st_size:,} bytes  {re.escape(path.name)}", said)
    exported(run, tmp_path / "sent", ["safetensors"], "grid=false", "push_to=me/it", "dry_run=false", "private=false")
    assert [name for name, _ in api.calls] == ["create", "upload"]
    assert api.calls[0][1] == ("me/it", {"private": False, "exist_ok": True})
    assert api.calls[1][1]["repo_id"] == "me/it"
    assert Path(api.calls[1][1]["folder_path"]) == tmp_path / "sent"
    assert "secret" not in capsys.readouterr().out
    with pytest.raises(UserError, match="push_to=me/it: was not sent: no; the files are in"):
        hub.push(tmp_path / "sent", "me/it", True, Recorded(OSError("no")))


def test_latents_that_are_several_tensors_are_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = gan_lightning.load(run)
    monkeypatch.setattr(module, "fresh_statistics", False)
    monkeypatch.setattr(module, "evaluation_block", lambda *_: {"z": torch.zeros(64, 2)})
    with pytest.raises(UserError, match="several tensors"):
        Drawing(module, "images", True)
