"""Writes a trained generator to files that other programs read, tried beside torch, with a model card."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypedDict

import gan_lightning
from gan_lightning.adversarial import AdversarialModule
from gan_lightning.checkpoint import WEIGHTS, find_checkpoint, run_folder
from gan_lightning.commands.compress import TABLE
from gan_lightning.commands.loading import load_data, load_module, split_arguments, stored_config
from gan_lightning.commands.sample import output_folder
from gan_lightning.config import check, compose, instantiate
from gan_lightning.data.base import Data, say
from gan_lightning.errors import UserError
from gan_lightning.exporting import card, hub, onnx, program, weights
from gan_lightning.exporting.graph import Graph, NoiseInput, graph_of
from gan_lightning.exporting.packages import need
from gan_lightning.metrics import records
from gan_lightning.networks.onnx import ONNXNetwork
from gan_lightning.sampling import sampler
from gan_lightning.translation import Direction, Translator
from gan_lightning.types import PositiveFloat

Format = Literal["onnx", "safetensors", "torch_export"]
SHOWN = 64  # samples beside the files


class Settings(TypedDict):
    """The keys of conf/export.yaml; `data.…` keys say where the run's data has moved, for translators' samples."""

    checkpoint: Path
    format: Format | list[Format]
    output: Path | None
    ema: bool
    direction: Direction
    noise: NoiseInput | None
    tolerance: PositiveFloat
    grid: bool
    push_to: str | None
    dry_run: bool
    private: bool


def run(arguments: list[str]) -> int:
    """The command: a folder of files, or nothing at all where one of them is not what torch does."""
    own, moved = split_arguments(arguments)
    settings = check(compose("export", own, Settings), Settings)
    formats = formats_of(settings)
    find_contradictions(settings, formats)
    path = Path(settings["checkpoint"])
    config = stored_config(path, moved)
    folder = output_folder(settings, "exported")
    module = load_module(path, config)
    data = data_of(module, config, needed=settings["grid"] and isinstance(module, Translator))
    how: dict[str, Any] = {key: settings[key] for key in ("ema", "direction", "noise")}
    graph = graph_of(module, data.noun, **how)
    if isinstance(graph.network, ONNXNetwork) and "torch_export" in formats:
        raise UserError("format=torch_export: the generator is a graph of onnxruntime: use onnx or safetensors")
    with appearing(folder) as part:
        for line in write(part, module, graph, data, config, settings, formats):
            print(line)
    files = hub.contents(folder)
    print(f"{folder}:\n{hub.listed(files)}")
    if settings["push_to"]:
        push(folder, settings)
    return 0


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder to fill, whose files are in `folder` afterwards, or nowhere where anything was raised.

    An empty folder stays the one that it is: it may be a mount, or the one that a user stands in.
    """
    there = folder.exists()
    part = (folder if there else folder.parent) / f".{folder.name}.{os.getpid()}.part"
    made = [place for place in part.parents if not place.exists()]  # the innermost first
    try:
        part.mkdir(parents=True)
        yield part
        if not there:
            part.replace(folder)
            return
        for file in part.iterdir():
            file.replace(folder / file.name)
    except OSError as error:
        raise UserError(f"output={folder}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
        with suppress(OSError):  # another process may have written there
            for place in made:
                place.rmdir()


def formats_of(settings: dict[str, Any]) -> list[Format]:
    """Those asked for, each once."""
    asked = settings["format"] if isinstance(settings["format"], list) else [settings["format"]]
    if not asked:
        raise UserError("format=[]: give one: onnx, safetensors or torch_export")
    return list(dict.fromkeys(asked))


def find_contradictions(settings: dict[str, Any], formats: Sequence[Format]) -> None:
    """Raises UserError for what cannot be done, before anything is read."""
    if "onnx" in formats:
        need(onnx.PACKAGES, "format=onnx")
    if settings["push_to"]:
        hub.check_repository(settings["push_to"])
        if not settings["dry_run"]:
            need(["huggingface_hub"], f"push_to={settings['push_to']}")
            hub.token_of()
    elif not settings["dry_run"]:
        raise UserError("dry_run=false: there is nothing to send; give push_to=<user>/<name>")


def data_of(module: AdversarialModule, config: dict[str, Any], needed: bool) -> Data:
    """The data of the run: loaded where it is at hand without a download, for what the card says of it; else as it is
    known from the configuration. `needed`: says so where it is not at hand."""
    here = {**config["data"], **({"download": False} if "download" in config["data"] else {})}
    try:
        data = load_data({"data": here}, module.data_facts)
        module.show(data)
        return data
    except (UserError, OSError) as error:
        if needed:
            say(f"grid=true: without samples, for the data is not at hand: {error}")
    data = instantiate(config["data"])
    data.recall(module.data_facts)
    return data


def write(
    folder: Path,
    module: AdversarialModule,
    graph: Graph,
    data: Data,
    config: dict[str, Any],
    settings: dict[str, Any],
    formats: Sequence[Format],
) -> list[str]:
    """All files, in a folder that nobody knows of yet; lines that say how they differ from torch."""
    path = find_checkpoint(Path(settings["checkpoint"]))
    version = gan_lightning.__version__
    about = weights.described(module, config, version, settings["ema"])
    if path.suffix == WEIGHTS.suffix:
        about["weights"] = weights.read_config(path.with_name(weights.CONFIG))["weights"]
    differences: dict[str, str] = {}
    if isinstance(graph.network, ONNXNetwork):
        if "onnx" in formats:
            differences["onnx"] = onnx.copy(graph, folder, settings["tolerance"]).text()
    elif set(formats) & {"onnx", "torch_export"}:
        with onnx.silence():
            found = graph.program()
        metadata = properties(module, graph, about, run_folder(path).name)
        for name, writer in (("onnx", onnx), ("torch_export", program)):
            if name in formats:
                differences[name] = writer.write(graph, found, folder, settings["tolerance"], metadata).text()
    if "safetensors" in formats:
        weights.write(folder, sampler(module, ema=settings["ema"]), about)
        differences["safetensors"] = "holds the weights themselves"
    if words := card.vocabulary(module):
        (folder / card.VOCABULARY).write_text(words, encoding="utf-8")
    shown = exhibit(folder, module, data, settings["ema"]) if settings["grid"] else ""
    training = len(data.train) if hasattr(data, "train") else None
    of_run = path.suffix != WEIGHTS.suffix  # all scores of an exported folder are of the weights in it
    scores = records.lines(run_folder(path) / records.FILE)
    scores = [record for record in scores if not of_run or record.get("weights") == about["weights"]]
    table = run_folder(path) / f"{TABLE}.md"
    facts = card.Facts(
        run_folder(path).name,
        version,
        weights.without_paths(config),
        data.noun,
        about["weights"],
        training,
        scores,
        getattr(data, "rate", None),
        settings["direction"],
        table.read_text(encoding="utf-8") if table.exists() else "",
    )
    card.write(folder, module, graph, facts, differences, shown)
    return [f"{name}: {said}" for name, said in differences.items()]


def properties(module: AdversarialModule, graph: Graph, about: dict[str, Any], name: str) -> dict[str, str]:
    """What the files themselves keep."""
    ports = [*graph.ports, graph.output]
    return {
        "gan_lightning": about["version"],
        "run": name,
        "model": type(module).__name__,
        "generator": type(graph.network).__name__,
        "weights": about["weights"],
        **{f"values of {port.name}": port.meaning for port in ports},
        **{f"shape of {port.name}": card.shaped(port.shape) for port in ports},
    }


def exhibit(folder: Path, module: AdversarialModule, data: Data, ema: bool) -> str:
    """Samples beside the files, as `sample` shows them: the name of their file; "" where there is no data to show."""
    if isinstance(module, Translator) and module.source is None:
        return ""
    count = min(SHOWN, data.most_shown)
    samples = module.sample(count if not isinstance(module, Translator) else min(count, 8), ema=ema)
    data.exhibit(samples, module, ema).save(folder / "grid")
    names = sorted(file.name for file in folder.glob("grid.*"))
    return next((name for name in names if name.endswith(".png")), names[0] if names else "")


def push(folder: Path, settings: dict[str, Any]) -> None:
    """Sends the folder, or says that it would."""
    name = settings["push_to"]
    kind = "private" if settings["private"] else "public"
    if settings["dry_run"]:
        print(f"dry run: these files would go to https://huggingface.co/{name} ({kind}); dry_run=false sends them")
        return
    print(f"sent to {hub.push(folder, name, settings['private'])} ({kind})")
