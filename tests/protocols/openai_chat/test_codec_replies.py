"""Whole replies: a provider's read, and one written for a client."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.domain.chat import (
    Chat,
    Choice,
    Finish,
    Losses,
    Media,
    MediaKind,
    Part,
    Refusal,
    Reply,
    Text,
    Thinking,
    ToolCall,
)
from daemon.domain.usage import Usage
from daemon.protocols.openai_chat import OpenAIChat
from daemon.protocols.openai_chat.tables import DROPPED, REPLY

PROTOCOL = OpenAIChat()


def choice(message: dict[str, Any], reason: Any = "stop", **more: Any) -> Choice:
    body = {
        "id": "r-1",
        "model": "up",
        "created": 5,
        "choices": [{"index": 0, "message": message, "finish_reason": reason, **more}],
    }
    return PROTOCOL.decode_reply(body).choices[0]


def written(
    *parts: Part, finish: Finish = Finish.STOP, chat: Chat | None = None, **fields: Any
) -> tuple[dict[str, Any], list[str]]:
    losses = Losses()
    reply = Reply("r", "up", 7, (Choice(parts, finish, fields.pop("stop_sequence", None)),), **fields)
    return PROTOCOL.encode_reply(reply, "shown", losses, chat), losses.names


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("stop", Finish.STOP), ("length", Finish.LENGTH), ("content_filter", Finish.CONTENT_FILTER), ("eos", Finish.STOP),
     ("model_length", Finish.LENGTH), ("error", Finish.ERROR), ("brand_new", Finish.STOP), (None, None)],
)  # fmt: skip
def test_a_finish_reason(reason: Any, finish: Finish | None) -> None:
    assert choice({"content": "x"}, reason).finish is finish


def test_parts_come_in_order_thought_text_refusal_calls() -> None:
    call = {"id": "", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    custom = {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "in"}}
    found = choice({"content": "x", "reasoning_content": "t", "tool_calls": [call, custom]})
    assert found.parts == (Thinking("t"), Text("x"), ToolCall("call_r-1_0", "f", "{}"), ToolCall("c2", "g", "in", custom=True))
    assert found.finish is Finish.TOOL_CALLS  # though the host said stop
    assert choice({"content": None, "refusal": "no"}) == Choice((Refusal("no"),), Finish.REFUSAL)
    assert choice({"content": "x"}, stop_reason="END") == Choice((Text("x"),), Finish.STOP_SEQUENCE, "END")
    assert choice({"function_call": {"name": "f", "arguments": "{"}}, "function_call").parts == (
        ToolCall("call_r-1_0", "f", "{"),
    )


def test_citations_media_and_logprobs() -> None:
    note = {"type": "url_citation", "url_citation": {"url": "https://x", "title": "X", "start_index": 0, "end_index": 1}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    audio = {"id": "a", "data": "BBBB", "expires_at": 1, "transcript": "said"}
    logprobs = {"content": [{"token": "x", "logprob": -1}]}
    found = choice({"content": "x", "annotations": [note, {"type": "file_citation"}], "images": [image]}, logprobs=logprobs)
    cited = Text("x", citations=({"url": "https://x", "title": "X", "start": 0, "end": 1},))
    assert found.parts == (cited, Media(MediaKind.IMAGE, "image/png", "AAAA"))
    assert found.logprobs == logprobs
    assert choice({"content": None, "audio": audio}).parts == (Text("said"), Media(MediaKind.AUDIO, data="BBBB"))


def test_perplexitys_sources_are_citations() -> None:
    body = {"choices": [{"message": {"content": "x"}}], "citations": ["https://a", "https://b"]}
    body["search_results"] = [{"url": "https://b", "title": "B"}]
    part = PROTOCOL.decode_reply(body).choices[0].parts[0]
    assert part == Text("x", citations=({"url": "https://a"}, {"url": "https://b", "title": "B"}))


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [1]}, {"choices": [{}]}, {"error": {"message": "x"}}])
def test_what_is_no_completion_is_a_value_error(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        PROTOCOL.decode_reply(body)


def test_usage_is_made_of_disjoint_meters() -> None:
    meters = {
        "input": 10,
        "cached_input": 20,
        "cache_write_5m": 3,
        "cache_write_1h": 4,
        "audio_input": 5,
        "output": 6,
        "audio_output": 7,
    }
    body, _ = written(Text("x"), usage=Usage(meters, 2))
    assert body["usage"] == {
        "prompt_tokens": 42,
        "completion_tokens": 13,
        "total_tokens": 55,
        "prompt_tokens_details": {"cached_tokens": 20, "audio_tokens": 5, "cache_write_tokens": 7},
        "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 7},
    }
    back = PROTOCOL.usage_of(body)
    assert back is not None
    assert (back.input_tokens, back.output_tokens, back.reasoning) == (42, 13, 2)


def test_citations_of_several_texts_count_from_the_beginning() -> None:
    body, losses = written(Text("ab"), Text("cde", citations=({"url": "https://x", "text": "quoted"}, {"title": "a page"})))
    message = body["choices"][0]["message"]
    assert message["content"] == "abcde"
    cited = {"url": "https://x", "title": "", "start_index": 2, "end_index": 5, "content": "quoted"}
    assert message["annotations"] == [{"type": "url_citation", "url_citation": cited}]
    assert losses == ["citation.url"]


@pytest.mark.parametrize(
    ("parts", "finish", "reason", "lost"),
    [
        ((Refusal("no"),), Finish.REFUSAL, "stop", []),
        ((), Finish.REFUSAL, "content_filter", []),
        ((Text("x"),), Finish.PAUSE, "stop", ["pause"]),
        ((ToolCall("c", "f", "{"),), Finish.TOOL_CALLS, "tool_calls", []),
        ((Media(MediaKind.VIDEO, url="https://x"),), Finish.STOP, "stop", ["media"]),
    ],
)
def test_a_finish_is_written(parts: tuple[Part, ...], finish: Finish, reason: str, lost: list[str]) -> None:
    body, losses = written(*parts, finish=finish)
    assert (body["choices"][0]["finish_reason"], losses) == (reason, lost)


def test_a_client_with_legacy_functions_gets_its_call() -> None:
    chat = Chat("m", (), legacy_functions=True)
    body, _ = written(ToolCall("c", "f", '{"a":1}'), finish=Finish.TOOL_CALLS, chat=chat)
    assert body["choices"][0]["message"]["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert "tool_calls" not in body["choices"][0]["message"]
    assert body["choices"][0]["finish_reason"] == "function_call"


def test_signed_and_hidden_thoughts_survive_the_client() -> None:
    thoughts = (Thinking("t", "s", origin="anthropic_messages"), Thinking("u", None, "d", "rs_1", "openai_responses"))
    body, _ = written(*thoughts, Text("x"))
    message = body["choices"][0]["message"]
    assert message["reasoning_content"] == "tu"
    history = {"model": "m", "messages": [{"role": "user", "content": "?"}, message]}
    assert PROTOCOL.decode_request(history).messages[1].parts == (*thoughts, Text("x"))


def test_every_loss_of_a_reply_stands_in_the_table() -> None:
    parts = (Text("x", citations=({"title": "t"},)), Media(MediaKind.VIDEO, url="https://x"))
    losses = {*written(*parts, finish=Finish.PAUSE)[1], *written(finish=Finish.STOP_SEQUENCE, stop_sequence="E")[1]}
    assert losses == {name for name, (fate, _) in REPLY.items() if fate is DROPPED}
