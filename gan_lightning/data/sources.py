"""Where images come from, by name: a folder, or a zip file that is never unpacked. Without torch, for workers."""

import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from gan_lightning.data.decoding import LARGEST, Unreadable, Zipped
from gan_lightning.data.listing import LABELS, SUFFIXES, is_image, said_of_links, walk
from gan_lightning.errors import UserError


class Folder:
    """The visible images below a folder; `key`: what a user names it with."""

    def __init__(self, root: Path, key: str = "data.root") -> None:
        self.root, self.key = root, key

    def check(self) -> None:
        """Raises UserError where there are no images."""
        if not os.path.isdir(self.root):  # Path.is_dir raises where a parent cannot be entered
            what = "not a folder" if os.path.exists(self.root) else "no such folder"
            what += "; the prepare command reads zip files" if zipfile.is_zipfile(self.root) else ""
            raise UserError(f"{self.key}={self.root}: {what}")
        if not any(is_image(path) for path in self.files()):
            raise no_images(self.root, self.files(), self.key)

    def files(self) -> Iterator[Path]:
        try:
            yield from walk(self.root)
        except OSError as error:
            raise UserError(f"{self.key}={self.root}: cannot list {error.filename}: {error.strerror}") from error

    def links(self) -> str:
        """What is to be said of links that lead out of the folder; "" where there are none."""
        return said_of_links(self.root, self.key)

    def names(self) -> list[str]:
        """Sorted, with / between folders."""
        return sorted(path.relative_to(self.root).as_posix() for path in self.files() if is_image(path))

    def file(self, name: str) -> Path:
        return self.root / name

    def stamp(self, name: str) -> str:
        """What changes when the file does; nothing for a dead link."""
        try:
            status = os.stat(os.path.join(self.root, name))  # ten times quicker than Path's
        except OSError:
            return ""
        return f"{status.st_size} {status.st_mtime_ns}"

    def dataset(self) -> tuple[Path, bytes] | None:
        """dataset.json and its content, where there is one."""
        path = self.root / LABELS
        try:
            if not path.is_file():
                return None
            if path.stat().st_size > LARGEST:
                raise UserError(f"{path}: {path.stat().st_size / 2**30:.1f} GiB are no list of labels")
            return path, path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error


class Archive:
    """The visible images in a zip file. Their names are looked up in it and never become paths."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            self.archive = zipfile.ZipFile(root)
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"data.root={root}: neither a folder nor a zip file: {error}") from None
        self.visible = [
            info
            for info in self.archive.infolist()
            if not info.is_dir() and not any(part.startswith(".") for part in info.filename.split("/"))
        ]
        self.infos = {info.filename: info for info in self.visible if is_image(PurePosixPath(info.filename))}

    def check(self) -> None:
        """Raises UserError where there are no images, or two of one name."""
        if not self.infos:
            raise no_images(self.root, (PurePosixPath(info.filename) for info in self.visible))
        name, count = Counter(info.filename for info in self.visible).most_common(1)[0]
        if count > 1:
            raise UserError(f"data.root={self.root}: holds {count} files called {name}")

    def links(self) -> str:
        """Links in a zip file are what they are stored as, a file of a few letters: none is followed."""
        return ""

    def names(self) -> list[str]:
        return sorted(self.infos)

    def file(self, name: str) -> Zipped:
        return Zipped(self.archive, self.infos[name])

    def stamp(self, name: str) -> str:
        return f"{self.infos[name].file_size} {self.infos[name].CRC}"

    def dataset(self) -> tuple[Path, bytes] | None:
        path, found = self.root / LABELS, [info for info in self.visible if info.filename == LABELS]
        try:
            return (path, Zipped(self.archive, found[0]).read()) if found else None
        except Unreadable as error:
            raise UserError(f"{path}: cannot be read: {error}") from error


def open_source(root: Path) -> Folder | Archive:
    return Archive(root) if os.path.isfile(root) else Folder(root)


def no_images(root: Path, files: Iterator[Path] | Iterator[PurePosixPath], key: str = "data.root") -> UserError:
    others = Counter(path.suffix.lower() or "no suffix" for path in files)
    found = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5)) or "nothing"
    return UserError(f"{key}={root}: no images in it; looked for {' '.join(sorted(SUFFIXES))}, found {found}")


def cannot_be_read(
    root: Path, unreadable: dict[str, str], listed: int, more: str = "", key: str = "data.root"
) -> UserError:
    """All files that cannot be read in one message, `listed` of them by name; `more`: what else to say of them."""
    lines = [f"\n  {root / name}: {reason}" for name, reason in sorted(unreadable.items())]
    rest = f"\n  and {len(lines) - listed} more" if len(lines) > listed else ""
    return UserError(
        f"{key}={root}: {len(lines)} file(s) cannot be read "
        f"(data.skip_unreadable=true leaves them out):{''.join(lines[:listed])}{rest}{more}"
    )
