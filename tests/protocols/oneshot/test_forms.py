"""Multipart forms: fields are read in any chunking, files are not held, and nothing is believed twice."""

from __future__ import annotations

import random
from email import policy
from email.parser import BytesParser

import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder

from daemon.domain.errors import ApiError
from daemon.protocols.forms import HEAD_MAX, SLICE, FormReader, is_form
from daemon.protocols.openai_audio import read_transcription
from daemon.protocols.openai_images import read_edit

TYPE = "multipart/form-data; boundary=xyz"


def part(name: str, value: bytes, file: str | None = None, line: bytes = b"\r\n") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{file}"' if file else "")
    return b"--xyz" + line + disposition.encode() + line + line + value + line


def head(disposition: str) -> bytes:
    return f"--xyz\r\nContent-Disposition: {disposition}\r\n\r\ndear\r\n".encode()


END = b"--xyz--\r\n"


def read(body: bytes, content_type: str = TYPE, step: int = 0) -> FormReader:
    reader = FormReader(content_type)
    for at in range(0, len(body), step or SLICE * 9):
        reader.feed(body[at : at + (step or SLICE * 9)])
    reader.finish()
    return reader


def test_fields_after_a_file_in_any_chunking() -> None:
    sound = random.Random(1).randbytes(5000) + b"\r\n--xy\r\n-xyz--xyz--xyz\r\r\n" * 20
    body = part("file", sound, "a.mp3") + part("model", b"whisper-1") + part("stream", b"true") + part("language", b"de") + END
    for step in (1, 3, 64, 999, 0):
        reader = read(body, step=step)
        assert reader.fields == {"model": "whisper-1", "stream": True}
        assert (reader.files, reader.file_bytes, reader.complete) == (1, len(sound), True)


def test_the_beginning_tells_the_fields_that_stand_there() -> None:
    body = part("model", b"gpt-image-1") + part("n", b"2") + part("size", "größe".encode())
    reader = FormReader(TYPE)
    reader.feed((body + part("image[]", b"x" * 10**6, "a.png") + part("mask", b"", "b.png"))[:-2])
    assert reader.fields == {"model": "gpt-image-1", "n": 2, "size": "größe"}
    assert (reader.images, reader.files, reader.complete) == (2, 2, False)
    assert reader.names == ["model", "n", "size", "image[]", "mask"]


def test_a_file_is_not_held() -> None:
    reader = FormReader(TYPE)
    reader.feed(part("model", b"m") + part("file", b"", "a")[:-2])
    for _ in range(50):
        reader.feed(b"\0" * 1_000_000)
        assert len(reader._buffer) < SLICE + HEAD_MAX
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
        part("model", b"cheap", line=b"\n") + END,
        part("x", b"y\n--xyz\r\nContent-Disposition: form-data; name=model\r\n\r\ndear") + END,
        part("x", b"y\r--xyz--") + END,
        part("x", b"y\r\n--xyzz") + END,
        b"--xyz\r\nContent-Disposition: form-data; name=x\r\n\r\n--xyz--\r\n",
        head('form-data; name="x"; name="model"') + END,
        head('form-data; name="mo\\del"') + END,
        head('form-data; name="x"\r\nContent-Disposition: form-data; name="model"') + END,
        head('form-data; name="x"\r\n folded: y') + END,
        head('form-data; name="x"\n\nContent-Disposition: form-data; name="model"') + END,
        head('form-data; name="model"\r\nContent-Transfer-Encoding: base64') + END,
        head('form-data; name=" model"') + END,
        head('attachment; name="model"') + END,
        b"\r\n" + END,
        b"",
    ],
    ids=[
        "twice",
        "twice, other line ends",
        "a file",
        "long",
        "before",
        "after",
        "no end",
        "no name",
        "long head",
        "many",
        "line feeds",
        "a boundary behind a line feed",
        "behind a return",
        "a longer boundary",
        "a boundary behind the headers",
        "two names in one",
        "an escaped name",
        "two names",
        "a folded header",
        "an empty line of line feeds",
        "encoded",
        "space in the name",
        "no form",
        "no parts",
        "nothing",
    ],
)
def test_a_form_that_is_not_to_be_trusted_is_400(body: bytes) -> None:
    for step in (0, 7):
        with pytest.raises(ApiError) as caught:
            read(body, step=step)
        assert caught.value.http_status == 400


@pytest.mark.parametrize(
    "kind",
    [
        "", "application/json", "multipart/form-data", "multipart/form-data; boundary=" + "x" * 71,
        "multipart/form-data; boundary=", "multipart/form-data; boundary=a; boundary=b", "multipart/form-data; boundary=a; x=y",
        "multipart/form-data; boundary=a b",
        'multipart/form-data; boundary="a ', 'multipart/form-data; boundary="a\\b"', "multipart/mixed; boundary=a",
        "multipart/form-data boundary=a", "multipart/form-data; boundary=ü",
    ],
)  # fmt: skip
def test_another_content_type_is_400(kind: str) -> None:
    with pytest.raises(ApiError):
        FormReader(kind)


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("multipart/form-data; boundary=xyz", "multipart/form-data; boundary=xyz"),
        ('Multipart/Form-Data;boundary="xyz" ', "multipart/form-data; boundary=xyz"),
        ("multipart/form-data; charset=UTF-8; boundary=xyz", "multipart/form-data; boundary=xyz"),
        ('multipart/form-data; boundary="=_x y:z"', 'multipart/form-data; boundary="=_x y:z"'),
    ],
)
def test_a_content_type_goes_on_in_one_form(kind: str, sent: str) -> None:
    assert is_form(kind)
    assert FormReader(kind).content_type == sent


def test_what_other_clients_write_into_a_part() -> None:
    heads = ['form-data; name=model; filename="a \\"b\\".png"; filename*=utf-8\'\'a', "form-data;name=x;filename=a.png"]
    extra = "\r\nContent-Type: image/png\r\nContent-Length: 4\r\nContent-Transfer-Encoding: binary"
    body = head(heads[0].replace("model", "image") + extra) + head(heads[1]) + part("größe", b"") + END
    reader = read(b"\r\n" + body)
    assert (reader.files, reader.names) == (2, ["image", "x", "größe"])


NAME_BYTES = st.binary(min_size=1, max_size=40).filter(lambda value: b"--xyz" not in value)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.booleans(), NAME_BYTES), max_size=4), NAME_BYTES, st.integers(0, 4), st.integers(1, 50))
def test_the_model_is_found_where_it_stands(others: list[tuple[bool, bytes]], model: bytes, place: int, step: int) -> None:
    parts = [part("file", value, "a") if is_file else part(f"f{i}", value) for i, (is_file, value) in enumerate(others)]
    parts.insert(place, part("model", model))
    body = b"".join(parts) + END
    reader = read(body, step=step)
    assert reader.model_span is not None
    start, end = reader.model_span
    assert body[start:end] == model
    assert reader.fields["model"] == model.decode("utf-8", "replace")
    assert reader.file_bytes == sum(len(value) for is_file, value in others if is_file)
    other = read(body[:start] + b"another" + body[end:], step=step)
    assert other.fields["model"] == "another"


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


def as_werkzeug_reads(body: bytes) -> list[tuple[str, bytes]]:
    """Name and value of each part, by a parser that takes more."""
    decoder, found = MultipartDecoder(b"xyz"), list[tuple[str, bytes]]()
    decoder.receive_data(body)
    decoder.receive_data(None)
    while not isinstance(event := decoder.next_event(), Epilogue):
        if isinstance(event, Field | File):
            found.append((event.name, b""))
        elif isinstance(event, Data):
            found[-1] = (found[-1][0], found[-1][1] + event.data)
    return found


def as_python_reads(body: bytes) -> list[tuple[str, bytes]]:
    """The same by the standard library's parser of mail."""
    whole = BytesParser(policy=policy.HTTP).parsebytes(b"Content-Type: multipart/form-data; boundary=xyz\r\n\r\n" + body)
    parts = [one for one in whole.walk() if not one.is_multipart()]
    return [(str(one.get_param("name", header="content-disposition")), one.get_payload(decode=True)) for one in parts]


names = st.sampled_from(["model", "file", "n", "x"])
values = st.lists(
    st.sampled_from([b"cheap", b"dear", b"\r\n", b"\n", b"\r", b"--xyz", b"--", b"-", b"xyz", NAMED, b": "]), max_size=6
)
ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b""])


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.tuples(names, values, ends, ends), min_size=1, max_size=4), st.sampled_from([END, b"--xyz--", b"--xyz\r\n"]))
def test_whoever_else_reads_a_form_that_is_taken_reads_the_same(
    parts: list[tuple[str, list[bytes], bytes, bytes]], end: bytes
) -> None:
    body = b""
    for name, value, line, last in parts:
        body += b"--xyz" + line + f'Content-Disposition: form-data; name="{name}"'.encode() + line + line
        body += b"".join(value) + last
    try:
        reader = read(body + end)
    except ApiError:
        return
    assert reader.model_span is None or reader.fields["model"].encode() == body[slice(*reader.model_span)]
    for others in (as_werkzeug_reads(body + end), as_python_reads(body + end)):
        assert [name for name, _ in others] == reader.names
        assert {name: value.decode() for name, value in others if name == "model"} == {
            name: value for name, value in reader.fields.items() if name == "model"
        }
