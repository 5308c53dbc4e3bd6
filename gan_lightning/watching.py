"""Notices that another process of a run is no more, where this one would wait for it without an end."""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

EVERY, GRACE = 1.0, 10.0  # seconds: between looks; that a process has to fail by itself, which says more


class Watch(threading.Thread):
    """Ends this process when another one of the run was lost and nothing else ended it in time.

    A connection over gloo breaks at once. NCCL waits, and so does a rank that scores for itself.

    Args:
        lost: what was lost, in a few words; None: nothing.
        last_words: called with the reason, before the end.
    """

    def __init__(
        self, lost: Callable[[], str | None], last_words: Callable[[str], object], grace: float = GRACE
    ) -> None:
        super().__init__(daemon=True, name="watch")
        self.lost, self.last_words, self.grace = lost, last_words, grace
        self.over = threading.Event()  # the run has ended, or ends itself

    def run(self) -> None:
        while not self.over.wait(EVERY):
            reason = self.lost()
            if reason is None:
                continue
            if self.over.wait(self.grace):
                return
            reason = f"trainer.devices: {reason} ended before the others, and they cannot go on"
            print(f"gan_lightning: {reason}", file=sys.stderr, flush=True)
            with suppress(OSError):
                self.last_words(reason)
            sys.stdout.flush()
            os._exit(1)  # the main thread is inside a collective, where it hears nothing


def watch_parent() -> Watch:
    """For a rank that another process of the run has started."""
    parent = os.getppid()
    watch = Watch(lambda: None if os.getppid() == parent else "rank 0", lambda reason: None)
    watch.start()
    return watch
