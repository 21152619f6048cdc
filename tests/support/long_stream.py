"""A stream that takes longer than a minute, read from a daemon of its own while other tests run."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path

from tests.support.gateway import ask
from tests.support.upstream import chat_stream, usage_of
from tests.support.world import build

SECONDS = 75


class LongStream(threading.Thread):
    """The client. `begin()` in the test's own thread, `join()`, then look at `text`, `took_s`, `error`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(name="long stream", daemon=True)
        self.directory = directory
        self.text = ""
        self.took_s = 0.0
        self.error: BaseException | None = None
        self.stack = ExitStack()

    def begin(self) -> None:
        """Build the daemon here (commands run one at a time), then read in the background."""
        self.world = build(self.stack, self.directory)
        self.world.openai.script(chat_stream([f" {n}" for n in range(SECONDS)], usage_of(1, SECONDS), delay_s=1.0))
        self.start()

    def run(self) -> None:
        gateway = self.world.gateway
        headers = gateway.headers(self.world.alice.key)
        began = time.monotonic()
        try:
            with gateway.client.stream("POST", "/v1/chat/completions", json=ask(stream=True), headers=headers) as reply:
                for piece in reply.iter_text():
                    self.text += piece
        except BaseException as error:
            self.error = error
        self.took_s = time.monotonic() - began
