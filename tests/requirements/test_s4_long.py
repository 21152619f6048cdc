"""S4-21: a stream may last longer than any default timeout. It runs beside all other tests: see conftest.py."""

from __future__ import annotations

import json

from tests.support.long_stream import SECONDS, LongStream
from tests.support.world import data_lines


def test_s4_21_a_stream_of_75_seconds_is_complete(long_stream: LongStream) -> None:
    long_stream.join(SECONDS + 30)
    assert long_stream.error is None
    assert long_stream.took_s > SECONDS - 1
    lines = data_lines(long_stream.text)
    assert lines[-1] == "[DONE]"
    said = "".join(json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines[:-1])
    assert said == "".join(f" {n}" for n in range(SECONDS))
    record = long_stream.world.home.usage("--limit", "1")[0]
    assert (record["status"], record["usage"]) == ("ok", {"input": 1, "output": SECONDS})
