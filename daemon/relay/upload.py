"""A form that is received, read for its price and then sent on, without being held in memory.

Up to MEMORY_MAX it stays there; beyond that it goes to a temporary file that has no name, so that it is gone with its
descriptor, whatever ends the process. Files are read and written by threads of their own.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from daemon.protocols.forms import FormReader
from daemon.upstream.base import SizedBody

Result = TypeVar("Result")

MEMORY_MAX: Final = 1024 * 1024
PIECE: Final = 128 * 1024  # written and read at a time
_threads: Final = ThreadPoolExecutor(4, thread_name_prefix="uploads")


class Upload:
    """One form. `form` has read what has come; `size` is all its bytes. Must be closed; then its bytes are gone."""

    def __init__(self, form: FormReader) -> None:
        self.form = form
        self.size = 0
        self._waiting = bytearray()  # not in the file yet
        self._file: int | None = None
        self._written = 0
        self._closed = False
        self._lock = threading.Lock()  # a descriptor must not be closed under a thread that reads it

    async def write(self, chunk: bytes) -> None:
        """Take some more. ApiError 400 when the form is malformed, OSError when the disk is full."""
        self.form.feed(chunk)
        self._waiting += chunk
        self.size += len(chunk)
        if len(self._waiting) > (MEMORY_MAX if self._file is None else PIECE):
            await self._spill()

    async def finish(self) -> None:
        """All has come. ApiError 400 when the form does not end."""
        self.form.finish()
        if self._file is not None and self._waiting:
            await self._spill()

    def body(self, model: str) -> bytes | SizedBody:
        """The bytes to send, with this name of the model in its field. It may be read any number of times."""
        span, name = self.form.model_span, model.encode()
        if span is None or self.form.fields.get("model") == model:
            span, name = (self.size, self.size), b""
        if self._file is None:
            return bytes(self._waiting[: span[0]] + name + self._waiting[span[1] :])
        start, end = span
        return SizedBody(self.size - (end - start) + len(name), lambda: self._chunks(start, name, end))

    def close(self) -> None:
        """Forget it. Any number of times; never waits."""
        self._waiting = bytearray()
        if not self._closed:
            self._closed = True
            _threads.submit(self._close)

    # -- the file

    async def _spill(self) -> None:
        data, self._waiting = self._waiting, bytearray()
        await self._in_thread(partial(self._append, data))

    async def _chunks(self, start: int, between: bytes, end: int) -> AsyncGenerator[bytes, None]:
        async for piece in self._range(0, start):
            yield piece
        if between:
            yield between
        async for piece in self._range(end, self.size):
            yield piece

    async def _range(self, at: int, end: int) -> AsyncGenerator[bytes, None]:
        while at < end:
            length = min(PIECE, end - at)
            piece = await self._in_thread(partial(self._read, at, length))
            at += len(piece)
            yield piece

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(_threads, work)

    def _append(self, data: bytearray) -> None:
        with self._lock:
            if self._closed:
                return
            if self._file is None:
                with tempfile.TemporaryFile(buffering=0) as made:
                    self._file = os.dup(made.fileno())
            view = memoryview(data)
            while view:
                done = os.pwrite(self._file, view, self._written)
                self._written += done
                view = view[done:]

    def _read(self, at: int, length: int) -> bytes:
        with self._lock:
            piece = b"" if self._file is None else os.pread(self._file, length, at)
        if not piece:
            raise OSError("an upload was closed while it was sent")
        return piece

    def _close(self) -> None:
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def __del__(self) -> None:
        if not self._closed and self._file is not None:
            os.close(self._file)
