"""Every recorded conversation, translated into each other dialect: its official SDK reads the same words, calls and usage."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.crossing import CHAT, GEMINI, MESSAGES, NOT_SERVED, RESPONSES, SERVED, Crossing
from tests.support.recordings import ABSENT, RECORDINGS, Recording, counted
from tests.support.said import Said, said
from tests.support.sdks import FAILURES, Sdks

DIALECT_OF = {
    "openai.chat": CHAT, "openai.responses": RESPONSES, "anthropic.messages": MESSAGES, "gemini.generate": GEMINI,
    "gemini.stream": GEMINI,
}  # fmt: skip
CONVERSATIONS = [found for found in RECORDINGS if found.api in DIALECT_OF]
# A chat completion, whatever its name says: no response that could be translated.
STRANGERS = {"azure/openai_responses__azure_deepseek_reasoning_1__0"}
# The image was cut short when it was recorded: it is not base64, and Gemini's SDK decodes it.
BROKEN_IMAGES = {("openai/openai_responses__openai_image_generation_tool_1__0", GEMINI)}
pytestmark = [
    pytest.mark.skipif(not RECORDINGS, reason=ABSENT),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),
]


@pytest.fixture(scope="module")
def sdks(crossing: Crossing) -> Iterator[Sdks]:
    made = Sdks(crossing)
    yield made
    made.close()


def pairs(chosen: list[Recording]) -> list[Any]:
    return [
        pytest.param(recording, dialect, id=f"{recording.name}-{dialect}")
        for recording in chosen
        for dialect in (CHAT, RESPONSES, MESSAGES, GEMINI)
        if dialect != DIALECT_OF[recording.api] and (recording.name, dialect) not in BROKEN_IMAGES
    ]


def failed(recording: Recording) -> bool:
    return recording.status != 200 or "midstream_error" in recording.features


def ask(crossing: Crossing, sdks: Sdks, recording: Recording, dialect: str) -> tuple[Said, dict[str, Any]]:
    """What the SDK reads, and the usage record."""
    source = DIALECT_OF[recording.api]
    if dialect not in SERVED or source not in SERVED:
        pytest.skip(NOT_SERVED)
    side, request_id = crossing.sides[source], crossing.new_id()
    if failed(recording):
        crossing.recover(source)
    side.upstream.always(recording.answer(random.Random(f"{recording.name} {dialect}")))
    try:
        found = sdks.ask(dialect, side.model, recording.prompt, stream=bool(recording.entry["stream"]), request_id=request_id)
    finally:
        record = crossing.record(request_id)
        if recording.status == 429:
            crossing.refresh_credential(source)
    return found, record


@pytest.mark.parametrize(
    ("recording", "dialect"), pairs([one for one in CONVERSATIONS if not failed(one) and one.name not in STRANGERS])
)
def test_the_sdk_reads_what_the_provider_said(crossing: Crossing, sdks: Sdks, recording: Recording, dialect: str) -> None:
    true = said(recording.api, recording.content, stream=bool(recording.entry["stream"]))
    found, record = ask(crossing, sdks, recording, dialect)
    assert counted(record["usage"]) == recording.usage
    assert (record["status"], record["estimated"]) == ("ok", False)
    assert found.usage is not None
    assert found.usage == {name: counted(record["usage"])[name] for name in found.usage}
    if dialect in (CHAT, RESPONSES):
        assert (found.text, found.refusal) == (true.text, true.refusal)
    else:  # has no word for it
        assert found.text == true.text + true.refusal
    assert found.thoughts == true.thoughts
    assert found.arguments == [(name, arguments_in(dialect, value)) for name, value in true.arguments]


def arguments_in(dialect: str, value: Any) -> Any:
    """Where arguments are an object, what is none goes inside of one."""
    return {"_raw": value} if dialect == GEMINI and not isinstance(value, dict) else value


@pytest.mark.parametrize(("recording", "dialect"), pairs([one for one in CONVERSATIONS if one.status != 200]))
def test_the_sdk_raises_what_the_provider_refused(crossing: Crossing, sdks: Sdks, recording: Recording, dialect: str) -> None:
    with pytest.raises(FAILURES) as caught:
        ask(crossing, sdks, recording, dialect)
    error: Any = caught.value
    status = error.code if dialect == GEMINI else error.status_code
    assert status == recording.status
    if status != 429:  # that is told in the gateway's own words
        assert json.loads(recording.content)["error"]["message"] in str(error)
    record = crossing.home.usage("--limit", "1")[0]
    assert (record["status"], record["usage"], record["charged"]) == ("error", {}, "0")


@pytest.mark.parametrize(("recording", "dialect"), pairs([one for one in CONVERSATIONS if one.status == 200 and failed(one)]))
def test_the_sdk_raises_what_broke_a_stream(crossing: Crossing, sdks: Sdks, recording: Recording, dialect: str) -> None:
    words = {"openrouter": "Token limit reached", "openai": "You exceeded your current quota"}[recording.entry["provider"]]
    with pytest.raises(FAILURES, match=words):
        ask(crossing, sdks, recording, dialect)
    record = crossing.home.usage("--limit", "1")[0]
    assert (record["status"], record["error_code"]) == ("error", "upstream_error")
    assert (counted(record["usage"]) if record["usage"] else None) == recording.usage


@pytest.mark.parametrize(("recording", "dialect"), pairs([one for one in CONVERSATIONS if one.name in STRANGERS]))
def test_what_is_no_reply_of_the_dialect_is_an_error(
    crossing: Crossing, sdks: Sdks, recording: Recording, dialect: str
) -> None:
    with pytest.raises(FAILURES, match="no response"):
        ask(crossing, sdks, recording, dialect)
    assert crossing.home.usage("--limit", "1")[0]["charged"] == "0"
