"""The model card, README.md: what the Hugging Face Hub reads, and what a person must know to use the files."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import nn

from gan_lightning.adversarial import AdversarialModule
from gan_lightning.exporting import onnx, program, weights
from gan_lightning.exporting.graph import DISTRIBUTIONS, Graph, Translating
from gan_lightning.networks.onnx import ONNXNetwork
from gan_lightning.sequences import TextRule
from gan_lightning.translation import Direction

FILE, VOCABULARY = "README.md", "vocabulary.json"
PIPELINES = {"images": "unconditional-image-generation", "texts": "text-generation"}  # the Hub has none for sounds
FULL = 4  # digits of a score


@dataclass(frozen=True)
class Facts:
    """What is known of the run beside its module.

    Args:
        name: of its folder.
        config: without the paths of this machine.
        noun: what samples are.
        training: how many samples it was trained on; None where the data is not at hand.
        records: the lines of its scores.jsonl that are of these weights.
        rate: of sounds, samples a second.
        direction: of a translator.
        compression: what compression cost, as Markdown; "": the run was not compressed.
    """

    name: str
    version: str
    config: Mapping[str, Any]
    noun: str
    weights: str
    training: int | None
    records: Sequence[Mapping[str, Any]]
    rate: int | None = None
    direction: Direction = "a2b"
    compression: str = ""


def write(
    folder: Path, module: AdversarialModule, graph: Graph, facts: Facts, differences: Mapping[str, str], shown: str
) -> None:
    """<folder>/README.md.

    differences: how each file differs from torch; shown: the file with samples, or "".
    """
    parts = [
        front_matter(module, graph, facts, differences),
        f"# {facts.name}\n\n{introduction(module, graph, facts)}",
        *([f"![samples]({shown})" if shown.endswith(".png") else f"Samples: [{shown}]({shown})"] if shown else []),
        "## Architecture\n\n" + architecture(module, graph),
        "## Data\n\n" + data(module, facts),
        "## Recipe\n\n" + recipe(module, facts),
        "## Scores\n\n" + scores(facts),
        *([f"## Compression\n\n{facts.compression.strip()}"] if facts.compression else []),
        "## Use\n\n" + use(module, graph, facts, differences),
        "## License\n\nThe license of these weights is for their owner to choose: add `license:` to the head of this"
        " file. The data may have terms of its own.",
    ]
    (folder / FILE).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def front_matter(module: AdversarialModule, graph: Graph, facts: Facts, files: Mapping[str, str]) -> str:
    """YAML that the Hub reads."""
    rule = type(module).__name__.lower()
    tags = ["gan", "pytorch", rule, *(name.replace("_", "-") for name in files)]
    pipeline = "image-to-image" if isinstance(graph, Translating) else PIPELINES.get(facts.noun)
    conditional = bool(module.classes) and facts.noun == "images"
    lines = ["---", "library_name: gan_lightning", "tags:", *(f"- {tag}" for tag in dict.fromkeys(tags))]
    if pipeline and not conditional and facts.noun in ("images", "texts"):
        lines.append(f"pipeline_tag: {pipeline}")
    return "\n".join([*lines, "# license: add one", "---"])


def introduction(module: AdversarialModule, graph: Graph, facts: Facts) -> str:
    rule, network = type(module).__name__, type(graph.network).__name__
    of = "images" if isinstance(graph, Translating) else "latents"
    kind = "the moving average of the generator" if facts.weights == "ema" else "the generator's last weights"
    if isinstance(graph.network, ONNXNetwork):
        kind = "a graph for onnxruntime that was made of it"
    normed = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in graph.network.modules())
    return (
        f"A generator of {facts.noun} of {of}, trained as {rule} ({network}) with gan_lightning {facts.version}. "
        f"The files hold {kind}{', with the BatchNorm statistics that samples are made with' if normed else ''}."
    )


def architecture(module: AdversarialModule, graph: Graph) -> str:
    """The class, its size, what goes in and what comes out."""
    parameters = sum(parameter.numel() for parameter in graph.network.parameters())
    kind = type(graph.network)
    rows = ["| | name | shape | type | values |", "|---|---|---|---|---|"]
    for what, port in [*(("input", port) for port in graph.ports), ("output", graph.output)]:
        rows.append(f"| {what} | `{port.name}` | {shaped(port.shape)} | {port.dtype} | {port.meaning} |")
    size = f"{parameters:,} parameters"
    if isinstance(graph.network, ONNXNetwork):
        size = f"{graph.network.graph.numel():,} bytes"
    said = f"`{kind.__module__}.{kind.__name__}`, {size}.\n\n" + "\n".join(rows)
    return said + "\n\nN, the number of samples, is free." + sizes(graph)


def shaped(shape: Sequence[Any]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def sizes(graph: Graph) -> str:
    """Which sides an image may have."""
    if not isinstance(graph, Translating):
        return ""
    least, multiple = graph.multiple * graph.fewest, graph.multiple
    said = f" So are the sides of an image: {'multiples of ' + str(multiple) if multiple > 1 else 'any'}"
    return f"{said}, from {least} pixels on. Pad others, and cut what comes out."


def data(module: AdversarialModule, facts: Facts) -> str:
    """What it was trained on."""
    kind = facts.config["data"]["_target_"].rpartition(".")[2]
    count = "" if facts.training is None else f", {facts.training:,} {facts.noun} to train on"
    names = f": {', '.join(module.class_names[:100])}" if module.class_names else ""
    classes = f" Classes that the generator is told: {module.classes}{names}." if module.classes else ""
    return f"`{kind}`{count}.{classes}"


def recipe(module: AdversarialModule, facts: Facts) -> str:
    """The rule, the optimizers, how long, and the whole configuration."""
    model, counters = facts.config["model"], module.counters
    rows = ["| | |", "|---|---|", f"| rule | `{model['_target_']}` |"]
    for player in ("generator", "discriminator"):
        node = dict(model[f"{player}_optimizer"])
        name = str(node.pop("_target_", "")).rpartition(".")[2]
        how = ", ".join(f"{key}={value}" for key, value in node.items() if not key.startswith("_"))
        rows.append(f"| {player}'s optimizer | {name} ({how}) |")
    rows += [
        f"| minibatch | {facts.config['data'].get('batch_size')} |",
        f"| {facts.noun} seen | {counters.images:,} |",
        f"| generator steps | {counters.generator_steps:,} |",
        f"| seed | {facts.config['seed']} |",
    ]
    whole = OmegaConf.to_yaml(OmegaConf.create(dict(facts.config)))
    return (
        "\n".join(rows) + "\n\n<details><summary>The whole configuration of `python -m gan_lightning`; paths are left "
        f"out</summary>\n\n```yaml\n{whole}```\n\n</details>"
    )


def scores(facts: Facts) -> str:
    """The newest record of each metric of these weights, with how it was made."""
    newest: dict[str, Mapping[str, Any]] = {}
    for record in facts.records:
        if not record.get("truncation"):
            newest[str(record.get("metric"))] = record
    if not newest:
        return "None were recorded for these weights."
    columns = ("metric", "value", "extractor", "real", "generated", f"of {facts.noun} seen", "made by")
    rows = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for metric, record in sorted(newest.items()):
        value = record.get("value")
        shown = "inf" if value is None else f"{value:.{FULL}g}"
        spread = f" ± {record['std']:.2g}" if record.get("std") is not None else ""
        extractor = f"{record.get('extractor')} v{record.get('version')}" if record.get("version") else "none"
        split = f"{record.get('n_real', 0):,} ({record.get('split')})"
        how = "".join(f", {key}={one}" for key, one in (record.get("settings") or {}).items())
        forced = ", forced: too few images" if record.get("forced") else ""
        rows.append(
            f"| {metric}{how} | {shown}{spread}{forced} | {extractor} | {split} | {record.get('n_fake', 0):,} "
            f"| {record.get('images', 0):,} | {record.get('source')}, seed {record.get('seed')} |"
        )
    return "\n".join(rows) + "\n\nNumbers are comparable where all but the model is equal, above all the extractor."


# ---- how the files are used -----------------------------------------------------------------------------------------


def use(module: AdversarialModule, graph: Graph, facts: Facts, differences: Mapping[str, str]) -> str:
    """A few lines of Python for each file."""
    said = []
    if "onnx" in differences:
        said.append(
            f"`{onnx.FILE}` needs onnxruntime and NumPy ({differences['onnx']}):\n\n"
            f"```python\n{of_onnx(module, graph, facts)}\n```"
        )
    if "torch_export" in differences:
        names = ", ".join(port.name for port in graph.ports) + ("," if len(graph.ports) == 1 else "")
        lines = ["import numpy as np", "import torch", "", *inputs(module, graph)]
        lines.append(f'network = torch.export.load("{program.FILE}").module()')
        lines.append(f"{graph.output.name} = network(*map(torch.from_numpy, ({names})))")
        said.append(
            f"`{program.FILE}` needs torch alone ({differences['torch_export']}); here NumPy draws what it is given:"
            "\n\n```python\n" + "\n".join(lines) + "\n```"
        )
    if "safetensors" in differences:
        torch = ["import torch", ""] if isinstance(graph, Translating) else []
        lines = [*torch, "import gan_lightning", "", 'module = gan_lightning.load("<this folder>")']
        lines += of_module(graph, facts)
        shown = "\n".join(lines)
        said.append(
            f"`{weights.FILE}` and `{weights.CONFIG}` are read by gan_lightning {facts.version}: the folder stands in "
            f"the place of a run (`sample checkpoint=<folder>`). The discriminator is not in it."
            f"\n\n```python\n{shown}\n```"
        )
    return "\n\n".join(said)


def of_onnx(module: AdversarialModule, graph: Graph, facts: Facts) -> str:
    """A program that has only NumPy and onnxruntime."""
    lines = ["import numpy as np", "import onnxruntime", "", *inputs(module, graph)]
    after = afterwards(module, graph, facts)
    if any("json." in line for line in after):
        lines.insert(0, "import json")
    given = ", ".join(f'"{port.name}": {port.name}' for port in graph.ports)
    lines += [
        f'session = onnxruntime.InferenceSession("{onnx.FILE}")',
        f"{graph.output.name} = session.run(None, {{{given}}})[0]",
        *after,
    ]
    return "\n".join(lines)


def of_module(graph: Graph, facts: Facts) -> list[str]:
    """Lines that use what gan_lightning.load returns."""
    if not isinstance(graph, Translating):
        return [f"{graph.output.name} = module.sample(16, seed=0)"]
    side = graph.multiple * graph.usual
    lines = [f"image = torch.zeros(1, {graph.channels}, {side}, {side})  # pixels / 127.5 - 1"]
    if graph.masked:
        lines += [f"mask = torch.zeros(1, 1, {side}, {side})", "mask[:, :, 8:16, 8:16] = 1"]
        lines.append("image = torch.cat([image * (1 - mask), mask], 1)")
    direction = "" if facts.direction == "a2b" else f'direction="{facts.direction}"'
    return [*lines, f"images = module.translating({direction})(image).detach()"]


def inputs(module: AdversarialModule, graph: Graph) -> list[str]:
    """Lines that make each input with NumPy."""
    lines = ["random = np.random.default_rng(0)"]
    if isinstance(graph, Translating):
        side = graph.multiple * graph.usual
        lines.append(f"image = np.zeros((1, {graph.channels}, {side}, {side}), np.float32)  # pixels / 127.5 - 1")
        if graph.masked:
            lines += [f"mask = np.zeros((1, 1, {side}, {side}), np.float32)", "mask[:, :, 8:16, 8:16] = 1"]
        for number, (channels, pixels) in enumerate(graph.noises, 1):
            small = side // pixels
            lines.append(f"noise_{number} = random.random((1, {channels}, {small}, {small}), np.float32)")
    else:
        lines += latents(module, graph)
        if module.classes:
            lines.append(f"labels = np.arange(16) % {module.classes}")
    return lines


def latents(module: AdversarialModule, graph: Graph) -> list[str]:
    """Lines that draw 16 latents."""
    size = graph.ports[0].shape[1]
    if isinstance(module, TextRule):
        return [f"latents = random.random((16, {size}), np.float32)"]
    drawn = {
        "normal": f"random.standard_normal((16, {size}), np.float32)",
        "uniform": f"random.uniform(-1, 1, (16, {size})).astype(np.float32)",
        "unit": f"random.random((16, {size}), np.float32)",
    }
    assert set(drawn) == set(DISTRIBUTIONS)
    lines = [f"latents = {drawn[module.latents]}"]
    for start, end in module.code_slices().values():
        if end - start > 1:
            width = end - start
            lines.append(f"latents[:, {start}:{end}] = np.eye({width})[random.integers({width}, size=16)]")
        else:
            lines.append(f"latents[:, {start}] = random.uniform(-1, 1, 16)")
    return lines


def afterwards(module: AdversarialModule, graph: Graph, facts: Facts) -> list[str]:
    """From what the file gives to what people see or hear."""
    name = graph.output.name
    if isinstance(module, TextRule):
        if "words" not in module.data_facts:
            return []
        join = '""' if facts.config["data"].get("tokens") == "characters" else '" "'
        return [
            f'words = json.load(open("{VOCABULARY}", encoding="utf-8"))  # token 0 ends a text',
            "ends = [(row == 0).argmax() if 0 in row else len(row) for row in tokens]",
            f"texts = [{join}.join(words[t] for t in row[:end]) for row, end in zip(tokens, ends)]",
        ]
    if name == "sounds":
        rate = f", {facts.rate} samples a second" if facts.rate else ""
        return [f"waves = (sounds.clip(-1, 1) * 32767).round().astype(np.int16)  # (N, 1, T){rate}"]
    if name == "images":
        return ["pixels = ((images.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)  # (N, channels, height, width)"]
    return []


def vocabulary(module: AdversarialModule) -> str | None:
    """The text of vocabulary.json: the word of each token; None where there are no words."""
    words = module.data_facts.get("words")
    return None if words is None else json.dumps(["<end>", "<unk>", *words], ensure_ascii=False) + "\n"
