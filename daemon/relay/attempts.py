"""Try candidates and credentials in order until one gives a reply worth relaying.

Another one is tried only while the client has seen nothing and the request cannot be paid for twice: when no connection was
made (once, for at most a tenth of the requests), or when the provider refused our credential or its rate (the next
credential, each once).
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

import jiter

from daemon import log
from daemon.domain.catalog import Credential, Provider
from daemon.domain.errors import ApiError
from daemon.gateway import Gateway, Seen
from daemon.relay.call import Attempt, Call, Candidate, Plan
from daemon.relay.settlement import Result
from daemon.upstream import headers
from daemon.upstream.base import Deadlines, UpstreamReply, UpstreamRequest
from daemon.upstream.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
from db import credentials as stored_credentials

MOST_CONNECT_RETRIES = 1
CREDENTIAL_REFUSED = frozenset({401, 402, 403})
CALLERS_MISTAKE = frozenset({400, 404, 409, 413, 415, 422})
ERROR_BODY_BYTES = 64 * 1024  # masking it takes the event loop for milliseconds
NO_ADDRESS = "http://demo.invalid"  # the demo provider needs none


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply to relay, and who gave it. `secrets` must not appear in anything that is passed on."""

    upstream: UpstreamReply
    candidate: Candidate
    secrets: tuple[bytes, ...]


class PassedOn(Exception):
    """The provider says that the caller made a mistake: its status and (redacted) body go to the caller."""

    def __init__(self, status: int, body: bytes, content_type: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.content_type = content_type


async def first_reply(gateway: Gateway, call: Call, plan: Plan, result: Result) -> Reply:
    """The head of the first good reply. Raises ApiError or PassedOn when there is none."""
    retries = 0
    last: ApiError | None = None
    for candidate in plan.candidates:
        provider = candidate.provider
        result.provider = provider
        for credential in _turn(gateway, candidate):
            attempt = Attempt(provider.stored.slug, credential.name if credential else None)
            result.attempts.append(attempt)
            began = time.monotonic()
            budget = gateway.retries(provider.stored.id)
            budget.earn()
            try:
                reply = await _send(gateway, call, plan, candidate, credential, attempt)
            except UpstreamUnreachable as error:
                attempt.error = error.reason
                last = timeout_or_error(error, provider.stored.slug)
                if retries < MOST_CONNECT_RETRIES and budget.spend():
                    retries += 1
                    again = Attempt(provider.stored.slug, attempt.credential)
                    result.attempts.append(again)
                    try:
                        reply = await _send(gateway, call, plan, candidate, credential, again)
                    except UpstreamUnreachable as second:
                        again.error = second.reason
                        break  # this provider is not there: the next candidate
                    except UpstreamError as second:
                        again.error = second.reason
                        raise timeout_or_error(second, provider.stored.slug) from second
                    attempt = again
                else:
                    break
            except UpstreamError as error:
                attempt.error = error.reason
                raise timeout_or_error(error, provider.stored.slug) from error
            finally:
                attempt.ms = int((time.monotonic() - began) * 1000)
                if attempt.error is not None:
                    gateway.health[provider.stored.id] = Seen(False, None, call.at)
            attempt.status = reply.status
            gateway.health[provider.stored.id] = Seen(reply.status < 500, attempt.ms, call.at)
            secrets = (credential.secret.encode(),) if credential else ()
            if 200 <= reply.status < 300:
                return Reply(reply, candidate, secrets)
            last = await _refusal(gateway, candidate, credential, reply, secrets, attempt)
    assert last is not None  # there is at least one candidate with one credential
    raise last


def _turn(gateway: Gateway, candidate: Candidate) -> list[Credential | None]:
    """The credentials in the order of this turn, each once; [None] when the provider needs none."""
    rotation = candidate.provider.rotation
    if not rotation:
        return [None]
    start = gateway.next_turn(candidate.provider.stored.id) % len(rotation)
    ordered = rotation[start:] + rotation[:start] if start else rotation
    return list(dict.fromkeys(ordered)) if len(ordered) > 1 else list(ordered)


async def _send(
    gateway: Gateway, call: Call, plan: Plan, candidate: Candidate, credential: Credential | None, attempt: Attempt
) -> UpstreamReply:
    stored = candidate.provider.stored
    outgoing = candidate.passage.outgoing(plan.lowered_output)
    request = UpstreamRequest(
        method="POST",
        url=url_of(stored.base_url or NO_ADDRESS, outgoing.path, outgoing.query, call.presented_key),
        headers=headers.request_headers(
            outgoing.headers,
            stored.protocol,
            credential_header(candidate.provider, credential),
            secrets=(call.presented_key,),
            user=call.identity.user_id,
            content_type=outgoing.content_type,
        ),
        body=outgoing.body,
        deadlines=deadlines_of(candidate),
        on_sending=attempt.sending,
    )
    return await gateway.upstream(candidate.provider).send(request)


def credential_header(provider: Provider, credential: Credential | None) -> tuple[bytes, bytes] | None:
    """The header that carries our secret to a provider."""
    if credential is None:
        return None
    stored = provider.stored
    return _credential_header(stored.protocol, credential.secret, stored.auth_header, stored.auth_prefix)


@lru_cache(1024)
def _credential_header(protocol: str, secret: str, auth_header: str | None, auth_prefix: str | None) -> tuple[bytes, bytes]:
    return headers.credential_header(protocol, secret, auth_header, auth_prefix)


def url_of(base_url: str, path: str, query: str, key: bytes) -> str:
    """The provider's URL of a path, without parameters that hold the caller's key; 404 for what servers read differently."""
    try:
        return _joined(base_url, path, headers.clean_query(query, secrets=(key.decode("latin-1"),)) if query else "")
    except ValueError as error:
        raise ApiError.of("unknown_url", method="POST", path=path) from error


_joined = lru_cache(1024)(headers.join_url)


def masked(body: bytes, provider: Provider, secrets: tuple[bytes, ...]) -> bytes:
    """A provider's words as the caller may see them: no credential, nothing shaped like one, not the host."""
    host = urlsplit(provider.stored.base_url).hostname or ""
    if b"\\" in body:  # escapes of JSON hide a secret from us, not from the caller's decoder
        with suppress(ValueError):
            body = json.dumps(jiter.from_json(body), ensure_ascii=False).encode()
    return headers.redact(body, [secret.decode() for secret in secrets], [host])


def deadlines_of(candidate: Candidate) -> Deadlines:
    """The provider's own."""
    stored = candidate.provider.stored
    return Deadlines(
        stored.connect_timeout_ms / 1000,
        stored.first_byte_timeout_ms / 1000,
        stored.read_timeout_ms / 1000,
        stored.total_timeout_ms / 1000,
    )


async def _refusal(
    gateway: Gateway,
    candidate: Candidate,
    credential: Credential | None,
    reply: UpstreamReply,
    secrets: tuple[bytes, ...],
    attempt: Attempt,
) -> ApiError:
    """Read an error reply. Returns the error if another credential may be tried, raises it if not."""
    stored, status = candidate.provider.stored, reply.status
    try:
        body = await reply.read(ERROR_BODY_BYTES)
    except UpstreamError:
        body = b""
    finally:
        await reply.aclose()
    attempt.error = f"http_{status}"
    if status in CREDENTIAL_REFUSED:
        log.warning("credential refused", provider=stored.slug, credential=attempt.credential, status=status)
        if credential is not None:
            text = f"the provider answered {status}"
            gateway.store.write_soon(lambda: stored_credentials.note_error(credential.id, text))
        return ApiError.of("upstream_error", provider=stored.slug, reason="it refused the gateway's credential")
    if status == 429:
        wait = _retry_after_s(reply)
        return ApiError.of("upstream_rate_limited", provider=stored.slug, retry_after_s=wait)
    if status in CALLERS_MISTAKE:
        content_type = next((value for name, value in reply.headers if name.lower() == b"content-type"), b"")
        if not content_type.startswith(b"application/json"):
            content_type, body = b"application/json", b""
        body, content_type = candidate.passage.refusal(status, masked(body, candidate.provider, secrets), content_type)
        raise PassedOn(status, body, content_type)
    log.warning("provider failed", provider=stored.slug, status=status)
    raise ApiError.of("upstream_error", provider=stored.slug, reason=f"it answered with status {status}")


def _retry_after_s(reply: UpstreamReply) -> int | None:
    for name, value in reply.headers:
        if name.lower() == b"retry-after" and value.isdigit() and len(value) < 8:
            return int(value)
    return None


def timeout_or_error(error: UpstreamError, provider: str) -> ApiError:
    """What the caller is told of a failed attempt."""
    if isinstance(error, UpstreamTimeout) and error.phase != "connect":
        return ApiError.of("upstream_timeout", provider=provider)
    return ApiError.of("upstream_error", provider=provider, reason=str(error))
