"""Every rule under every precision, accumulation, average, DiffAugment, interruption and number of processes.

The default run tries every pair of these in one process, and some in two; `pytest -m slow tests/test_matrix.py` has
them all, and all of them together.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from gan_lightning.checkpoint import FOLDER, LAST, read_checkpoint
from tests.matrix import (
    ALONE,
    BATCH,
    FACTORS,
    REFUSED,
    Case,
    outcome,
    pairs,
    pairwise,
    refusals,
    together,
    wanted,
    whole,
)

NOT_OF_THE_RUN = ("config", "class_names", "data", "global_step", "pytorch-lightning_version")
OWN_NOISE = ("stylegan2", "relgan", "textgan")  # drawn by the networks of every process
DTYPES = {"32-true": "torch.float32", "bf16-mixed": "torch.bfloat16", "16-mixed": "torch.float16"}


def verify(case: Case, found: dict[str, Any], folder: Path) -> None:
    """Refused with the right message, or everything as the case says."""
    refused = refusals(case)
    if refused:
        assert "refused" in found, f"{case} was not refused"
        assert found["refused"].startswith(tuple(REFUSED[key] for key in refused))
        assert "\n" not in found["refused"]
        assert not folder.exists() or not list(folder.rglob("*.ckpt"))
        return
    assert "refused" not in found, found["refused"]
    before, after = found["before"], found["after"]
    alone = ALONE.get(case.rule, 0)
    played = () if alone == 2 else ("discriminator.",)
    for network in ("generator.", *played, *(["ema.generator."] if case.ema else [])):
        assert any(not after[key].equal(value) for key, value in before.items() if key.startswith(network)), network
    assert len(found["losses"]) >= 2
    assert all(math.isfinite(loss) for loss in found["losses"])
    assert found["computed_in"] == DTYPES[case.precision]

    averages = [key for key in before if key.startswith("ema.")]
    assert bool(averages) == case.ema
    if case.ema:
        assert any(not after[key].equal(after[key.removeprefix("ema.")]) for key in averages)

    shown = found["real_shown"], found["fakes_shown"]
    assert (found["shown"] > 0) == (alone < 2)
    assert min(shown) > 0 if case.augment == "none" and alone < 2 else shown == (0, 0)

    run = last(folder / "whole")
    counters = run["counters"]
    assert counters["minibatches"] == found["minibatches"]
    assert counters["images"] == found["minibatches"] * BATCH * case.processes
    assert counters["discriminator_steps"] == found["minibatches"] / case.accumulate - alone
    assert counters["generator_steps"] == 2
    taken = [{int(state["step"]) for state in states.values()} for states in found["optimizers"]]
    by_both = 2 - alone if alone == 1 else 2  # pre-training's are forgotten
    assert taken == [{counters["discriminator_steps"]} - {0}, {by_both}]
    assert ("MixedPrecision" in run) == (case.precision == "16-mixed")
    torch.testing.assert_close(run["state_dict"], after, rtol=0, atol=0)
    if case.resume:
        parts = last(folder / "parts")
        if case.processes > 1:  # statistics of BatchNorm and styles become the mean over the ranks when they are saved
            for statistics in (run, parts):
                found_there = statistics["state_dict"]
                averaged = [key for key in found_there if "running_" in key or key.endswith("generator.mean")]
                statistics["running"] = {key: found_there.pop(key) for key in averaged}
            torch.testing.assert_close(parts.pop("running"), run.pop("running"), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(parts, run, rtol=0, atol=0)


def last(folder: Path) -> dict[str, Any]:
    """All of a run's last checkpoint that its settings and the clock do not say."""
    checkpoint = read_checkpoint(folder / FOLDER / LAST)
    checkpoint["counters"].pop("seconds")
    return {key: value for key, value in checkpoint.items() if key not in NOT_OF_THE_RUN}


def verify_together(cases: list[Case], folder: Path, seconds: float) -> None:
    """Two processes end alike, and where images do not see one another like one process with all of them."""
    ended = together(cases, folder, seconds)
    for number, case in enumerate(cases):
        ranks = [ended(number, rank) for rank in range(2)]
        for found in ranks:
            verify(case, found, folder / str(number))
        if refusals(case):
            continue
        for key in ("after", "optimizers"):
            torch.testing.assert_close(ranks[0][key], ranks[1][key], rtol=0, atol=0, msg=f"{case}: ranks differ")
        if case.precision == "32-true" and not ranks[0]["batch_norm"] and case.rule not in OWN_NOISE:
            alone = outcome(case._replace(processes=1, resume=False), folder / f"{number} alone", 2 * BATCH)
            for network in ("generator.", "discriminator."):
                one, two = (moves(found, network) for found in (alone, ranks[0]))
                assert (one - two).norm() <= 0.01 * one.norm(), f"{case}: {network} is not that of one process"


def moves(found: dict[str, Any], network: str) -> torch.Tensor:
    """How far a network's weights have gone, (P,)."""
    before, after = found["before"], found["after"]
    return torch.cat([(after[key] - before[key]).flatten().float() for key in before if key.startswith(network)])


# ---- pairs ----------------------------------------------------------------------------------------------------------


def test_the_selection_tries_every_pair() -> None:
    tried = set().union(*(pairs(case) for case in pairwise()))
    assert tried == wanted()
    assert len(pairwise()) <= 4 * len(FACTORS["rule"])


@pytest.mark.parametrize("case", [case for case in pairwise() if case.processes == 1], ids=str)
def test_every_pair(case: Case, tmp_path: Path) -> None:
    verify(case, outcome(case, tmp_path), tmp_path)


def test_some_pairs_in_two_processes(tmp_path: Path) -> None:
    verify_together([case for case in pairwise() if case.processes == 2][::4], tmp_path, seconds=120)


@pytest.mark.slow
def test_every_pair_in_two_processes(tmp_path: Path) -> None:
    verify_together([case for case in pairwise() if case.processes == 2], tmp_path, seconds=120)


# ---- everything -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("case", whole(processes=1), ids=str)
def test_the_whole_matrix(case: Case, tmp_path: Path) -> None:
    verify(case, outcome(case, tmp_path), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("rule", FACTORS["rule"])
def test_the_whole_matrix_in_two_processes(rule: str, tmp_path: Path) -> None:
    verify_together(whole(rule=rule, processes=2), tmp_path, seconds=600)
