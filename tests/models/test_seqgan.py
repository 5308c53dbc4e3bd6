"""SeqGAN: values of tokens, policy gradients against all sequences there are, phases, resume, and that it learns."""

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gan_lightning.budget import Budget
from gan_lightning.callbacks.checkpoints import Checkpoints
from gan_lightning.checkpoint import FOLDER, LAST, read_checkpoint
from gan_lightning.commands.evaluate import held_out_losses
from gan_lightning.data.base import Data
from gan_lightning.data.sets import InMemory
from gan_lightning.models.seqgan import SeqGAN
from gan_lightning.networks.text import LSTMGenerator, TextCNN
from gan_lightning.sequences import counting
from gan_lightning.steps import Step
from tests.support import Watch, fit, game

LENGTH, VOCABULARY = 5, 6


class Counting(Data):
    """Sequences (N, 5) of six tokens, in which the next one is one or two more than the last, past 5 on from 0."""

    noun, ends = "texts", False

    def __init__(self, texts: int = 64, **base: Any) -> None:
        super().__init__(**{"batch_size": 8, "seed": 0, **base})
        self.texts = texts

    @property
    def shape(self) -> tuple[int, ...]:
        return (LENGTH,)

    def load(self) -> tuple[InMemory, InMemory, list[str]]:
        stream = torch.Generator().manual_seed(0)
        steps = torch.randint(1, 3, (self.texts + 16, LENGTH), generator=stream)
        tokens = steps.cumsum(1) % VOCABULARY
        return InMemory(tokens[16:]), InMemory(tokens[:16]), []

    def scaled(self, stored: Tensor) -> Tensor:
        return stored

    def stored(self, images: Tensor) -> Tensor:
        return images


class Table(nn.Module):
    """A fixed logit for every sequence (N, L) of three tokens."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(2 * torch.randn(3**length, generator=torch.Generator().manual_seed(3)))
        self.places = 3 ** torch.arange(length - 1, -1, -1)

    def forward(self, tokens: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.logits[tokens @ self.places]


def texts(vocabulary: int = VOCABULARY, length: int = LENGTH, deviation: float = 0.5, **settings: Any) -> Any:
    """A small game of text; the same weights for the same seed."""
    torch.manual_seed(0)
    networks = {
        "generator": LSTMGenerator(vocabulary, length, 4, 8, deviation),
        "discriminator": TextCNN(vocabulary, length, 4, [1, 2, 3], [4, 4, 4]),
    }
    rates = {"generator_optimizer": 1e-2, "discriminator_optimizer": 1e-3}
    optimizers = {name: partial(torch.optim.Adam, lr=rate) for name, rate in rates.items()}
    given = {"pretraining_images": 0, "rollouts": 3, "latents": "unit"}
    return game(SeqGAN, **{**networks, **optimizers, **given, **settings})


def some(vocabulary: int = VOCABULARY, length: int = LENGTH, count: int = 4) -> Tensor:
    return torch.randint(vocabulary, (count, length), generator=torch.Generator().manual_seed(1))


def named(network: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in network.named_parameters()}


# ---- losses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [False, True])
def test_the_likelihood_is_that_of_a_loop(ends: bool) -> None:
    module, tokens = texts(), some(count=20)
    module.ends = ends
    total, counted = 0.0, 0
    for row in tokens:
        for place in range(LENGTH):
            distribution = module.generator.logits(row[None])[0, place].softmax(0)
            total, counted = total - float(distribution[row[place]].detach().log()), counted + 1
            if ends and row[place] == 0:
                break
    assert (counted < 100) == ends
    losses = module.likelihood_loss({"image": tokens}, None)
    assert losses["loss_likelihood"].item() == pytest.approx(total / counted, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(total / tokens.numel(), rel=1e-5)
    halves = [float(module.likelihood_loss({"image": half}, None)["loss"].detach()) for half in tokens.split(10)]
    assert sum(halves) / 2 == pytest.approx(losses["loss"].item(), rel=1e-5)  # so that two processes equal one


def test_the_discriminators_loss_is_its_formula() -> None:
    """Twice the mean of both kinds' cross-entropies, and λ/2 ‖θ‖² of the output layer as often."""
    module, real, fakes = texts(output_decay=0.2).eval(), some(), some().flip(1)
    on_real, on_fake = module.discriminator(real), module.discriminator(fakes)
    output = module.discriminator.output
    entropy = -(torch.cat([on_real.sigmoid().log(), (1 - on_fake.sigmoid()).log()])).mean()
    decay = 0.2 * (output.weight.square().sum() + output.bias.square().sum()) / 2
    found = module.discriminator_loss({"image": real}, fakes)
    torch.testing.assert_close(found["loss"], 2 * (entropy + decay))
    module.output_decay = 0.0
    torch.testing.assert_close(module.discriminator_loss({"image": real}, fakes)["loss"], 2 * entropy)


@pytest.mark.parametrize("batch", [1, 9, 1000])
@pytest.mark.parametrize(("reward", "ends"), [("probability", False), ("log", True), ("logit", False)])
def test_values_are_those_of_a_loop_over_tokens_and_rollouts(reward: str, ends: bool, batch: int) -> None:
    """With the same uniform numbers, by the policy that lags, in parts of any size; nothing is dropped."""
    module, tokens = texts(reward=reward, rollout_batch=batch), some()
    module.ends = ends
    with torch.no_grad():
        for weight in module.lagging.parameters():
            weight.mul_(1.5)
    tokens = tokens * counting(tokens, ends)
    drawn: list[Tensor] = []
    draw = module.draw
    module.draw = lambda *arguments: drawn.append(draw(*arguments)) or drawn[-1]
    found = module.train().action_values(tokens)
    assert module.discriminator.training
    (numbers,) = drawn
    assert numbers.shape == (4, 3, 10)
    module.eval()

    def worth(sequence: Tensor) -> float:
        kept = sequence * counting(sequence[None], ends)[0]
        logit = module.discriminator(kept[None])[0].detach()
        return float({"probability": logit.sigmoid(), "log": logit.sigmoid().log(), "logit": logit}[reward])

    for row, known in itertools.product(range(4), range(1, LENGTH)):
        total = 0.0
        for rollout in range(3):
            mine = torch.zeros(1, LENGTH)
            for place in range(known, LENGTH):
                mine[0, place] = numbers[row, rollout, place * (place - 1) // 2 + known - 1]
            total += worth(module.lagging.complete(tokens[row : row + 1], known, mine)[0])
        assert float(found[row, known - 1]) == pytest.approx(total / 3, rel=1e-4)
    assert found[:, -1].tolist() == pytest.approx([worth(row) for row in tokens], rel=1e-4)


@pytest.mark.parametrize(("baseline", "ends"), [("none", False), ("none", True), ("batch", False)])
def test_the_policys_loss_is_its_formula(baseline: str, ends: bool) -> None:
    module, tokens = texts(baseline=baseline), some()
    module.ends = ends
    values = torch.rand(4, LENGTH, generator=torch.Generator().manual_seed(2))
    module.action_values = lambda tokens: values
    log = module.generator.logits(tokens).log_softmax(2)
    total = torch.zeros(())
    for row in range(4):
        others = (
            values[[other for other in range(4) if other != row]].mean(0) if baseline == "batch" else torch.zeros(5)
        )
        for place in range(LENGTH):
            total = total - log[row, place, tokens[row, place]] * (values[row, place] - others[place]) / 4
            if ends and tokens[row, place] == 0:
                break
    torch.testing.assert_close(module.generator_loss({"image": tokens}, tokens)["loss"], total)


def test_fakes_have_nothing_after_their_end() -> None:
    module = texts()
    uniforms = torch.rand(50, LENGTH, generator=torch.Generator().manual_seed(0))
    plain = module.generate({}, uniforms)
    module.ends = True
    for made, before in zip(module.generate({}, uniforms).tolist(), plain.tolist(), strict=True):
        end = before.index(0) if 0 in before else LENGTH
        assert made == before[:end] + [0] * (LENGTH - end)


# ---- the policy gradient --------------------------------------------------------------------------------------------


def gradient_of(module: Any, loss: Tensor) -> Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(module.generator.parameters()))])


def likelihoods(module: Any, sequences: Tensor) -> Tensor:
    log = module.generator.logits(sequences).log_softmax(2)
    return log.gather(2, sequences[..., None])[..., 0].sum(1).exp()


def enumerated(length: int = 3) -> tuple[Any, Tensor, Tensor, Tensor]:
    """A game of three tokens with fixed rewards, all its sequences, their rewards and the gradient of their mean."""
    module = texts(3, length, 1.0, discriminator=Table(length), rollouts=4)
    every = torch.tensor(list(itertools.product(range(3), repeat=length)))
    rewards = module.discriminator(every).sigmoid().detach()
    return module, every, rewards, gradient_of(module, (likelihoods(module, every) * rewards).sum())


def test_with_exact_values_all_sequences_together_give_the_gradient_of_the_mean_reward() -> None:
    """Yu et al. 2017, eq. 1 and its theorem in the appendix: each sequence counts as often as it is drawn."""
    module, every, rewards, exact = enumerated()
    shares = likelihoods(module, every).detach()
    values = torch.stack(
        [
            torch.stack(
                [
                    (shares * rewards)[same].sum() / shares[same].sum()
                    for known in range(1, 4)
                    for same in [(every[:, :known] == row[:known]).all(1)]
                ]
            )
            for row in every
        ]
    )
    total = torch.zeros_like(exact)
    for index, share in enumerate(shares):
        module.action_values = lambda tokens, index=index: values[index : index + 1]
        row = every[index : index + 1]
        total += share * gradient_of(module, module.generator_loss({"image": row}, row)["loss"])
    torch.testing.assert_close(-total, exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("baseline", ["none", "batch"])
def test_drawn_sequences_and_rollouts_give_it_on_average(baseline: str) -> None:
    """The mean of 20 gradients lies as near the exact one as its standard error lets it (twice that at most)."""
    module, _, _, exact = enumerated()
    module.baseline = baseline
    found = []
    for turn in range(20):
        module.counters.minibatches = turn  # other numbers
        uniforms = torch.rand(400, 3, generator=torch.Generator().manual_seed(turn))
        tokens = module.generate({}, uniforms)
        found.append(-gradient_of(module, module.generator_loss({"image": tokens}, tokens)["loss"]))
    gradients = torch.stack(found)
    error = (gradients.var(0).sum() / 20).sqrt()
    assert error < 0.2 * exact.norm()  # so that the next line says something
    assert (gradients.mean(0) - exact).norm() < 2 * error


def test_the_policy_learns_what_is_rewarded(tmp_path: Path) -> None:
    """A discriminator that never moves likes tokens 1; a sixth of those of the untrained generator are."""

    class Likes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, tokens: Tensor, labels: Tensor | None = None) -> Tensor:
            return self.weight * ((tokens == 1).float().mean(1) * 6 - 3)

    module = texts(deviation=0.1, discriminator=Likes(), discriminator_optimizer=partial(torch.optim.SGD, lr=0.0))
    before = (module.sample(200) == 1).float().mean()
    fit(module, Counting(256), tmp_path, max_epochs=3)
    assert before < 0.3
    assert (module.sample(200) == 1).float().mean() > 0.7


# ---- phases ---------------------------------------------------------------------------------------------------------


def test_three_phases_follow_each_other(tmp_path: Path) -> None:
    """Three minibatches of the generator, two of the discriminator, three of both, of which the first and the third
    move the generator; its optimizer begins anew, the discriminator's goes on."""
    module = texts(pretraining_images=24, discriminator_images=16, step=Step(critic_steps=2))
    seen: list[Any] = []

    def see(module: Any) -> None:
        steps = [
            [int(state["step"]) for state in player.optimizer.state.values()] for player in module.players.values()
        ]
        taken = [max(of_player, default=0) for of_player in steps]
        seen.append(
            (named(module.generator), named(module.discriminator), named(module.lagging), taken, module.phase.name)
        )

    generator, discriminator, lagging = named(module.generator), named(module.discriminator), named(module.lagging)
    fit(module, Counting(), tmp_path, Watch(see))
    plan = ["G", "G", "G", "D", "D", "GD", "D", "GD"]
    taken = {"D": 0, "G": 0}
    assert len(seen) == len(plan)
    for number, (movers, (new_generator, new_discriminator, new_lagging, steps, phase)) in enumerate(
        zip(plan, seen, strict=True)
    ):
        changed = {name for name, weight in new_generator.items() if not weight.equal(generator[name])}
        assert changed == (set(new_generator) if "G" in movers else set())
        assert ("D" in movers) == any(not new_discriminator[name].equal(discriminator[name]) for name in discriminator)
        if number < 5:
            assert all(new_lagging[name].equal(new_generator[name]) for name in lagging)
        elif "G" in movers:
            for name, weight in new_generator.items():
                expected = weight if name == "embedding.weight" else 0.8 * lagging[name] + 0.2 * weight
                torch.testing.assert_close(new_lagging[name], expected)
        else:
            assert all(new_lagging[name].equal(lagging[name]) for name in lagging)
        taken = {name: taken[name] + (name in movers) for name in taken}
        if number == 2:
            taken["G"] = 0  # forgotten
        assert steps == [taken["D"], taken["G"]]
        assert phase == ("likelihood" if number < 2 else "discriminator" if number < 4 else "adversarial")  # the next
        generator, discriminator, lagging = new_generator, new_discriminator, new_lagging


def test_the_lagging_policy_begins_as_the_weights_that_were_given(tmp_path: Path) -> None:
    module = texts()
    with torch.no_grad():
        module.generator.output.weight.add_(1.0)
    fit(module, Counting(), tmp_path, budget=Budget(images=8))
    difference = module.lagging.output.weight - module.generator.output.weight
    assert difference.abs().max() < 0.1


def test_without_a_game_nothing_is_judged(tmp_path: Path) -> None:
    """Maximum likelihood alone: log 2 is the best there is, the untrained generator is near log 6."""
    module = texts(pretraining_images=None, deviation=0.1)
    module.generate = module.judge = None  # would fail
    data = Counting(256)
    data.setup()
    held_out = {"image": data.held_out.__getitems__(range(16))["image"]}
    before = float(module.likelihood_loss(held_out, None)["loss"].detach())
    fit(module, data, tmp_path, max_epochs=8)
    assert before > 1.7
    assert float(module.likelihood_loss(held_out, None)["loss"].detach()) < 0.8


def test_losses_of_held_out_texts_leave_out_what_completes_every_beginning() -> None:
    module, data = texts(), Counting(16)
    module.counters.phase = len(module.phases) - 1
    data.setup()
    found = held_out_losses(module, data, ema=False)
    assert found["held_out_texts"] == 16
    assert "D/loss" in found
    assert not any(name.startswith("G/") for name in found)


STOPS = [(1, 4), (2, 6), (3, 7)]  # within the phases of 3, 2 and 5 minibatches, and between them


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("stops", STOPS)
def test_resumed_in_any_phase_is_uninterrupted(stops: tuple[int, ...], accumulate: int, tmp_path: Path) -> None:
    def train(folder: Path, minibatches: int) -> None:
        module = texts(
            pretraining_images=24 * accumulate,
            discriminator_images=16 * accumulate,
            output_decay=0.2,
            step=Step(critic_steps=2, accumulate=accumulate),
        )
        module.config = {}
        checkpoint = folder / FOLDER / LAST
        budget = Budget(images=8 * accumulate * minibatches)
        known = checkpoint if checkpoint.exists() else None
        fit(module, Counting(), folder, Checkpoints(), budget=budget, checkpoint=known, max_epochs=3)

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, 10)
    for minibatches in (*stops, 10):
        train(parts, minibatches)
    found, expected = (read_checkpoint(folder / FOLDER / LAST) for folder in (parts, whole))
    assert expected["counters"]["phase"] == 2
    assert any(key.startswith("lagging.") for key in expected["state_dict"])
    for key in ("state_dict", "optimizer_states"):
        torch.testing.assert_close(found[key], expected[key], rtol=0, atol=0)
    for checkpoint in (found, expected):
        checkpoint["counters"].pop("seconds")
    assert found["counters"] == expected["counters"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generator": nn.Linear(1, 1)}, "generator: Linear completes no sequences; use LSTMGenerator"),
        (
            {"discriminator": Table(2), "output_decay": 0.2},
            r"output_decay=0\.2: Table has no layer `output`; use 0",
        ),
    ],
)
def test_what_does_not_fit_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        texts(**settings)
