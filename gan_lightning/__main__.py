"""The command line: `python -m gan_lightning [command] key=value …`."""

import difflib
import importlib
import io
import os
import sys

from gan_lightning.clusters import let_others_speak, speaks
from gan_lightning.errors import UserError, readable

COMMANDS = ("train", "sample", "evaluate", "project", "prepare", "translate", "compress", "export", "report")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code.

    0 done, 1 failed, 2 a user's mistake, 130 and 143 interrupted, 138 and 140 asked to make room (docs/clusters.md).
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        return dispatch(arguments)
    except UserError as error:
        if speaks():
            print(f"gan_lightning: {readable(str(error))}", file=sys.stderr)
        let_others_speak()
        return 2
    except KeyboardInterrupt:
        print("gan_lightning: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("GAN_LIGHTNING_TRACEBACK"):
            raise
        from gan_lightning.faults import tell  # here: it needs torch

        tell(error)
        return 1


def dispatch(arguments: list[str]) -> int:
    # Read when torch is imported: how long OpenMP's idle threads spin. The default, 30 times as long, has a DCGAN crawl
    # where one core is busy with something else (docs/speed.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    command = "train"
    if arguments and "=" not in arguments[0] and not arguments[0].startswith(("-", "+", "~")):
        command = arguments.pop(0)
        if command not in COMMANDS:
            close = difflib.get_close_matches(command, COMMANDS, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise UserError(f"{command}: no such command; {hint}commands: {', '.join(COMMANDS)}")
    if {"-h", "--help"} & set(arguments):
        from gan_lightning.help import help_text

        print(help_text(command))
        return 0
    if "--version" in arguments:
        from gan_lightning import __version__

        print(__version__)
        return 0
    return importlib.import_module(f"gan_lightning.commands.{command}").run(arguments)


if __name__ == "__main__":
    sys.exit(main())
