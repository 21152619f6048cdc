"""Multipart forms: fields are read in any chunking, files are not held, and nothing is believed twice."""

from __future__ import annotations

import random

import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.errors import ApiError
from daemon.protocols.forms import MEMORY_MAX, FormReader, form_fields
from daemon.protocols.openai_audio import read_transcription
from daemon.protocols.openai_images import read_edit

TYPE = "multipart/form-data; boundary=xyz"


def part(name: str, value: bytes, file: str | None = None, line: bytes = b"\r\n") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{file}"' if file else "")
    return b"--xyz" + line + disposition.encode() + line + line + value + line


END = b"--xyz--\r\n"


def read(body: bytes, content_type: str = TYPE, step: int = 0) -> FormReader:
    reader = FormReader(content_type)
    for at in range(0, len(body), step or len(body)):
        reader.feed(body[at : at + (step or len(body))])
    reader.finish()
    return reader


def test_fields_after_a_file_in_any_chunking() -> None:
    sound = random.Random(1).randbytes(5000) + b"\r\n--xy\r\n--xyzz" * 20
    body = part("file", sound, "a.mp3") + part("model", b"whisper-1") + part("stream", b"true") + part("language", b"de") + END
    for step in (1, 3, 64, 999, 0):
        reader = read(body, step=step)
        assert reader.fields == {"model": "whisper-1", "stream": True}
        assert (reader.files, reader.file_bytes, reader.complete) == (1, len(sound), True)


def test_the_beginning_tells_the_fields_that_stand_there() -> None:
    body = (
        part("model", b"gpt-image-1")
        + part("n", b"2")
        + part("size", "größe".encode())
        + part("image[]", b"x" * 10**6, "a.png")
    )
    reader = form_fields(TYPE, body[:2000])
    assert reader.fields == {"model": "gpt-image-1", "n": 2, "size": "größe"}
    assert (reader.images, reader.complete) == (1, False)


def test_a_file_is_not_held() -> None:
    reader = form_fields(TYPE, part("model", b"m") + part("file", b"", "a")[:-2])
    for _ in range(50):
        reader.feed(b"\0" * 1_000_000)
        assert len(reader._decoder.buffer) < MEMORY_MAX
    assert reader.file_bytes > 49_000_000


def test_what_the_official_sdk_sends() -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        sent.append(request)
        return httpx.Response(200, json={"text": "x", "created": 1, "data": []})

    client = openai.OpenAI(
        api_key="x", base_url="http://127.0.0.1:9/v1", http_client=httpx.Client(transport=httpx.MockTransport(answer))
    )
    client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", b"\0" * 3000), prompt="names", language="de")
    client.images.edit(model="gpt-image-1", image=[("a.png", b"1"), ("b.png", b"2")], prompt="a hat", n=2, quality="low")
    forms = [read(request.content, request.headers["content-type"]) for request in sent]
    ask = read_transcription(forms[0].fields, len(sent[0].content))
    assert (ask.model, ask.extra_bound["second"] > 6) == ("whisper-1", True)
    edit = read_edit(forms[1].fields, 100, forms[1].images)
    assert (edit.model, edit.n, edit.extra, edit.input_bound) == ("gpt-image-1", 2, {"image": 2}, 5 + 64 + 2 * 8192)


@pytest.mark.parametrize(
    "body",
    [
        part("model", b"cheap") + part("model", b"dear") + END,
        part("model", b"cheap") + part("file", b"x", "a") + part("model", b"dear", line=b"\n") + END,
        part("model", b"m", "model.txt") + END,
        part("model", b"m" * 70_000) + END,
        b"junk" + part("model", b"m") + END,
        part("model", b"m") + END + part("model", b"dear"),
        part("model", b"m"),
        b"--xyz\r\nContent-Type: text/plain\r\n\r\nx\r\n" + END,
        b"--xyz\r\n" + b"X" * 200_000,
        b"".join(part("x", b"") for _ in range(1001)) + END,
    ],
    ids=["twice", "twice, other line ends", "a file", "long", "before", "after", "no end", "no name", "long head", "many"],
)
def test_a_form_that_is_not_to_be_trusted_is_400(body: bytes) -> None:
    for step in (0, 7):
        with pytest.raises(ApiError) as caught:
            read(body, step=step)
        assert caught.value.http_status == 400


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 71])
def test_another_content_type_is_400(kind: str) -> None:
    with pytest.raises(ApiError):
        FormReader(kind)


def test_values_that_are_no_numbers_stay_text_for_the_endpoint_to_refuse() -> None:
    fields = read(part("n", b"2x") + part("stream", b"maybe") + END).fields
    assert fields == {"n": "2x", "stream": "maybe"}


NAMED = b'Content-Disposition: form-data; name="model"'
pieces = st.sampled_from([b"--xyz", b"\r\n", b"\n", b"\r", b"--", b"xyz", b": ", NAMED, b"a", b"\r\n\r\n", b'"', b";"])


@settings(max_examples=400, deadline=None)
@given(st.lists(pieces, max_size=30), st.integers(1, 9))
def test_nonsense_is_400_at_most(found: list[bytes], step: int) -> None:
    body = b"--xyz\r\n" + b"".join(found)
    try:
        read(body, step=step)
    except ApiError:
        return
