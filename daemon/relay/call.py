"""What came in (Call) and what was decided for it (Plan), as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from daemon.domain.admission import Ask
from daemon.domain.catalog import Provider
from daemon.domain.errors import ApiError
from daemon.domain.pricing import Terms
from daemon.relay.passage import Passage
from daemon.relay.tally import Reserved
from daemon.relay.upload import Upload
from db.identity import Identity
from db.snapshot import StoredDeployment, StoredModel


@dataclass(slots=True)
class Call:
    """One authenticated request; never changed, but replaced.

    `provider` is set on provider-prefixed routes, which are relayed verbatim. The body is either `body`, read as `data`, or
    the form in `upload`, whose fields `data` holds; the exchange closes it.
    """

    request_id: str
    at: int
    started: float
    identity: Identity
    public_id: str
    endpoint: str
    upstream_path: str
    query: str
    presented_key: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    data: dict[str, Any]
    ask: Ask
    model_types: frozenset[str]
    protocols: frozenset[str] | None
    dialect: str
    envelope: str
    provider: str | None = None
    upload: Upload | None = None

    @property
    def file_bytes(self) -> int:
        """Bytes of the files that it brought."""
        return self.upload.form.file_bytes if self.upload is not None else 0

    @property
    def verbatim(self) -> bool:
        return self.provider is not None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider, the name by which it knows the model, and how the call's bytes go there and come back."""

    provider: Provider
    deployment: StoredDeployment
    passage: Passage


@dataclass(slots=True)
class Plan:
    """A call as admitted by one version of the catalogue: its model and terms, who may serve it, the amount that is held."""

    catalog_version: int
    model: StoredModel
    terms: Terms
    terms_json: str
    candidates: tuple[Candidate, ...]
    amount_nanos: int
    input_bound: int  # the most tokens that it was held for: of the prompt,
    output_bound: int  # and of all answers
    extra: dict[str, int]  # the most of what is counted and no token
    lowered_output: int | None  # the output limit that the balance affords, when it was lowered
    input_estimate: int
    ask: Ask  # with the name of this model
    alone: bool = False  # nobody else can be asked: failing ones are asked longer
    stands_in: bool = False  # for a model that nobody could serve
    fallbacks: tuple[str, ...] = ()  # models to ask when nobody can serve this one
    reserved: Reserved | None = None  # in the shared counters


@dataclass(slots=True)
class Attempt:
    """One try at a provider, for the usage record. `sent`: the provider may have seen the request."""

    provider: str
    credential: str | None
    status: int | None = None
    error: str | None = None
    ms: int = 0
    sent: bool = False
    model: str | None = None  # that was to be served

    def sending(self) -> None:
        """Called right before the first byte goes to the provider."""
        self.sent = True

    @property
    def may_cost(self) -> bool:
        """Whether the provider may ask for money: it may have seen the request, and did not refuse it."""
        return self.sent and self.error is None and (self.status is None or self.status < 400)

    def as_json(self) -> dict[str, Any]:
        """What the usage record keeps."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "sent"}


class ClientGone(Exception):
    """The client left, or read too slowly."""


class NotServed(ApiError):
    """A provider failed after its reply had begun, before the client saw any of it, and another one may be asked."""


class Denied(Exception):
    """A call that ended before any money was held: the error for the client, and what is known for the usage record.

    `identity`: the newest that is known of the caller. `counted`: a limit refused it, so that it counts no more. `headers`:
    what the client is told beside the error.
    """

    def __init__(
        self,
        error: ApiError,
        identity: Identity,
        model: StoredModel | None = None,
        *,
        counted: bool = False,
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.identity = identity
        self.model = model
        self.counted = counted
        self.headers = headers or []
