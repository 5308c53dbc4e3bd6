"""A classifier in the place of the discriminator: its losses, which labels it sees, and that it learns from few."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gan_lightning.budget import Budget
from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.callbacks.scores import Scores, TrainingScores
from gan_lightning.commands.train import run
from gan_lightning.errors import UserError
from gan_lightning.metrics.records import lines
from gan_lightning.metrics.scoring import Scorer
from gan_lightning.models.feature_matching import FeatureMatching
from gan_lightning.models.semi_supervised import SemiSupervised
from gan_lightning.networks.mlp import MLPDiscriminator
from tests.support import Blobs, Watch, batch_of, fakes_of, fit, game


def classifier(**settings: Any) -> Any:
    """Of 4 classes."""
    torch.manual_seed(0)
    discriminator = MLPDiscriminator([16], 8, 1, auxiliary=4)
    return game(SemiSupervised, **{"discriminator": discriminator, "label_classes": 4, **settings})


def test_the_losses_are_those_of_a_classifier_with_one_class_more() -> None:
    """Salimans et al. 2016, section 5, of p(y|x) over K + 1 classes; the unsupervised loss counts half."""
    module, fakes, labels = classifier(), fakes_of(), torch.arange(8) % 4
    batch = batch_of(label=labels)

    def shares(images: torch.Tensor) -> torch.Tensor:
        found = module.discriminator(images)
        return torch.cat([found[:, 1:], -found[:, :1]], 1).softmax(1)  # the classes, then "generated"

    on_real, on_fakes = shares(batch["image"]), shares(fakes)
    supervised = -(on_real[range(8), labels] / (1 - on_real[:, 4])).log().mean()
    unsupervised = -(1 - on_real[:, 4]).log().mean() - on_fakes[:, 4].log().mean()
    losses = module.discriminator_loss(batch, fakes)
    torch.testing.assert_close(losses["loss"], supervised + unsupervised / 2)
    torch.testing.assert_close(losses["accuracy"], (on_real[:, :4].argmax(1) == labels).float().mean())
    fooling = classifier(feature_matching=False).generator_loss(batch, fakes)["loss"]
    torch.testing.assert_close(fooling, -(1 - on_fakes[:, 4]).log().mean())
    trunk = module.discriminator.trunk
    matched = (trunk(batch["image"].flatten(1)).mean(0) - trunk(fakes.flatten(1)).mean(0)).square().sum()
    torch.testing.assert_close(module.generator_loss(batch, fakes)["loss"], matched)


class WithoutLabels(Blobs):
    """Blobs whose minibatches have wrong labels."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        return {**batch, "label": torch.full_like(batch["label"], 99)}


def test_only_the_labels_asked_for_are_used(tmp_path: Path) -> None:
    """3 of each class, with their own labels; the minibatches' are never looked at."""
    module, data = classifier(labelled_per_class=3), WithoutLabels(64, subset=0.5)
    seen: list[float] = []
    fit(module, data, tmp_path, Watch(lambda m: seen.append(float(m.metrics["D/accuracy"]))), max_epochs=25)
    labelled = module.labelled
    assert labelled["label"].bincount().tolist() == [3, 3, 3, 3]
    trained_on = data.scaled(data.train.__getitems__(range(32))["image"])
    for image, label in zip(labelled["image"], labelled["label"], strict=True):
        assert (trained_on == image).flatten(1).all(1).any()
        corners = image[0].unflatten(0, (2, 4)).unflatten(2, (2, 4)).mean((1, 3)).flatten()
        assert corners.argmax() == label  # the bright corner
    assert sum(seen[-20:]) / 20 > 0.9


@pytest.mark.parametrize("flip", [False, True])
def test_labelled_images_are_mirrored_with_the_others(flip: bool, tmp_path: Path) -> None:
    module, seen = classifier(labelled_per_class=3), []
    original = module.outputs

    def outputs(images: torch.Tensor) -> Any:
        seen.append(images)
        return original(images)

    module.outputs = outputs
    fit(module, Blobs(64, flip=flip), tmp_path, budget=Budget(generator_steps=8))
    labelled = module.labelled["image"]
    asked = torch.cat(seen[2::3])  # after the real images and the fakes
    plain, mirrored = ((asked[:, None] == own).flatten(2).all(2).any(1) for own in (labelled, labelled.flip(-1)))
    assert len(asked) == 64
    assert (plain | mirrored).all()
    assert 0.3 < mirrored.float().mean() < 0.7 if flip else not mirrored.any()


def test_the_error_rate_is_that_of_the_network_at_rest() -> None:
    """Without dropout and with running statistics; the players train on afterwards."""
    data = Blobs(64)
    data.setup()
    head = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.9), nn.BatchNorm1d(16), nn.ReLU())
    module = classifier()
    module.discriminator.trunk = head
    module.train()
    head(torch.randn(256, 64))  # statistics of other images
    found = module.measure(data)["error_rate"].value
    assert all(part.training for part in module.modules())
    module.eval()
    images = data.held_out.__getitems__(range(16))
    expected = (module.outputs(data.scaled(images["image"]))[1].argmax(1) != images["label"]).float().mean()
    assert found == pytest.approx(float(expected))


def test_no_error_rate_without_held_out_images() -> None:
    data, module = Blobs(64), classifier()
    data.setup()
    settings = TrainingScores(extractor="digits", force=True, best="error_rate")

    def scores(module: Any) -> Scores:
        return Scores(settings, Scorer(settings, data), Checkpoints(), Budget(), print, module)

    assert scores(module).chosen == "error_rate"
    with pytest.raises(UserError, match="error_rate: is not among the metrics"):
        scores(game())
    data.held_out = data.held_out.subset(torch.arange(0))
    with pytest.raises(UserError, match="error_rate: there are no held-out images"):
        scores(module)


def test_nobody_has_won_while_there_are_features_to_match() -> None:
    assert classifier().won is None
    assert game(FeatureMatching).won is None


def test_the_same_minibatches_of_labels_after_a_resume(tmp_path: Path) -> None:
    whole, half, other = (classifier(labelled_per_class=3) for _ in range(3))
    half.config = {}  # of a run
    fit(whole, Blobs(64), tmp_path / "whole", budget=Budget(generator_steps=6))
    first = fit(half, Blobs(64), tmp_path / "half", budget=Budget(generator_steps=3))
    first.save_checkpoint(tmp_path / "half.ckpt")
    fit(other, Blobs(64), tmp_path / "half", budget=Budget(generator_steps=6), checkpoint=tmp_path / "half.ckpt")
    for one, two in zip(whole.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_classes": 0}, "label_classes=0: needs data with labels"),
        ({"label_classes": 3}, r"discriminator\.auxiliary=4: needs one output for each of 3"),
        ({"classes": 4}, "classes=4: the generator is told no labels"),
        ({"loss": "relativistic"}, "loss=relativistic: knows no classes"),
        ({"loss": "hinge"}, "loss=hinge: knows no classes"),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classifier(**settings)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("model.labelled_per_class=1000", r"model\.labelled_per_class=1000: class \d has no more than 1\d\d training"),
        ("model.label_classes=7", r"model\.label_classes=7: follows data\.classes"),
    ],
)
def test_runs_that_cannot_be(argument: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(UserError, match=message):
        run(["model=semi_supervised", "trainer=debug", argument, f"hydra.run.dir={folder}"])
    assert not folder.exists()


def test_it_learns_from_five_labels_a_class(tmp_path: Path) -> None:
    """Digits that it was never shown; guessing is wrong in 90 %. With 5 labels a class a run is wrong in 5 to 15 %."""
    arguments = [
        "model=semi_supervised",
        "model.labelled_per_class=5",
        "model.generator.base_channels=16",
        "model.discriminator.base_channels=16",
        "model.initialization=default",
        "budget.generator_steps=150",
        "scores.names=[modes]",
        "scores.best=error_rate",
        "scores.samples=64",
        "samples.every_images=100000000",
        "trainer.accelerator=cpu",
        f"hydra.run.dir={tmp_path}",
    ]
    assert run(arguments) == 0
    (record,) = [line for line in lines(tmp_path / "scores.jsonl")[-4:] if line["metric"] == "error_rate"]
    print(record["value"])
    assert (record["n_real"], record["split"]) == (359, "held_out")
    assert record["value"] < 0.3
