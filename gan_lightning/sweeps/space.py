"""What is searched: Hydra's sweep functions as Optuna's distributions, and their values in Hydra's grammar again."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

from gan_lightning.config.messages import mistake
from gan_lightning.errors import UserError

SEED = "seed"  # is repeated and averaged over, not searched


@dataclass(frozen=True)
class Space:
    """Arguments in Hydra's grammar, by what a search does with them.

    Args:
        searched: distributions by key, with its +, as Hydra takes it.
        seeds: every trial is run with each; None: with the one that the configuration has.
        fixed: the same in every trial: key=value.
    """

    searched: dict[str, BaseDistribution]
    seeds: list[int] | None
    fixed: list[str]

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """The arguments of a trial, in Hydra's grammar. Raises UserError for values that the space does not have: the
        study's file may come from elsewhere, and what is typed into Hydra may lead to files."""
        for key, distribution in self.searched.items():
            if not possible(distribution, values.get(key)):
                raise UserError(f"hydra.sweep.dir: its study has {key}={str(values.get(key))[:80]!r}: not searched")
        return [*self.fixed, *(f"{key}={in_grammar(values[key])}" for key in self.searched)]

    def grid(self) -> list[dict[str, Any]]:
        """Every combination, the last key fastest. Raises UserError for what has no single values."""
        lists = {key: every(key, distribution) for key, distribution in self.searched.items()}
        return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]

    def at(self, config: DictConfig) -> dict[str, Any] | None:
        """The values that a configuration has itself; None where one of them is not in the space."""
        found = {}
        for key, distribution in self.searched.items():
            name = key.lstrip("+")
            group = name in config.hydra.runtime.choices
            value = config.hydra.runtime.choices[name] if group else OmegaConf.select(config, name)
            inside = held(distribution, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value)
            if inside is None:
                return None
            found[key] = inside
        return found


def read_space(arguments: Sequence[str], config_loader: Any = None) -> Space:
    """The space that arguments in Hydra's grammar span. Raises UserError where there is nothing to search."""
    searched: dict[str, BaseDistribution] = {}
    seeds: list[int] | None = None
    fixed = []
    for override in OverridesParser.create(config_loader).parse_overrides(list(arguments)):
        key = override.get_key_element()
        if not override.is_sweep_override():
            fixed.append(str(override.input_line))
        elif key.lstrip("+") == SEED:
            seeds = seeds_of(override)
        else:
            searched[key] = distribution(key, override)
    if not searched:
        raise UserError("hydra.sweeper.params: nothing is searched: give a key several values, or an interval(…)")
    return Space(searched, seeds, fixed)


def seeds_of(override: Override) -> list[int]:
    """Each once. Raises UserError for what is no list of whole numbers."""
    try:
        return list(dict.fromkeys(int(text) for text in override.sweep_string_iterator()))
    except (ValueError, HydraException):
        raise mistake(SEED, said(override), "seeds are whole numbers: seed=1,2,3") from None


def distribution(key: str, override: Override) -> BaseDistribution:
    """Of one argument: choices are texts in Hydra's grammar, ranges and intervals numbers; log with tag(log, …)."""
    sweep = override.value()
    try:
        if getattr(sweep, "shuffle", False):
            raise ValueError("the sampler chooses the order: leave out shuffle")
        if isinstance(sweep, IntervalSweep):
            return between(sweep.start, sweep.end, None, "log" in sweep.tags)
        if isinstance(sweep, RangeSweep):
            count, step = len(list(cast(Any, sweep.range()))), cast(float, sweep.step)
            if not count:
                raise ValueError("no value at all")
            if "log" in sweep.tags:
                raise ValueError("has steps, and a logarithm none: use tag(log,interval(…))")
            last = round(cast(float, sweep.start) + (count - 1) * step, 12)  # which adding steps up would miss
            low, high = sorted([cast(float, sweep.start), last])
            return between(low, high, abs(step), False)
    except ValueError as error:
        raise mistake(key.lstrip("+"), said(override), str(error)) from error
    return CategoricalDistribution([str(text) for text in override.sweep_string_iterator()])


def between(low: Any, high: Any, step: Any, log: bool) -> BaseDistribution:
    """Whole numbers, if both ends are: int(interval(1,8)), range(1,9)."""
    if all(isinstance(number, int) for number in (low, high, step or 1)):
        return IntDistribution(low, high, log, step or 1)
    return FloatDistribution(low, high, log, step)


def said(override: Override) -> str:
    return str(override.input_line).partition("=")[2]


def every(key: str, distribution: BaseDistribution) -> list[Any]:
    """All values of a distribution, for a grid."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    step = distribution.step if isinstance(distribution, FloatDistribution | IntDistribution) else None
    if step is None:
        raise UserError(f"{key.lstrip('+')}: a grid goes through single values: use a,b,c or range(…)")
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    count = round((distribution.high - distribution.low) / step) + 1
    return [distribution.low + index * step for index in range(count)]


def possible(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a distribution has a value of a trial."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    return held(distribution, value) is not None


def held(distribution: BaseDistribution, value: Any) -> Any:
    """A configuration's value as the distribution has it; None if it is not there."""
    if isinstance(distribution, CategoricalDistribution):
        return next((text for text in distribution.choices if meant(str(text)) == value), None)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    try:
        create_trial(params={"value": value}, distributions={"value": distribution}, value=0.0)
    except ValueError:
        return None
    return value


def meant(text: str) -> Any:
    """The value that a text in Hydra's grammar stands for."""
    return OverridesParser.create().parse_override(f"key={text}").value()


def in_grammar(value: Any) -> str:
    """A value of a distribution as Hydra reads it back, exactly."""
    return value if isinstance(value, str) else repr(value)
