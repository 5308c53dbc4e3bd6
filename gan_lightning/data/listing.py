"""The images below a folder and the classes that they make, without torch: configurations ask for them."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from gan_lightning.errors import UserError

KEYS = ("settings", "versions", "images", "images_per_shard", "classes", "files", "left_out")  # of it
INDEX = "prepared.json"  # in a folder that `prepare` made; written last
UNFINISHED = ".unfinished"  # a folder in it until then
LABELS_FILE, NUMBERS_FILE, NAMES_FILE = "labels.npy", "numbers.npy", "images.jsonl"
UNREADABLE_FILE = "unreadable.txt"
KINDS = {"images": int, "images_per_shard": int, "classes": list}  # others are mappings
FILE = re.compile(r"shard_\d{5,}\.npy|labels\.npy|numbers\.npy|images\.jsonl|unreadable\.txt")  # in a prepared folder
LABELS = "dataset.json"  # StyleGAN's: {"labels": [["00000/img00000000.png", 6], …]} or null
MOST_CLASSES = 2**16
UNUSED = "data.labels=false does without it"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def walk(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Every visible file below a folder, sorted; links are followed, except to a folder that holds them."""
    above = (*above, os.path.realpath(folder))
    for entry in visible(folder):
        if not entry.is_dir():
            yield Path(entry.path)
        elif os.path.realpath(entry.path) not in above:
            yield from walk(Path(entry.path), above)


def leading_out(root: Path) -> list[str]:
    """The visible links below a folder that lead out of it, sorted, with / between folders; what they lead to is not
    looked into."""
    real = os.path.realpath(root)
    found: list[str] = []

    def look(folder: Path) -> None:
        for entry in visible(folder):
            if entry.is_symlink():
                if not Path(os.path.realpath(entry.path)).is_relative_to(real):
                    found.append(Path(entry.path).relative_to(root).as_posix())
            elif entry.is_dir(follow_symlinks=False):
                look(Path(entry.path))

    look(root)
    return found


def said_of_links(root: Path, key: str = "data.root") -> str:
    """A line about links that lead out of a folder of data; "" where there are none. They are followed: many data sets
    are made of them, and the folder is the user's own."""
    if not (found := leading_out(root)):
        return ""
    several = f"{len(found):,} links lead" if len(found) > 1 else "a link leads"
    return f"{key}={root}: {several} out of it: {found[0]} to {os.path.realpath(root / found[0])}; followed"


def visible(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name."""
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    return sorted(entries, key=lambda entry: entry.name)


def is_image(path: PurePath) -> bool:
    return path.suffix.lower() in SUFFIXES


def hashed(name: str) -> float:
    """A number in [0, 1) that depends on nothing but the name: images are held out, and mixed, by it."""
    digest = hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def class_folders(root: Path) -> list[str]:
    """The classes of a folder: of a prepared one, as dataset.json numbers them, or its folders.

    These are the first-level folders that hold images, where there are two or more and no image lies beside them; else
    none. Raises OSError where a folder cannot be listed, and UserError for an index or a dataset.json that is wrong.
    """
    if os.path.isfile(root / INDEX):
        return read_index(root)["classes"]
    if os.path.isfile(root / LABELS):
        return class_numbers(read_labels(root / LABELS, (root / LABELS).read_bytes()))
    above = os.path.realpath(root)
    names: list[str] = []
    for entry in visible(root):
        if not entry.is_dir():
            if is_image(Path(entry.path)):
                return []
        elif os.path.realpath(entry.path) != above and any(map(is_image, walk(Path(entry.path), (above,)))):
            names.append(entry.name)
    return names if len(names) > 1 else []


def classes_and_labels(names: Sequence[str], given: tuple[Path, bytes] | None) -> tuple[list[str], list[int]]:
    """The same classes, and the label of each image; `given`: a dataset.json and its content.

    Raises UserError where it says something else than these images.
    """
    if given is None:
        folders = {name.partition("/")[0] for name in names if "/" in name}
        classes = sorted(folders) if len(folders) > 1 and all("/" in name for name in names) else []
        number = {name: label for label, name in enumerate(classes)}
        return classes, [number.get(name.partition("/")[0], 0) for name in names]
    path = given[0]
    labels = read_labels(*given)
    classes = class_numbers(labels)
    if not labels:
        return classes, [0] * len(names)
    for kind, some in (
        ("has no label for", sorted(set(names) - set(labels))),
        ("has labels for files that are not there:", sorted(set(labels) - set(names))),
    ):
        if some:
            raise UserError(f"{path}: {kind} {some[0]}{f' and {len(some) - 1:,} more' if some[1:] else ''}; {UNUSED}")
    return classes, [labels[name] if classes else 0 for name in names]


def read_labels(path: Path, content: bytes) -> dict[str, int]:
    """Label by name as StyleGAN's tools write them; none for null. Raises UserError that names the file."""
    try:
        pairs = json.loads(content)["labels"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UserError(f'{path}: is not {{"labels": [[name, class], …]}} or {{"labels": null}}; {UNUSED}') from None
    if not isinstance(pairs, list | None):
        raise UserError(f"{path}: labels must be a list or null; {UNUSED}")
    labels: dict[str, int] = {}
    for index, pair in enumerate(pairs or ()):
        match pair:
            case [str(name), int(label)] if not isinstance(label, bool):
                pass
            case _:
                raise UserError(f"{path}: labels[{index}] is {json.dumps(pair)[:80]}, not [name, class]; {UNUSED}")
        if not 0 <= label < MOST_CLASSES:
            raise UserError(f"{path}: the class of {name} is {label}, not within 0..{MOST_CLASSES - 1}; {UNUSED}")
        if name in labels:
            raise UserError(f"{path}: has two labels for {name}; {UNUSED}")
        labels[name] = label
    return labels


def class_numbers(labels: dict[str, int]) -> list[str]:
    """The names of numbered classes, where there are two or more; else none."""
    most = max(labels.values(), default=0)
    return [str(number) for number in range(most + 1)] if most else []


def read_index(folder: Path) -> dict[str, Any]:
    """What a prepared folder says of itself. Raises UserError where that cannot be read."""
    try:
        index = json.loads((folder / INDEX).read_bytes())
        if index["format"] != 1:
            raise UserError(f"{folder / INDEX}: of another version of gan_lightning; prepare the images again")
        for key in KEYS:
            if key not in index:
                raise KeyError(f"it has no {key}")
            if not isinstance(index[key], KINDS.get(key, dict)):
                raise TypeError(f"{key} is {json.dumps(index[key])[:40]}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{folder / INDEX}: cannot be read: {error}") from None
    if index["images"] < 0 or index["images_per_shard"] < 1:
        raise UserError(f"{folder / INDEX}: cannot be read: {index['images']} images, {index['images_per_shard']} each")
    for name in index["files"]:
        if not FILE.fullmatch(name):  # it may come from elsewhere: no path may lead out of its folder
            raise UserError(f"{folder / INDEX}: names the file {name[:80]!r}, which `prepare` does not make")
    if not all(isinstance(name, str) for name in index["classes"]):
        raise UserError(f"{folder / INDEX}: classes must be names")
    return index


def first_difference(given: Mapping[str, Any], made: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first setting that differs, as a user types it: ("data.image_size=32", "data.image_size=64")."""
    for key, value in given.items():
        if made.get(key) != value:
            one, other = (str(some).lower() if isinstance(some, bool) else some for some in (value, made.get(key)))
            return f"{key}={one}", f"{key}={other}"
    return None
