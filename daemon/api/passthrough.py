"""Provider-prefixed requests (/v1/<provider>/<endpoint>): what may go through, and how it is billed.

A POST whose JSON body names a priced model is billed like any other, whatever the endpoint. What the admin allow-listed goes
through unbilled. Everything else is 403: the provider's account is shared.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from daemon.api import one_shot
from daemon.api.billable import UNIFIED, Endpoint, read_chat_loosely
from daemon.api.one_shot import Reading
from daemon.domain.admission import Ask
from daemon.domain.errors import ApiError
from daemon.domain.usage import meter_of
from daemon.protocols import dialects, openai_audio, openai_chat, openai_images
from daemon.protocols.bounds import hosted, media_parts, stored, unbounded
from daemon.protocols.dialects import DIALECTS
from daemon.protocols.tiers import asked_tier

CHAT = frozenset({"chat"})
EVERY_PROTOCOL: frozenset[str] = frozenset()  # not asked here: the path names the provider
ANY = frozenset({"chat", "embedding", "image", "audio", "rerank", "moderation"})
OUTPUT_LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens", "max_tokens_to_sample", "max_new_tokens")
# The one that an endpoint goes by, by the path's last segment: where it is missing the others bound nothing.
LIMIT_OF = {"responses": "max_output_tokens", "messages": "max_tokens", "completions": "max_tokens"}
# Paths whose replies are read in their own dialect; the body's bounds are read as everywhere here, without judging its form.
DIALECT_OF = {"responses": dialects.OPENAI_RESPONSES, "messages": dialects.ANTHROPIC_MESSAGES}
# The same, with bounds of their own where the body has the form that they are known for.
ONE_SHOT = {path.removeprefix("/v1/"): known for path, known in UNIFIED.items() if DIALECTS[known.dialect].protocol is None}
ONE_SHOT["audio/translations"] = replace(ONE_SHOT["audio/transcriptions"], upstream_path="/v1/audio/translations")
COUNTS = ("n", "best_of", "num_generations", "num_outputs", "num_images", "candidate_count")
# What stands under these is not paid for by the tokens of one request (jobs, stored things), or would let its caller
# work with the operator's account without the gateway (sessions).
NOT_BY_MODEL = frozenset(
    ("agents", "assistants", "batch", "batches", "chatkit", "containers", "conversations", "evals", "files", "fine-tunes",
     "fine-tuning", "fine_tunes", "fine_tuning", "jobs", "organization", "realtime", "sessions", "threads", "uploads",
     "vector_stores", "videos")
)  # fmt: skip
# What follows these in a URL is the name of a model, and hosts believe the URL, not the body.
NAMED_IN_URL = frozenset(("deployments", "engines", "model", "models", "publishers", "tunedmodels"))
MOST = 1_000_000_000


def endpoint_of(path: str) -> Endpoint:
    """How a provider's own endpoint is read. 403 for one whose price the model in the body does not decide.

    Hosts read a path more freely than it is written here: escapes are decoded, case is ignored, `;x` is cut off. What is
    priced must be what is sent, so such spellings are refused rather than guessed at.
    """
    segments = path.lower().split("/")
    if (
        "%" in path
        or ";" in path
        or ":" in path
        or not NOT_BY_MODEL.isdisjoint(segments)
        or not NAMED_IN_URL.isdisjoint(segments)
        or (segments[-2:] == ["chat", "completions"] and path != "chat/completions")
    ):
        raise ApiError.of(
            "endpoint_not_allowed",
            endpoint=f"POST {path}",
            message=f"POST {unquote(path)[:200]!r} is not allowed: the model in the body does not decide what it costs.",
        )
    if path == "chat/completions":
        return Endpoint(dialects.OPENAI_CHAT, CHAT, EVERY_PROTOCOL, "/v1/chat/completions", read_chat_loosely)
    known = ONE_SHOT.get(path)
    if known is not None:
        return replace(known, model_types=ANY, protocols=EVERY_PROTOCOL, read=_loosely(known, path))
    dialect = DIALECT_OF.get(path, dialects.RAW)
    return Endpoint(dialect, ANY, EVERY_PROTOCOL, f"/v1/{path}", lambda body, size: read_any(body, size, path))


def _loosely(endpoint: Endpoint, path: str) -> Reading:
    """Reads a body by its endpoint's own form and by what bounds the cost of any; one of another form by the latter alone."""

    def loose(body: dict[str, Any], size: int) -> Ask:
        others = one_shot.without_own(endpoint.dialect, body)
        try:
            exact = endpoint.read(body, size)
        except ApiError:
            openai_chat.refuse_lookalikes(body, one_shot.FIELDS)
            return read_any(others, size, path)
        other = read_any({**others, "model": exact.model}, size, path)
        limit, most = exact.output_limit, {meter_of(key): count for key, count in other.extra.items()}
        return replace(
            exact,
            output_limit=None if limit is None else max(limit, other.output_limit or 0),
            n=max(exact.n, other.n * exact.inputs),
            extra={key: max(count, most.get(meter_of(key), 0)) for key, count in exact.extra.items()},
        )

    return loose


def allowed(rules: tuple[str, ...], method: str, path: str) -> bool:
    """Whether an admin's rule ('GET files', 'GET /v1/files/*') names this endpoint."""
    for rule in rules:
        rule_method, _, rule_path = rule.strip().partition(" ")
        rule_path = rule_path.strip().strip("/").removeprefix("v1/")
        if rule_method.upper() not in (method, "*"):
            continue
        if rule_path == path or (rule_path.endswith("/*") and path.startswith(rule_path[:-1])):
            return True
    return False


def is_chat(path: str) -> bool:
    """Whether a host may take this endpoint for chat completions, however it is spelled."""
    return unquote(path).partition(";")[0].lower().strip("/").endswith("chat/completions")


def read_any(body: dict[str, Any], size: int, path: str) -> Ask:
    """What bounds the cost of a body of unknown dialect."""
    model = body.get("model")
    if not isinstance(model, str) or not model or len(model) > 512 or not model.isprintable():
        raise ApiError.of("missing_required_parameter", param="model")
    openai_chat.refuse_lookalikes(body)
    limits = [_count(body, name) for name in OUTPUT_LIMITS]
    given = [limit for limit in limits if limit is not None]
    proper = LIMIT_OF.get(path.lower().rpartition("/")[2], "")
    n = max(_count(body, name) or 1 for name in COUNTS)
    images = "images" in path.lower().split("/")
    elsewhere = [name for name in openai_audio.UNBOUNDED if "audio" in path.lower().split("/") and body.get(name) is not None]
    extra: dict[str, int] = {}
    if path.lower().endswith("audio/speech"):
        extra["character"] = len(body["input"]) if isinstance(body.get("input"), str) else size
    if images:
        extra[openai_images.piece(body.get("size"), body.get("quality"))] = n
    return Ask(
        model=model,
        stream=body.get("stream") is True,
        body_bytes=size,
        input_bound=size + 512,
        output_limit=max(given) if given and (not proper or body.get(proper) is not None) else None,
        output_extra=0,
        n=n,
        media_parts=0 if images else media_parts(body),
        features=frozenset(),
        unbounded=(*unbounded(body), *elsewhere),
        extra=extra,
        tier=asked_tier(body)[0],
        hosted=hosted(body),
        stored=stored(body),
    )


def _count(body: dict[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= MOST:
        raise ApiError.of("invalid_value", param=name, reason="it must be an integer of at least 1")
    return value
