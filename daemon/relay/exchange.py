"""One call from admission to settlement, run by a task that the app owns; the client's connection only watches it.

Order: the hold is durable before the first byte goes upstream; the watermark is durable before the first byte of a stream
goes to the client; the settlement is durable before the last one does. Whatever happens in between, the hold is closed once.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, cast

import jiter

from daemon import log
from daemon.domain.errors import ApiError
from daemon.domain.usage import InvalidUsage, Usage, check_within
from daemon.gateway import Gateway
from daemon.protocols import dialects
from daemon.protocols.dialects import Reader
from daemon.protocols.sse import LineTooLong
from daemon.relay import attempts, settlement
from daemon.relay.admission import UNSERVED, Held, admit, stand_in
from daemon.relay.attempts import PassedOn, Reply
from daemon.relay.call import Call, ClientGone, Denied, NotServed, Plan
from daemon.relay.client import Client, Headers
from daemon.relay.passage import Stream, Whole
from daemon.relay.settlement import Result
from daemon.upstream import headers
from daemon.upstream.errors import UpstreamError, UpstreamTimeout
from db import holds
from db.errors import DatabaseUnavailable
from db.money import format_usd
from db.usage import UsageRow

WATERMARK_S = 1.0
CHARS_PER_TOKEN = 4
REPLY_BYTES = 256 * 1024 * 1024
REST_S = 0.25
LAST_WORD_S = 1.0  # at a stop
REST_BYTES = 64 * 1024
LOSSES_SHOWN = 1000
WORDS = 500  # characters of a provider's words in an error of ours


class Exchange:
    """Runs one call. `leave()` is called when the client's connection is gone."""

    def __init__(self, gateway: Gateway, call: Call, client: Client) -> None:
        self._gateway = gateway
        self._call = call
        self._client = client
        self._result = Result()
        self._interruptible = False
        self._draining_upstream = False
        self._drain_deadline: asyncio.TimerHandle | None = None
        self._left = False
        self._task: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[Any] = cast("asyncio.Task[Any]", asyncio.current_task())

    @property
    def ended(self) -> bool:
        """The call is over, its hold closed."""
        return self._task is not None and self._task.done()

    def start(self) -> None:
        """Begin. The task belongs to the app; the caller's task is cancelled if it ends without a complete reply."""
        self._task = self._gateway.tasks.spawn(self._run(), name=f"exchange {self._call.request_id}")

    def leave(self) -> None:
        """The client is gone: stop at once, or read on to the true usage, as the provider is configured."""
        if self._left or self._task is None or self._task.done() or self._client.finished:
            return
        self._left = True
        self._client.gone = True
        if not self._interruptible:
            return  # the hold is being placed or settled: it is looked at right after
        if self._may_drain():
            self._begin_drain()
        else:
            self._task.cancel()

    def _may_drain(self) -> bool:
        provider = self._result.provider
        return (
            provider is not None
            and provider.stored.on_disconnect == "drain"
            and self._gateway.drains < self._gateway.settings.drain_tasks
        )

    def _begin_drain(self) -> None:
        assert self._task is not None
        self._draining_upstream = True
        self._gateway.drains += 1
        loop = asyncio.get_running_loop()
        self._drain_deadline = loop.call_later(self._gateway.settings.drain_seconds, self._task.cancel)

    async def _run(self) -> None:
        gateway = self._gateway
        gateway.metrics.running(1)
        try:
            await self._admitted()
        except ClientGone:
            pass
        except Denied as denied:
            await self._refuse(denied)
        except DatabaseUnavailable as error:
            log.error("database unavailable", request_id=self._call.request_id, text=error.message)
            with suppress(ClientGone):
                await self._answer(ApiError.of("database_unavailable"))
        except Exception as error:
            log.exception("exchange failed", error, request_id=self._call.request_id)
            with suppress(ClientGone):
                await self._answer(ApiError.of("internal_error"))
        finally:
            gateway.metrics.running(-1)
            if self._call.upload is not None:
                self._call.upload.close()
            if self._drain_deadline is not None:
                self._drain_deadline.cancel()
            if self._draining_upstream:
                gateway.drains -= 1
            if not self._client.finished or self._client.stuck:
                self._client.gone = True
                self._watcher.cancel()  # it waits for the end of a reply that will not come

    async def _admitted(self) -> None:
        held: Held = await admit(self._gateway, self._call)
        if held.call.request_id != self._call.request_id:
            self._client.rename(held.call.request_id)
        self._call = held.call
        self._client.tell(held.headers)
        await _Relay(self, held.plan).run()

    # -- ends without a hold

    async def _refuse(self, denied: Denied) -> None:
        call, error, model = self._call, denied.error, denied.model
        record = UsageRow(
            request_id=call.request_id,
            at=call.at,
            user_id=call.identity.user_id,
            key_id=call.identity.key_id,
            endpoint=call.endpoint,
            requested_model=call.ask.model[:200],
            status="refused",
            http_status=error.http_status,
            model_id=model.id if model else None,
            stream=call.ask.stream,
            latency_ms=int((time.monotonic() - call.started) * 1000),
            error_code=error.code,
        )
        self._client.tell(denied.headers)
        try:
            if denied.counted:
                await settlement.refused(self._gateway, record)
            else:
                error, headers_of_limits = await settlement.refuse(self._gateway, record, error, denied.identity)
                self._client.tell(headers_of_limits)
        except DatabaseUnavailable as problem:
            log.error("refusal not recorded", request_id=call.request_id, text=problem.message)
        with suppress(ClientGone):
            await self._answer(error)

    async def _answer(self, error: ApiError) -> None:
        """The error, in the caller's dialect: as a reply of its own, or as the last event of a stream that has begun."""
        if self._client.started:
            await self._client.finish(dialects.error_event(error, self._call.envelope, self._call.request_id))
            return
        status, head, body = dialects.error_reply(error, self._call.envelope, self._call.request_id)
        await self._client.whole(status, head, body)


class _Relay:
    """The part of an exchange that has a hold. It ends with the hold closed."""

    def __init__(self, exchange: Exchange, plan: Plan) -> None:
        self._exchange = exchange
        self._gateway = exchange._gateway
        self._call: Call = exchange._call
        self._client = exchange._client
        self._result = exchange._result
        self._plan = plan
        self._closed = False
        self._sent = False  # the provider may have seen the request
        self._text = ""  # what a non-streaming reply said, for an estimate
        self._usage: Usage | None = None
        self._passage = plan.candidates[0].passage  # of the candidate that replied, once one did
        self._stream_of: Stream | None = None
        self._marked = 0.0

    async def run(self) -> None:
        """Attempt, relay, and close the hold, whatever happens."""
        exchange = self._exchange
        try:
            if exchange._left:
                raise ClientGone
            exchange._interruptible = True
            try:
                await self._served()
            finally:
                exchange._interruptible = False
        except PassedOn as error:
            await self._close("error", error.status, "upstream_refused")
            await self._client.whole(error.status, [(b"content-type", error.content_type)], error.body)
        except ApiError as error:
            await self._fail(error)
        except (ClientGone, asyncio.CancelledError) as error:
            await self._interrupted(error)
        except BaseException:
            await self._close("error", 500, "internal_error")
            raise

    async def _served(self) -> None:
        """A reply, relayed; another one when that failed before the client saw any of it and nobody asks money for it."""
        tries = attempts.Tries(self._gateway, self._call, self._plan, self._result)
        while True:
            try:
                reply = await tries.next()
            except ApiError as error:
                if tries.unsure or error.code not in UNSERVED or not await self._stand_in():
                    raise
                tries = attempts.Tries(self._gateway, self._call, self._plan, self._result)
                continue
            self._sent = True
            self._passage = reply.candidate.passage
            try:
                return await self._relay(reply)
            except NotServed as error:
                tries.skip(error)
                self._sent, self._stream_of, self._usage, self._text = False, None, None, ""
            finally:
                self._exchange._interruptible = False
                reply.turn.end()
                await reply.upstream.aclose()
            self._exchange._interruptible = True
            if self._exchange._left:
                raise ClientGone

    async def _stand_in(self) -> bool:
        """Nobody could serve the model: whether the next one may be asked. The hold is for that one then."""
        if not self._plan.fallbacks:
            return False
        self._exchange._interruptible = False
        other = await stand_in(self._gateway, self._call, self._plan)
        if other is not None:
            self._plan = other
        self._exchange._interruptible = True
        if self._exchange._left:
            raise ClientGone
        return other is not None

    # -- ends

    async def _fail(self, error: ApiError) -> None:
        """The provider failed. What was delivered is charged; nothing else is."""
        await self._close("error", error.http_status, error.code)
        with suppress(ClientGone):
            await self._tell(error)

    async def _tell(self, error: ApiError) -> None:
        if self._client.started and self._stream_of is not None:
            last = self._stream_of.fail(error)
            if last is not None:  # else the connection is closed without the end that its framing promises
                await self._client.finish(last)
        else:
            await self._exchange._answer(error)

    async def _interrupted(self, error: BaseException) -> None:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None:
            task.uncancel()
        if self._exchange._left or isinstance(error, ClientGone):
            self._sent = self._sent or any(attempt.may_cost for attempt in self._result.attempts)
            await self._close("client_disconnected", 499, "client_disconnected")
            return
        stopped = ApiError.of("shutting_down")
        await self._close("error", 503, stopped.code)
        with suppress(ClientGone, TimeoutError):
            async with asyncio.timeout(LAST_WORD_S):
                await self._tell(stopped)

    async def _close(self, status: str, http_status: int, code: str | None) -> Usage | None:
        """Close the hold once: charge what was used or delivered (returned), release it when that is nothing."""
        if self._closed:
            return None
        self._closed = True
        result, now = self._result, time.monotonic()
        result.status, result.http_status, result.error_code = status, http_status, code
        used = await self._used(whole=status == "ok", gone=status == "client_disconnected")
        if used is None:
            await settlement.release(self._gateway, self._call, self._plan, result, now)
            return None
        try:
            await settlement.settle(self._gateway, self._call, self._plan, result, used, now)
        except DatabaseUnavailable:
            settlement.settle_later(self._gateway, self._call, self._plan, result, used, now)
            raise
        return used

    def _give_back(self, now: float) -> None:
        """The database was away before anything was delivered: nothing is charged, as soon as it is back."""
        self._closed = True
        self._result.status, self._result.http_status = "error", 503
        self._result.error_code = "database_unavailable"
        settlement.release_later(self._gateway, self._call, self._plan, self._result, now)

    async def _used(self, *, whole: bool, gone: bool) -> Usage | None:
        """What to charge: the reported usage, else what was delivered as counted by us, else nothing."""
        reader = self._stream_of.reader if self._stream_of is not None else None
        found = self._usage or (self._believed(reader.usage) if reader is not None else None)
        delivered = (reader is not None and reader.delivered) or self._text
        if self._marked > 0 and (reader is None or reader.error is None):
            delivered = True  # a head and what else came with it; a provider that says that it failed gets nothing for it
        if found is not None and (whole or delivered or gone):
            if left_out := settlement.untold(self._call, self._plan, found):
                return settlement.completed(found, await self._estimated(at_once=not whole), left_out)
            if reader is None or (whole and self._passage.dialect.name == dialects.OPENAI_CHAT):
                return found
            # Gemini tells the usage so far in every event, at first without the tokens of the answer.
            ended = reader.done or bool(reader.finish_reasons)
            if not reader.early_usage and (ended or found.output_tokens > found.reasoning):
                return found
            return await self._at_least_delivered(found, reader.estimate_text(), at_once=not whole)
        if whole or delivered or (gone and self._sent):
            return await self._estimated(at_once=not whole)
        return None

    def _believed(self, found: Usage | None) -> Usage | None:
        """None for a usage that this request cannot have: what was delivered is counted then."""
        try:
            if found is not None:
                check_within(found, self._plan.input_bound, self._plan.output_bound)
        except InvalidUsage as error:
            log.warning("usage not believed", request_id=self._call.request_id, text=str(error))
            return None
        return found

    async def _estimated(self, *, at_once: bool) -> Usage:
        text = self._text or (self._stream_of.reader.estimate_text() if self._stream_of is not None else "")
        return await settlement.estimated_usage(self._gateway, self._call, self._plan, text, at_once=at_once)

    async def _at_least_delivered(self, found: Usage, text: str, *, at_once: bool) -> Usage:
        """The usage was told before the text, as Anthropic does first, and never again: its output is what was delivered."""
        estimate = await settlement.estimated_usage(self._gateway, self._call, self._plan, text, at_once=at_once)
        counted = estimate.output_tokens
        if counted <= found.output_tokens:
            return found
        more = counted - found.output_tokens
        return replace(found, meters={**found.meters, "output": found.meters.get("output", 0) + more}, estimated=True)

    # -- the reply

    async def _relay(self, reply: Reply) -> None:
        upstream = reply.upstream
        self._result.served_model = self._plan.model.public_id
        try:
            content_type = next((v for name, v in upstream.headers if name.lower() == b"content-type"), b"")
            stream = self._passage.stream(content_type.partition(b";")[0].strip().lower())
            if stream is not None:
                await self._stream(reply, stream)
            else:
                await self._whole(reply)
        except UpstreamTimeout as error:
            raise self._broken(reply, error.reason, "upstream_timeout") from error
        except (UpstreamError, LineTooLong) as error:
            reason = error.reason if isinstance(error, UpstreamError) else "unreadable"
            raise self._broken(reply, reason, "upstream_error", str(error)) from error

    def _broken(self, reply: Reply, reason: str, code: str, words: str = "") -> ApiError:
        """A reply that did not come to its end, and what the client is told."""
        reply.failed(reason)
        stored = reply.candidate.provider.stored
        again = self._marked == 0.0 and not self._closed and stored.on_no_answer == "next"
        return (NotServed if again else ApiError).of(code, provider=stored.slug, reason=words)

    def _head(self, reply: Reply, content_type: bytes | None) -> Headers:
        """`content_type`: of a reply that was translated; None: the provider's."""
        stored = reply.candidate.provider.stored
        head = headers.reply_headers(reply.upstream.headers, secrets=reply.secrets)
        if content_type is not None:
            head = [(b"content-type", content_type), *(header for header in head if header[0] != b"content-type")]
        head.append((b"x-gateway-model", self._plan.model.public_id.encode("utf-8", "replace")))
        head.append((b"x-gateway-provider", stored.slug.encode()))
        head.append((b"x-gateway-attempts", b"%d" % len(self._result.attempts)))
        if self._plan.stands_in:
            head.append((b"x-gateway-fallback", b"true"))
        if self._plan.lowered_output is not None:
            head.append((b"x-gateway-max-tokens", b"%d" % self._plan.lowered_output))
        if losses := self._passage.losses:
            head.append((b"x-gateway-dropped", ",".join(losses).encode("ascii", "replace")[:LOSSES_SHOWN]))
        return head

    async def _whole(self, reply: Reply) -> None:
        """A reply in one piece: read, settle, send."""
        body = await reply.upstream.read(REPLY_BYTES)
        self._result.ttft_ms = int((time.monotonic() - self._call.started) * 1000)
        self._exchange._interruptible = False
        try:
            data = jiter.from_json(body)
        except ValueError:
            data = None
        try:
            whole = self._passage.whole(body, data)
        except ValueError as error:
            raise self._broken(reply, "unreadable", "upstream_error", str(error)) from error
        reply.turn.worked()
        try:
            self._usage = self._believed(whole.usage())
        except InvalidUsage as error:
            log.warning("usage not believed", request_id=self._call.request_id, text=str(error))
        if self._usage is None or settlement.untold(self._call, self._plan, self._usage):
            self._text = whole.text()
        await self._settled(reply, whole)

    async def _settled(self, reply: Reply, whole: Whole) -> None:
        self._closed = True
        self._result.http_status = reply.upstream.status
        used = await self._used(whole=True, gone=False)
        assert used is not None
        body = whole.encode(used if self._usage is None else None)
        if self._exchange._left:
            self._result.status, self._result.error_code = "client_disconnected", "client_disconnected"
        now = time.monotonic()
        try:
            settled = await settlement.settle(self._gateway, self._call, self._plan, self._result, used, now)
        except DatabaseUnavailable:
            self._give_back(now)
            raise
        head = self._head(reply, whole.content_type)
        head.append((b"x-gateway-cost", format_usd(settled.charged_nanos).encode()))
        await self._client.whole(reply.upstream.status, head, body)

    async def _stream(self, reply: Reply, stream: Stream) -> None:
        """A stream: what arrives goes on at once, but for its end, which waits for the settlement."""
        client = self._client
        self._stream_of = stream
        reader = stream.reader
        drained, events, held = 0, -1, bytearray()
        async for chunk in reply.upstream.chunks():
            out = stream.feed(chunk)
            if self._marked == 0.0:
                held += out
                if not self._worth_a_head(reply, reader, len(held)):
                    continue
                await self._begin(reply, stream)
                events, out = 0, bytes(held)
            if reader.events != events:
                events = reader.events
                reply.upstream.progress()
            if reader.done or reader.error is not None:
                await self._end_of_stream(reply, stream, out + await self._rest(reply, stream) + stream.flush())
                return
            if self._exchange._left:
                drained += len(chunk)
                if drained > self._gateway.settings.drain_bytes:
                    raise ClientGone
                continue
            await client.write(out)
            self._watermark(reader)
        rest = stream.flush()
        if self._marked == 0.0:
            raise self._broken(reply, "no_event", "upstream_error", "it sent no event that can be read")
        await self._end_of_stream(reply, stream, rest)

    def _worth_a_head(self, reply: Reply, reader: Reader, held: int) -> bool:
        """Whether a stream has begun: before its first event that says something the client gets a real status instead."""
        slug = reply.candidate.provider.stored.slug
        if self._call.verbatim or reader.delivered:
            return True
        if reader.error is not None:
            reply.failed("stream_error")
            raise NotServed.of("upstream_error", provider=slug, reason=_masked_words(reader.error, reply))
        if reader.events > reader.garbage:
            return True
        if held > self._passage.dialect.first_bytes:
            raise self._broken(reply, "unreadable", "upstream_error", "it sent too much that can not be read")
        return False

    async def _rest(self, reply: Reply, stream: Stream) -> bytes:
        """What still comes after the last event, usually only the end: read, so that the connection can be used again."""
        rest = b""
        with suppress(TimeoutError, UpstreamError):
            async with asyncio.timeout(REST_S):
                async for chunk in reply.upstream.chunks():
                    rest += stream.feed(chunk)
                    if len(rest) > REST_BYTES:
                        break
        return rest

    async def _begin(self, reply: Reply, stream: Stream) -> None:
        """Before the first byte goes out: the watermark is durable, so that a crash from now on charges."""
        self._marked = time.monotonic()
        self._result.ttft_ms = int((self._marked - self._call.started) * 1000)
        self._exchange._interruptible = False
        try:
            ours = await self._gateway.store.write(
                partial(holds.mark_delivered, self._call.request_id, 1), order=self._call.identity.user_id
            )
        except DatabaseUnavailable:
            self._give_back(self._marked)
            raise
        if not ours:  # we were taken for dead and the hold was given back: nothing may be delivered for it
            log.error("hold was closed by another before the first byte", request_id=self._call.request_id)
            raise ApiError.of("internal_error")
        self._exchange._interruptible = True
        if self._exchange._left and not self._exchange._draining_upstream:
            if not self._exchange._may_drain():
                raise ClientGone
            self._exchange._begin_drain()
        head = self._head(reply, stream.content_type)
        head.append((b"cache-control", b"no-cache"))
        head.append((b"x-accel-buffering", b"no"))
        await self._client.start(reply.upstream.status, head)

    def _watermark(self, reader: Reader) -> None:
        now = time.monotonic()
        if now - self._marked < WATERMARK_S:
            return
        self._marked = now
        tokens = max(1, reader.delivered_chars // CHARS_PER_TOKEN)
        self._gateway.store.write_soon(
            partial(holds.mark_delivered, self._call.request_id, tokens), order=self._call.identity.user_id
        )

    async def _end_of_stream(self, reply: Reply, stream: Stream, rest: bytes) -> None:
        """The provider's stream is over: settle, then let the end go out."""
        self._exchange._interruptible = False
        reader, slug = stream.reader, reply.candidate.provider.stored.slug
        if reader.error is not None:
            reply.failed("stream_error")
            await self._close("error", 502, "upstream_error")
            if not stream.passes_errors:
                failed = ApiError.of("upstream_error", provider=slug, reason=_masked_words(reader.error, reply))
                rest += stream.fail(failed) or b""
            await self._client.finish(_masked(rest, reply))
            return
        complete = reader.done or bool(reader.finish_reasons) or stream.open_ended
        if not complete and not self._call.verbatim:
            reply.failed("cut")
            broken = ApiError.of("upstream_error", provider=slug, reason="its stream ended before it was complete")
            await self._close("error", 502, broken.code)
            await self._client.finish(rest + (stream.fail(broken) or b""))
            return
        reply.turn.worked()
        used = await self._close("client_disconnected" if self._exchange._left else "ok", 200, None)
        await self._client.finish(rest + stream.end(used))


def _masked(words: bytes, reply: Reply) -> bytes:
    return attempts.masked(words, reply.candidate.provider, reply.secrets, reply.candidate.passage.names)


def _masked_words(error: dict[str, Any], reply: Reply) -> str:
    """What a provider's error inside a stream says, as the client may see it."""
    message = error.get("message")
    if not isinstance(message, str) or not message:
        return "it answered with an error"
    found = _masked(message.encode("utf-8", "replace"), reply)
    return found.decode("utf-8", "replace")[:WORDS].rstrip(".")
