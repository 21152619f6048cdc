"""Try candidates and credentials in order until one gives a reply worth relaying.

Another one is tried only while the client has seen nothing and the request cannot be paid for twice: when no connection was
made, or when the provider refused: our credential (it is benched), our rate (it rests), or the request by an error of its own
(the next deployment). A request that was sent and never answered may have been served: it is tried elsewhere only where the
provider's settings allow that. The same provider is asked again for at most a tenth of its requests.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from urllib.parse import urlsplit

import jiter

from daemon import log
from daemon.domain.catalog import Credential, Provider
from daemon.domain.errors import ApiError
from daemon.domain.routing import Refusal, Turn, worst
from daemon.gateway import Gateway, Seen
from daemon.relay.call import Attempt, Call, Candidate, Plan
from daemon.relay.settlement import Result
from daemon.upstream import headers
from daemon.upstream.base import Deadlines, UpstreamReply, UpstreamRequest
from daemon.upstream.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
from db import clock
from db import credentials as stored_credentials
from db.errors import DatabaseUnavailable

MOST_CONNECT_RETRIES = 1
CREDENTIAL_REFUSED = frozenset({401, 402, 403})
CALLERS_MISTAKE = frozenset({400, 404, 409, 413, 415, 422})
ERROR_BODY_BYTES = 64 * 1024  # masking it takes the event loop for milliseconds
UNTOLD_REST_S = 30.0  # of a credential that could not be benched
NO_ADDRESS = "http://demo.invalid"  # the demo provider needs none


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply to relay, and who gave it. `secrets` must not appear in anything that is passed on."""

    upstream: UpstreamReply
    candidate: Candidate
    secrets: tuple[bytes, ...]
    turn: Turn
    attempt: Attempt

    def failed(self, reason: str) -> None:
        """It broke off, or was none."""
        self.turn.failed(reason)
        self.attempt.error = self.attempt.error or reason


class PassedOn(Exception):
    """The provider says that the caller made a mistake: its status and (redacted) body go to the caller."""

    def __init__(self, status: int, body: bytes, content_type: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.content_type = content_type


class _Failed(Exception):
    """An attempt that another one may follow; `by_credential`: at the same deployment too."""

    def __init__(self, error: ApiError, *, by_credential: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.by_credential = by_credential


class Tries:
    """The attempts of one call, each deployment and each credential once."""

    def __init__(self, gateway: Gateway, call: Call, plan: Plan, result: Result) -> None:
        self._gateway, self._call, self._plan, self._result = gateway, call, plan, result
        self._left = list(plan.candidates)
        self._alone = plan.alone
        self._candidate = self._left[0]
        self._credentials: list[Credential | None] = []
        self._asked: set[int] = set()  # providers
        self._retries = 0
        self._refusals: list[tuple[Provider, Refusal]] = []
        self.last: ApiError | None = None
        self.unsure = False  # a request was sent and not answered: somebody may ask money for it

    async def next(self) -> Reply:
        """The head of the next good reply; its `turn` must be ended. ApiError or PassedOn when there is none."""
        while self._find():
            try:
                return await self._attempt(self._candidate, self._credentials.pop(0))
            except _Failed as failed:
                self.last = failed.error
                if not failed.by_credential:
                    self._credentials.clear()
        raise self.last or worst(self._refusals, self._plan.model.public_id)

    def skip(self, error: ApiError) -> None:
        """The deployment that replied did not serve after all."""
        self.last = error
        self._credentials.clear()

    def _find(self) -> bool:
        """Whether there is somebody to ask: a credential of this candidate, or the next one."""
        routes = self._gateway.routes
        while not self._credentials and self._left:
            self._candidate = self._left.pop(0)
            provider = self._candidate.provider
            refusal = routes.refusal(provider, self._candidate.deployment, alone=self._alone)
            if refusal is not None:
                self._refusals.append((provider, refusal))
            elif provider.stored.id not in self._asked or self._gateway.retries(provider.stored.id).spend():
                self._credentials = routes.credentials(provider)
        return bool(self._credentials)

    async def _attempt(self, candidate: Candidate, credential: Credential | None) -> Reply:
        gateway, provider = self._gateway, candidate.provider
        self._result.provider = provider
        self._asked.add(provider.stored.id)
        gateway.retries(provider.stored.id).earn()
        turn = gateway.routes.begin(provider, candidate.deployment, credential)
        try:
            reply, attempt = await self._sent(candidate, credential, turn)
            attempt.status = reply.status
            gateway.health[provider.stored.id] = Seen(reply.status < 500, attempt.ms, self._call.at)
            turn.answered()
            secrets = (credential.secret.encode(),) if credential else ()
            good = 200 <= reply.status < 300
            if good or reply.status in CALLERS_MISTAKE:
                self._accepted(provider, credential)
            if good:
                return Reply(reply, candidate, secrets, turn, attempt)
            raise await self._refused(candidate, credential, reply, secrets, attempt, turn)
        except BaseException:
            turn.end()
            raise

    async def _sent(self, candidate: Candidate, credential: Credential | None, turn: Turn) -> tuple[UpstreamReply, Attempt]:
        """A reply's head. When no connection was made and nobody else is left, once more."""
        gateway, stored = self._gateway, candidate.provider.stored
        while True:
            attempt = Attempt(stored.slug, credential.name if credential else None, model=self._plan.model.public_id)
            self._result.attempts.append(attempt)
            began = time.monotonic()
            try:
                return await _send(gateway, self._call, self._plan, candidate, credential, attempt), attempt
            except UpstreamError as error:
                attempt.error = error.reason
                gateway.health[stored.id] = Seen(False, None, self._call.at)
                unreachable = isinstance(error, UpstreamUnreachable)
                if unreachable and self._may_connect_again(stored.id):
                    continue
                turn.failed(error.reason, unreachable=unreachable)
                told = timeout_or_error(error, stored.slug)
                if unreachable or stored.on_no_answer == "next":
                    raise _Failed(told) from error
                self.unsure = True
                raise told from error
            finally:
                attempt.ms = int((time.monotonic() - began) * 1000)

    def _may_connect_again(self, provider_id: int) -> bool:
        if self._left or self._retries >= MOST_CONNECT_RETRIES or not self._gateway.retries(provider_id).spend():
            return False
        self._retries += 1
        return True

    def _accepted(self, provider: Provider, credential: Credential | None) -> None:
        self._gateway.routes.accepted(provider, credential)
        if credential is not None and credential.probe_at is not None:
            log.info("credential accepted again", provider=provider.stored.slug, credential=credential.name)
            self._gateway.store.write_soon(partial(stored_credentials.unbench, credential.id))

    async def _refused(
        self,
        candidate: Candidate,
        credential: Credential | None,
        reply: UpstreamReply,
        secrets: tuple[bytes, ...],
        attempt: Attempt,
        turn: Turn,
    ) -> _Failed:
        """Read an error reply, and remember what it says of deployment and credential. PassedOn: the caller's mistake."""
        stored, status = candidate.provider.stored, reply.status
        try:
            body = await reply.read(ERROR_BODY_BYTES)
        except UpstreamError:
            body = b""
        finally:
            await reply.aclose()
        attempt.error = f"http_{status}"
        if status in CREDENTIAL_REFUSED:
            turn.worked()
            log.warning("credential refused", provider=stored.slug, credential=attempt.credential, status=status)
            if credential is not None:
                await self._bench(candidate.provider, credential, f"the provider answered {status}")
            error = ApiError.of("upstream_error", provider=stored.slug, reason="it refused the gateway's credential")
            return _Failed(error, by_credential=True)
        if status == 429:
            turn.worked()
            wait = _retry_after_s(reply)
            pause = self._gateway.routes.rest(candidate.provider, credential, wait)
            told = pause if wait is None else wait
            error = ApiError.of("upstream_rate_limited", provider=stored.slug, retry_after_s=told)
            return _Failed(error, by_credential=True)
        if status in CALLERS_MISTAKE:
            turn.worked()
            content_type = next((value for name, value in reply.headers if name.lower() == b"content-type"), b"")
            if not content_type.startswith(b"application/json"):
                content_type, body = b"application/json", b""
            words = masked(body, candidate.provider, secrets, candidate.passage.names)
            body, content_type = candidate.passage.refusal(status, words, content_type)
            raise PassedOn(status, body, content_type)
        turn.failed(attempt.error)
        log.warning("provider failed", provider=stored.slug, status=status)
        return _Failed(ApiError.of("upstream_error", provider=stored.slug, reason=f"it answered with status {status}"))

    async def _bench(self, provider: Provider, credential: Credential, why: str) -> None:
        """Durable, so that every worker learns of it; while the database is away it rests here."""
        gateway = self._gateway
        try:
            until = await gateway.store.write(partial(stored_credentials.bench, credential.id, why, sent_at=self._call.at))
            await gateway.snapshot.refresh()
        except DatabaseUnavailable:
            gateway.routes.rest(provider, credential, UNTOLD_REST_S)
        else:
            if until is not None:
                log.warning(
                    "credential benched", provider=provider.stored.slug, credential=credential.name, until=clock.iso(until)
                )


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


def masked(body: bytes, provider: Provider, secrets: tuple[bytes, ...], names: tuple[str, str] | None = None) -> bytes:
    """A provider's words as the caller may see them: no credential, nothing shaped like one, not the host.

    `names`: the provider's name of the model, and the one that stands in its place.
    """
    host = urlsplit(provider.stored.base_url).hostname or ""
    if b"\\" in body:  # escapes of JSON hide a secret from us, not from the caller's decoder
        with suppress(ValueError):
            body = json.dumps(jiter.from_json(body), ensure_ascii=False).encode()
    if names is not None:
        own, shown = (json.dumps(name, ensure_ascii=False)[1:-1].encode("utf-8", "replace") for name in names)
        body = re.sub(rb"(?<![\w.-])%b(?![\w-])" % re.escape(own), lambda _: shown, body)
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
