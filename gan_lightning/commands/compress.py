"""Makes a trained generator smaller or faster, and says in one table what it saves and what it costs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from rich.console import Console

from gan_lightning.adversarial import AdversarialModule
from gan_lightning.checkpoint import find_checkpoint
from gan_lightning.commands.loading import choose_device, load_data, load_module
from gan_lightning.commands.sample import output_folder
from gan_lightning.commands.train import FIXED, keep_places, sets
from gan_lightning.commands.train import Settings as Run
from gan_lightning.compression import costs
from gan_lightning.compression.results import Method, Source
from gan_lightning.config import check, check_models, compose, instantiate, override
from gan_lightning.config.signatures import root_hints
from gan_lightning.errors import UserError
from gan_lightning.metrics import records
from gan_lightning.metrics.scoring import Scorer, ScoreSettings
from gan_lightning.models.dpgan import DPGAN
from gan_lightning.types import Node, PositiveInt

TABLE = "compression"  # .json and .md beside the run that comes of it


class Settings(TypedDict):
    """The keys of conf/compress.yaml; others are of the run: data.root=…, step.…, model.generator_optimizer.lr=…"""

    checkpoint: Path
    output: Path | None
    method: Node
    accelerator: Literal["auto", "cpu", "gpu"]
    threads: PositiveInt
    scores: Annotated[Node, ScoreSettings]


def run(arguments: list[str]) -> int:
    """The command: a run in a folder that was empty, with compression.json and compression.md beside it."""
    own, of_run = split_arguments(arguments)
    if not any(sets(argument, "method") for argument in own):
        raise UserError("method: give one: method=prune, method=distill or method=quantize")
    settings = check(compose("compress", own, Settings), Settings)
    device = choose_device(settings["accelerator"])
    how: ScoreSettings = instantiate(settings["scores"])
    method: Method = check_models({"method": settings["method"]})["method"]
    path = find_checkpoint(Path(settings["checkpoint"]))
    module = load_module(path)
    if isinstance(module, DPGAN):
        raise UserError(f"checkpoint={path}: what compression learns of private data is not counted: DPGAN is refused")
    config = check(override(module.config or {}, of_run, Run, FIXED), Run)
    keep_places(config["data"])
    data = load_data(config, module.data_facts)
    module.show(data)
    scorer = None if how.names == [] else Scorer(how, data).to(device)
    if scorer:
        scorer.metrics(module)  # refuses what cannot be made, now
    source = Source(path, config, module, data, output_folder(settings, "compressed"))
    facts = method.run(source)
    result = load_module(source.folder)
    result.show(data)
    both = {"before": module, "after": result}
    scores = {name: scored(one.to(device), scorer) for name, one in both.items()} if scorer else {}
    if scores:
        records.append(source.folder / records.FILE, scores["after"])
    found = costs.measure(both, threads=settings["threads"], device=device)
    write(source.folder, found, scores, facts, settings["method"], path)
    return 0


def split_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """A command's own arguments, and those that change the run."""
    own_roots = root_hints(Settings)
    roots = {key for key in root_hints(Run) if key not in own_roots}
    of_run = [argument for argument in arguments if argument.lstrip("+~").partition("=")[0].partition(".")[0] in roots]
    for argument in of_run:
        bare = argument.lstrip("+~")
        if bare.startswith(("budget.", "budget=", "trainer.max_epochs")):
            raise UserError(f"{argument}: method.images= says how long a method trains")
        if bare.startswith("weights="):
            raise UserError(f"{argument}: a method begins with the weights of checkpoint=")
    return [argument for argument in arguments if argument not in of_run], of_run


def scored(module: AdversarialModule, scorer: Scorer) -> list[records.Record]:
    """All scores of one of the two, on the same real samples."""
    return scorer.score(module, source="compress")


def write(
    folder: Path,
    found: Mapping[str, costs.Costs],
    scores: Mapping[str, list[records.Record]],
    facts: Mapping[str, Any],
    method: Mapping[str, Any],
    path: Path,
) -> None:
    """Prints the table, and leaves it in the folder with what was asked for and where it came from."""
    values = {name: {record.metric: record.value for record in of} for name, of in scores.items()}
    table = costs.Table(found, values)
    kept = {"of": str(path.resolve()), "method": method, "facts": facts, "costs": table.plain(), "scores": values}
    (folder / f"{TABLE}.json").write_text(json.dumps(kept, indent=2, ensure_ascii=False, default=str) + "\n")
    about = "\n".join(f"- {key.replace('_', ' ')}: {value}" for key, value in facts.items())
    (folder / f"{TABLE}.md").write_text(f"{table.markdown()}\n\n{about}\n")
    for key, value in facts.items():
        print(f"{key.replace('_', ' ')}: {value}")
    Console().print(table.rich())
    print(folder)
