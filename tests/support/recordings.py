"""The recorded replies of real hosts (../shared/fixtures), and a scripted upstream's answer made of one.

RECORDINGS                      # [] where the recordings are not on this machine: skip with ABSENT
recording.content, recording.usage, recording.answer(dice)
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from daemon.domain.usage import Usage
from tests.support.upstream import Reply, Step, Wait, chunk, head

ROOT = Path(__file__).parents[3] / "shared" / "fixtures"
ABSENT = "the recorded fixtures (../shared/fixtures) are not on this machine"
MOST_WRITES = 12
LONG = 20_000  # tokens


@dataclass(frozen=True)
class Recording:
    """One recorded reply. `entry`: as it stands in index.json."""

    entry: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.entry["name"])

    @property
    def api(self) -> str:
        return str(self.entry["api"])

    @property
    def status(self) -> int:
        return int(self.entry["status"])

    @property
    def features(self) -> set[str]:
        return set(self.entry["features"])

    @property
    def events(self) -> bool:
        """It is an event stream (Gemini's other form, one JSON array, is none)."""
        return bool(self.entry["stream"]) and "json_array_stream" not in self.features

    @cached_property
    def content(self) -> bytes:
        return (ROOT / self.entry["response_file"]).read_bytes()

    @property
    def content_type(self) -> str:
        return str(self.entry["content_type"] or ("text/event-stream" if self.events else "application/json"))

    @property
    def usage(self) -> dict[str, int] | None:
        """The true counts: input and output in all, what a cache read and wrote, reasoning; None when none were told."""
        true = self.entry["usage_true"]
        if true is None:
            return None
        if (total := true.get("sum_over_iterations")) is not None:
            cached, written = total["cache_read_input_tokens"], total["cache_creation_input_tokens"]
            input_total, output_total = total["input_tokens"] + cached + written, total["output_tokens"]
        else:
            cached, written = true.get("cached_read", 0), true.get("cache_write", 0)
            input_total, output_total = true["input_total"], true["output_total"] or 0
        return {
            "input": input_total, "cached": cached, "written": written,
            "written_1h": true.get("cache_write_1h", 0), "output": output_total, "reasoning": true["reasoning"],
        }  # fmt: skip

    @property
    def prompt(self) -> str:
        """What to ask for this reply: long enough that its usage can be believed."""
        tokens = 0 if self.usage is None else self.usage["input"]
        return "hi" if tokens < LONG else "word " * (tokens // 4)

    def answer(self, dice: random.Random) -> list[Step]:
        """The same bytes on a socket: an event stream in HTTP chunks of any size, and every reply in writes of any size."""
        if not self.entry["stream"]:
            whole = next(iter(Reply(self.status, [("Content-Type", self.content_type)], self.content)))
            assert isinstance(whole, bytes)
            return _written(whole, dice)
        start = head(self.status, [("Content-Type", self.content_type), ("Transfer-Encoding", "chunked")])
        body = b"".join(chunk(piece) for piece in cut(self.content, dice, 60)) + chunk(b"")
        return _written(start + body, dice)


def cut(data: bytes, dice: random.Random, most: int) -> list[bytes]:
    """The same bytes in at most so many pieces, cut anywhere."""
    places = sorted({dice.randrange(1, len(data)) for _ in range(dice.randrange(1, most))}) if len(data) > 1 else []
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def _written(data: bytes, dice: random.Random) -> list[Step]:
    steps: list[Step] = []
    for piece in cut(data, dice, MOST_WRITES):
        steps += [piece, Wait(0.001)]
    return steps


def counted(usage: dict[str, int]) -> dict[str, int]:
    """A usage record's meters as sums that compare with `Recording.usage`."""
    found = Usage({meter: count for meter, count in usage.items() if meter != "reasoning"})
    short, long = usage.get("cache_write_5m", 0), usage.get("cache_write_1h", 0)
    return {
        "input": found.input_tokens, "cached": usage.get("cached_input", 0), "written": short + long, "written_1h": long,
        "output": found.output_tokens, "reasoning": usage.get("reasoning", 0),
    }  # fmt: skip


RECORDINGS = (
    [Recording(entry) for entry in json.loads((ROOT / "index.json").read_bytes())["fixtures"]]
    if (ROOT / "index.json").exists()
    else []
)
