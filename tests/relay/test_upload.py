"""A form on its way, without a daemon: where its bytes are, and what becomes of them."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from daemon.api.incoming import Request, read_form
from daemon.domain.errors import ApiError
from daemon.protocols.forms import FormReader
from daemon.relay import upload as uploads
from daemon.relay.call import ClientGone
from daemon.relay.upload import MEMORY_MAX, Upload
from daemon.upstream.base import SizedBody
from daemon.watchdog import Watchdog

Files = Callable[[], int]

TYPE = "multipart/form-data; boundary=x"
START = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nours\r\n'
START += b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
END = b"\r\n--x--\r\n"


def nameless() -> int:
    """Open files of this process that have no name."""
    links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum("(deleted)" in link for link in links)


@pytest.fixture
def files() -> Files:
    """How many of them an upload has open; what the test runner has does not count."""
    others = nameless()
    return lambda: nameless() - others


async def gone(files: Files) -> None:
    for _ in range(200):
        if files() == 0:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a file is left open")


async def filled(body: bytes, step: int) -> Upload:
    upload = Upload(FormReader(TYPE))
    for at in range(0, len(body), step):
        await upload.write(body[at : at + step])
    await upload.finish()
    return upload


async def read(body: bytes | SizedBody) -> bytes:
    return body if isinstance(body, bytes) else b"".join([piece async for piece in body.chunks()])


@pytest.mark.parametrize("size", [0, 1, MEMORY_MAX - len(START) - len(END), MEMORY_MAX + 1, 3 * MEMORY_MAX + 7])
@pytest.mark.parametrize("step", [10**9, 65_536, 100_003])
def test_it_can_be_read_many_times_under_any_name(files: Files, size: int, step: int) -> None:
    async def run() -> None:
        body = START + os.urandom(size) + END
        upload = await filled(body, step)
        assert files() == (len(body) > MEMORY_MAX)
        for name in ("ours", "theirs-is-longer", "t", "größe"):
            wanted = body.replace(b"\r\nours\r\n", b"\r\n" + name.encode() + b"\r\n", 1)
            sent = upload.body(name)
            assert isinstance(sent, SizedBody) == (len(body) > MEMORY_MAX)
            assert (sent.length if isinstance(sent, SizedBody) else len(sent)) == len(wanted)
            assert await read(sent) == await read(sent) == wanted
        upload.close()
        upload.close()
        await gone(files)

    asyncio.run(run())


def test_what_is_closed_while_it_is_read_says_so(files: Files) -> None:
    async def run() -> None:
        upload = await filled(START + bytes(2 * MEMORY_MAX) + END, 65_536)
        sent = upload.body("ours")
        assert isinstance(sent, SizedBody)
        pieces = sent.chunks()
        await anext(pieces)
        upload.close()
        await gone(files)
        with pytest.raises(OSError, match="closed"):
            await anext(pieces)

    asyncio.run(run())


def request(*messages: dict[str, Any]) -> tuple[Any, Request]:
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    gateway = SimpleNamespace(settings=SimpleNamespace(max_body_bytes=8 * MEMORY_MAX), watchdog=Watchdog())
    made = Request(
        "POST", "/v1/x", "", [], length=None, receive=cast(Callable[[], Awaitable[dict[str, Any]]], receive),
        request_id="r", started=0.0, client=cast(Any, None),
    )  # fmt: skip
    return gateway, made


def part(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


LARGE = part(START + bytes(2 * MEMORY_MAX))
ENDS: dict[str, tuple[list[dict[str, Any]], type[Exception], str]] = {
    "the client leaves": ([LARGE, {"type": "http.disconnect"}], ClientGone, ""),
    "it is too large": ([LARGE, part(bytes(7 * MEMORY_MAX))], ApiError, "payload_too_large"),
    "it is malformed": ([LARGE, part(b"\n--x--")], ApiError, "invalid_value"),
    "it does not end": ([LARGE, part(b"", more=False)], ApiError, "invalid_value"),
}


@pytest.mark.parametrize("kind", ENDS)
def test_nothing_is_left_of_a_form_that_is_not_taken(files: Files, kind: str) -> None:
    async def run() -> None:
        messages, error, code = ENDS[kind]
        gateway, incoming = request(*messages)
        with pytest.raises(error) as caught:
            await read_form(gateway, incoming, TYPE)
        assert getattr(caught.value, "code", "") == code
        await gone(files)

    asyncio.run(run())


def test_a_full_disk_is_503(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def run() -> None:
        gateway, incoming = request(LARGE, part(END, more=False))
        with pytest.raises(ApiError) as caught:
            await read_form(gateway, incoming, TYPE)
        assert (caught.value.http_status, caught.value.code) == (503, "overloaded")
        await gone(files)

    monkeypatch.setattr(uploads.os, "pwrite", full)
    asyncio.run(run())
