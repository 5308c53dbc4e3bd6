"""`sample` and `evaluate` of a model of text: temperature, beginnings, files, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gan_lightning.checkpoint import read_checkpoint
from gan_lightning.commands import evaluate, sample, train
from gan_lightning.data.vocabulary import BUNDLED
from gan_lightning.errors import UserError

SMALL = ["model=mle", "trainer=debug", "trainer.accelerator=cpu", "scores=off"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose file is gone."""
    folder = tmp_path_factory.mktemp("texts")
    text = folder / "my text.txt"
    shutil.copy(BUNDLED, text)
    arguments = ["data=text_file", f"data.root={text}", f"hydra.run.dir={folder / 'run'}"]
    assert train.run([*SMALL, *arguments]) == 0
    text.unlink()
    return folder / "run"


def draw(trained: Path, output: Path, *arguments: str) -> list[str]:
    assert sample.run([f"checkpoint={trained}", f"output={output}", "accelerator=cpu", *arguments]) == 0
    assert [file.name for file in output.iterdir()] == ["samples.txt"]
    return (output / "samples.txt").read_text().splitlines()


def test_the_run_shows_sentences(trained: Path) -> None:
    files = sorted(file.name for file in (trained / "samples").iterdir())
    assert "real.txt" in files
    assert all(name.endswith(".txt") for name in files)
    words = read_checkpoint(trained / "checkpoints" / "last.ckpt")["data"]["words"]
    lines = (trained / "samples" / files[0]).read_text().splitlines()
    assert {word for line in lines for word in line.split()} <= {*words, "<unk>"}


def test_samples_depend_on_seed_and_index_alone(trained: Path, tmp_path: Path) -> None:
    many, few = draw(trained, tmp_path / "many", "count=70"), draw(trained, tmp_path / "few", "count=3")
    assert (len(many), few) == (70, many[:3])
    assert draw(trained, tmp_path / "one", "count=3", "temperature=1") == few
    for other in ("seed=1", "temperature=0.5"):
        assert draw(trained, tmp_path / other, "count=3", other) != few


def test_temperature_and_prefix(trained: Path, tmp_path: Path) -> None:
    lines = draw(trained, tmp_path / "a", "count=40", "prefix=the Dog", "temperature=2")
    assert all(line.split()[:2] == ["the", "dog"] for line in lines)
    assert len(set(lines)) > 30
    assert len(set(draw(trained, tmp_path / "b", "count=40", "prefix=the dog", "temperature=0.001"))) == 1


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["prefix=the purple dog"], "prefix='the purple dog': 'purple' is not in the vocabulary"),
        (["temperature=0"], "temperature=0"),
        (["truncation=0.5"], "truncation=0.5: texts have no latents to cut; use temperature"),
        (["interpolate=true"], "interpolate=latents: samples of .* are texts, not images"),
        (["nearest=true"], "nearest=true: samples of .* are texts"),
        (["dataset=true"], "dataset=true: samples of .* are texts"),
        (["truncation=[0.5,1]"], r"truncation=\[0.5, 1\]: samples of .* are texts"),
        (["label=1"], "label=1: .* not class-conditional"),
        (["video=gif"], "video=gif"),
        (["mixing=true"], "mixing=true"),
        (["directions=2"], "directions=2"),
    ],
)
def test_what_texts_cannot_do(arguments: list[str], fragment: str, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=fragment):
        draw(trained, tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_scores_at_temperatures(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [f"checkpoint={trained}", f"data.root={BUNDLED}", "accelerator=cpu", "scores.samples=100"]
    assert evaluate.run([*arguments, "temperature=[0.1,1]", f"output={tmp_path / 'scores.jsonl'}"]) == 0
    shown = capsys.readouterr().out
    made = records(tmp_path / "scores.jsonl")
    assert [record["metric"] for record in made].count("nll") == 1  # of held-out sentences: at temperature 1
    cold, warm = (
        {record["metric"]: record for record in made if record["settings"].get("temperature") == temperature}
        for temperature in (0.1, 1.0)
    )
    assert cold.keys() == warm.keys() == {record["metric"] for record in made} - {"nll"}
    assert cold["distinct_2"]["value"] < warm["distinct_2"]["value"]
    assert cold["self_bleu_2"]["value"] > warm["self_bleu_2"]["value"]
    assert (warm["bleu_2"]["settings"]["hypotheses"], warm["bleu_2"]["n_fake"]) == (100, 100)
    rows = [line.split() for line in shown.splitlines()]
    assert ["temperature", "0.1", "1"] in rows
    nll = next(record["value"] for record in made if record["metric"] == "nll")
    assert ["nll", f"{nll:.4g}", f"{nll:.4g}"] in rows
    assert evaluate.run([*arguments, "temperature=0.1", f"output={tmp_path / 'one.jsonl'}"]) == 0
    alone = {record["metric"]: record["value"] for record in records(tmp_path / "one.jsonl")}
    assert alone["bleu_2"] == cold["bleu_2"]["value"]


def test_another_file_is_read_with_the_words_of_the_run(trained: Path, tmp_path: Path) -> None:
    """So that a model can be scored on other sentences."""
    (tmp_path / "other.txt").write_text("the dog sleeps in the zeppelin\n" * 3 + "a zeppelin sleeps\n")
    arguments = [f"checkpoint={trained}", f"data.root={tmp_path / 'other.txt'}", "accelerator=cpu"]
    assert evaluate.run([*arguments, "scores.samples=10", f"output={tmp_path / 'scores.jsonl'}"]) == 0
    found = {record["metric"]: record for record in records(tmp_path / "scores.jsonl")}
    assert found["bleu_2"]["settings"]["references"] in (1, 3)  # whichever of the two sentences is held out
    assert found["nll"]["settings"]["tokens"] in (1 * 4, 3 * 7)  # with the end of each


def test_evaluate_refuses(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"temperature=\[\]: give one number or several"):
        evaluate.run([f"checkpoint={trained}", f"data.root={BUNDLED}", "temperature=[]"])
    with pytest.raises(UserError, match=r"temperature=0\.5: says something of a model"):
        evaluate.run([f"real={tmp_path}", f"fake={tmp_path}", "temperature=0.5"])
    with pytest.raises(UserError, match=r"data\.root=.*my text.txt: there is no such file"):
        evaluate.run([f"checkpoint={trained}", "accelerator=cpu"])


def test_models_of_images_have_no_temperature(tmp_path: Path) -> None:
    small = ["model=gan", "model.generator.hidden=[8]", "model.discriminator.hidden=[8]", "trainer=debug"]
    run = tmp_path / "run"
    assert train.run([*small, "trainer.accelerator=cpu", "scores=off", f"hydra.run.dir={run}"]) == 0
    for argument in ("temperature=1", "prefix=a"):
        with pytest.raises(UserError, match=f"{argument}.*: is for models of text, and GAN makes images"):
            sample.run([f"checkpoint={run}", f"output={tmp_path / 'out'}", "accelerator=cpu", argument])
    with pytest.raises(UserError, match="temperature=1: is for models of text, and this is a GAN"):
        evaluate.run([f"checkpoint={run}", "accelerator=cpu", "temperature=1"])


def test_a_language_model_is_the_start_of_a_seqgan(trained: Path, tmp_path: Path) -> None:
    """Whose discriminator is another; not of texts with other words."""
    text = tmp_path / "text.txt"
    shutil.copy(BUNDLED, text)
    game = ["model=seqgan", *SMALL[1:], "data=text_file", f"data.root={text}", f"weights={trained}"]
    game += ["model.discriminator.filter_sizes=[1]", "model.discriminator.filters=[2]"]
    assert train.run([*game, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    before, after = (
        read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]["lagging.embedding.weight"]
        for run in (trained, tmp_path / "run")
    )
    assert (before - after).abs().max() < 0.1 < before.abs().max()
    text.write_text(text.read_text().replace("moon", "zeppelin"))
    with pytest.raises(UserError, match=r"weights=.*: its texts have other words"):
        train.run([*game, f"hydra.run.dir={tmp_path / 'other'}"])


def test_truncation_is_no_setting_of_scores() -> None:
    with pytest.raises(UserError, match=r"scores.truncation=0.5: is of images, and these are texts"):
        train.run([*SMALL[:-1], "data=tiny_text", "scores.truncation=0.5"])


def test_a_run_goes_on_with_its_words_alone(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("".join(f"{a} {b} now\n" for a in "abcdefghij" for b in "abcdefghij"))
    where = [f"data.root={text}", f"hydra.run.dir={tmp_path / 'run'}"]
    assert train.run([*SMALL, "data=text_file", *where, "data.batch_size=4"]) == 0
    text.write_text(text.read_text().replace("now", "then"))
    with pytest.raises(UserError, match="the words of its data are not those of the data now"):
        train.run([f"checkpoint={tmp_path / 'run'}", "trainer.max_epochs=2"])


def test_a_model_of_images_says_that_texts_are_other_data() -> None:
    with pytest.raises(UserError, match=r"needs data.image_size, which this data does not have: the model is for"):
        train.run(["model=dcgan", "data=tiny_text", "trainer=debug"])
