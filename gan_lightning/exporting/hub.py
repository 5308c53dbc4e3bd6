"""Sends an exported folder to the Hugging Face Hub, or says what would be sent."""

import re
from pathlib import Path
from typing import Any

from gan_lightning.errors import UserError

NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?", re.ASCII)
LONGEST = 96  # of a name, on the Hub
Files = list[tuple[str, int]]  # names and bytes


def check_repository(repository: str) -> None:
    """Raises UserError for what is no user/name of the Hub."""
    user, slash, name = repository.partition("/")
    right = all(NAME.fullmatch(part) and "--" not in part and ".." not in part for part in (user, name))
    if not slash or not right or len(repository) > LONGEST or name.endswith(".git"):
        raise UserError(
            f"push_to={repository}: must be <user>/<name> of letters, digits, '-', '_' and '.', up to {LONGEST} of them"
        )


def token_of() -> str:
    """The token of this machine. Raises UserError where there is none."""
    import huggingface_hub

    token = huggingface_hub.get_token()
    if not token:
        raise UserError("dry_run=false: there is no token of the Hugging Face Hub: `hf auth login`, or set HF_TOKEN")
    return token


def contents(folder: Path) -> Files:
    """All files of a folder by name, with their sizes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]


def listed(files: Files) -> str:
    """Names and sizes, a line each, and their sum."""
    rows = [*files, ("in all", sum(size for _, size in files))]
    return "\n".join(f"  {size:>14,} bytes  {name}" for name, size in rows)


def push(folder: Path, repository: str, private: bool, api: Any = None) -> str:
    """Uploads the folder in one commit, to a repository that is made where there is none; its address.

    Raises UserError, with where the files still are, where the Hub says no.
    """
    import huggingface_hub

    api = api or huggingface_hub.HfApi(token=token_of())
    try:
        made = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Exported by gan_lightning")
    except Exception as error:  # of the network, of the Hub, of the token
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"push_to={repository}: was not sent: {reason}; the files are in {folder}") from error
    return str(made)
