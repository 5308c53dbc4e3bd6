"""The commands of the result tables, and what is refused."""

import pytest

from benchmarks.reproduce import command, main, spread
from benchmarks.tables import TABLES
from gan_lightning.commands.train import Settings
from gan_lightning.config import check, compose


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "stacked_mnist" else [pytest.mark.slow]) for name in TABLES]
)
def test_every_row_composes(name: str) -> None:
    table = TABLES[name]
    assert len({row.name for row in table.rows}) == len(table.rows)
    for row in table.rows:
        check(compose("train", command(table, row, 0), Settings), Settings)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["rnig"], "rnig"), (["ring", "--rows", "gan,nope"], "ring has no nope; it has gan"), (["mnist"], "MNIST/raw")],
)
def test_what_is_refused(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "share", "shown"),
    [([1.0], False, "1"), ([1.0, 2.0], False, "1.5 ± 0.71"), ([0.5, 0.7], True, "60.0 ± 14.1 %")],
)
def test_mean_and_spread(values: list[float], share: bool, shown: str) -> None:
    assert spread(values, share) == shown
