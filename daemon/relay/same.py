"""The passage where client and provider speak alike: bytes pass, but for what the gateway must change."""

from __future__ import annotations

from typing import Any

from daemon.domain.errors import ApiError
from daemon.domain.usage import Usage
from daemon.protocols import dialects, gemini
from daemon.protocols.dialects import DIALECTS, GEMINI, OPENAI_CHAT, Dialect, Watcher
from daemon.protocols.unread_reader import LastByte, UnreadReader
from daemon.relay.call import Call
from daemon.relay.passage import EVENTS, Outgoing, Stream, Whole
from daemon.upstream.headers import without_reply_parameters
from db.snapshot import StoredDeployment, StoredProvider

BINARY = (b"audio/", b"video/", b"image/", b"application/octet-stream")


class Same:
    """What changes: the model's name, a limit that the balance lowers, usage that we ask for. On a provider's own routes the
    reply stays whole."""

    losses: tuple[str, ...] = ()

    def __init__(self, call: Call, provider: StoredProvider, deployment: StoredDeployment) -> None:
        self._call = call
        self.dialect = DIALECTS[call.dialect]
        self._upstream_name = deployment.upstream_name
        self._asks_usage = (
            not call.verbatim
            and call.ask.stream
            and call.dialect == OPENAI_CHAT
            and call.ask.include_usage is not True
            and provider.include_usage
        )

    @property
    def _renames(self) -> bool:
        return not self._call.verbatim and self._upstream_name != self._call.ask.model

    @property
    def names(self) -> tuple[str, str] | None:
        return (self._upstream_name, self._call.ask.model) if self._renames else None

    def outgoing(self, lowered_output: int | None) -> Outgoing:
        call = self._call
        query = without_reply_parameters(call.query)
        if call.upload is not None:
            kind = call.upload.form.content_type.encode()
            return Outgoing(call.upstream_path, query, call.upload.body(self._upstream_name), call.headers, kind)
        body = self.dialect.request(
            call.body, call.data, model=self._upstream_name, include_usage=self._asks_usage, max_tokens=lowered_output
        )
        if self.dialect.name == GEMINI:
            # Nothing else of its query: it could leave the usage out of the reply, or ask for bytes that nobody here reads.
            asked = "alt=sse" if call.ask.stream and not dialects.is_array(call.endpoint, call.query) else ""
            return Outgoing(gemini.path_of(self._upstream_name, call.ask.stream), asked, body, call.headers)
        return Outgoing(call.upstream_path, query, body, call.headers)

    def whole(self, body: bytes, data: Any) -> Whole:
        if not isinstance(data, dict):
            if self._call.data.get("response_format") in self.dialect.plain:
                return Whole(lambda: None, lambda: body.decode("utf-8", "replace"), lambda used: body, None)
            if self.dialect.name != dialects.RAW:
                raise ValueError("its reply cannot be read")
            return Whole(lambda: None, str, lambda used: body, None)
        if self.dialect.failed(data):
            raise ValueError("it answered with an error")

        def encode(counted: Usage | None) -> bytes:
            out = self.dialect.renamed(body, self._call.ask.model) if self._renames else body
            return out if counted is None or self._call.verbatim else self.dialect.with_usage(out, counted)

        return Whole(lambda: self.dialect.usage_of(data), lambda: self.dialect.reply_text(data), encode, None)

    def stream(self, content_type: bytes) -> Stream | None:
        if content_type == EVENTS or (self.dialect.name == GEMINI and self._call.ask.stream):
            name = self._call.ask.model if self._renames else None
            whole = content_type == EVENTS and not self._call.verbatim
            return _SameStream(self._call, self.dialect, dialects.adapter(self.dialect, self._asks_usage, name, whole))
        return _BinaryStream() if self._is_sound(content_type) else None

    def _is_sound(self, content_type: bytes) -> bool:
        if self.dialect.open_ended:  # nothing is known of what it should be
            return content_type.startswith(BINARY)
        return self.dialect.binary and b"json" not in content_type and not content_type.startswith(b"text/")

    def refusal(self, status: int, body: bytes, content_type: bytes) -> tuple[bytes, bytes]:
        if not body:  # it sent none that is JSON
            body = dialects.refusal_body(status, body, self._call.envelope, self._call.request_id)
        return body, content_type


class _SameStream:
    content_type = None
    passes_errors = True

    def __init__(self, call: Call, dialect: Dialect, adapter: Watcher) -> None:
        self._call = call
        self.open_ended = dialect.open_ended
        self.reader = dialect.reader()
        self._adapter = adapter
        self._passed = b""

    def feed(self, chunk: bytes) -> bytes:
        self.reader.feed(chunk)
        out = self._adapter.feed(chunk)
        self._passed = out or self._passed
        return out

    def flush(self) -> bytes:
        self.reader.flush()
        rest = self._adapter.flush()
        return rest if self._call.verbatim or self._is_over else b""  # half an event, and an error comes behind it

    @property
    def _is_over(self) -> bool:
        reader = self.reader
        return reader.done or bool(reader.finish_reasons) or reader.error is not None or self.open_ended

    def end(self, usage: Usage | None) -> bytes:
        return b""

    def fail(self, error: ApiError) -> bytes | None:
        return dialects.error_event(error, self._call.envelope, self._call.request_id, self._passed)


class _BinaryStream:
    """Sound, as it comes. Its last byte waits for the settlement; when it breaks off, so does the client's."""

    content_type = None
    passes_errors = True
    open_ended = True

    def __init__(self) -> None:
        self.reader = UnreadReader()
        self._rest = LastByte()

    def feed(self, chunk: bytes) -> bytes:
        self.reader.feed(chunk)
        return self._rest.feed(chunk)

    def flush(self) -> bytes:
        return self._rest.flush()

    def end(self, usage: Usage | None) -> bytes:
        return b""

    def fail(self, error: ApiError) -> bytes | None:
        return None
