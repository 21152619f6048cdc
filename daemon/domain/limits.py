"""What a caller is told of limits: the headers of every reply, and the 429 that says which limit and how much. Pure."""

from __future__ import annotations

from daemon.domain.errors import ApiError
from db.fair_use import Allowance
from db.identity import Identity
from db.limits import Limit, Standing, Window

Headers = list[tuple[bytes, bytes]]

PARALLEL_RETRY_S = 1


def _seconds(from_ms: int, to_ms: int) -> int:
    """From one instant to a later one, rounded up; at least 1."""
    return max(1, -(-(to_ms - from_ms) // 1000))


def limit_headers(identity: Identity, standing: Standing) -> Headers:
    """X-RateLimit-* of requests per minute, and OpenAI's names for requests and tokens.

    With a limit of the key's and one of the user's: that which leaves less.
    """
    headers: Headers = []
    offered = [
        (max(0, limit - window.requests), -window.window_at, limit, window)
        for limit, window in ((identity.rpm, standing.key), (identity.user_rpm, standing.user))
        if limit is not None and window is not None
    ]
    if offered:
        left, _, limit, window = min(offered, key=lambda one: one[:2])
        headers += [
            (b"x-ratelimit-limit", b"%d" % limit),
            (b"x-ratelimit-remaining", b"%d" % left),
            (b"x-ratelimit-reset", b"%d" % (window.ends_at // 1000)),
            *_openai(b"requests", limit, left, _seconds(standing.at, window.ends_at)),
        ]
    if identity.tpm is not None:
        left = max(0, identity.tpm - standing.key.tokens)
        headers += _openai(b"tokens", identity.tpm, left, _seconds(standing.at, standing.key.ends_at))
    return headers


def _openai(what: bytes, limit: int, left: int, reset_s: int) -> Headers:
    return [
        (b"x-ratelimit-limit-" + what, b"%d" % limit),
        (b"x-ratelimit-remaining-" + what, b"%d" % left),
        (b"x-ratelimit-reset-" + what, b"%ds" % reset_s),
    ]


def rate_limited(identity: Identity, standing: Standing, tokens: int = 0) -> ApiError:
    """The 429 for what `standing.refused` says; `tokens`: what the request may need at most."""
    key, refused = standing.key, standing.refused
    window: Window = key
    if refused is Limit.PARALLEL:
        most = identity.max_parallel
        text, wait = f"{most} requests of this API key at the same time are allowed, and {key.parallel} run", PARALLEL_RETRY_S
    elif refused is Limit.TOKENS:
        text = (
            f"{identity.tpm} tokens per minute are allowed for this API key, {key.tokens} are used or reserved, and this "
            f"request may need up to {tokens}"
        )
        wait = _seconds(standing.at, key.ends_at)
    else:
        if refused is Limit.USER_REQUESTS and standing.user is not None:
            window = standing.user
            text = f"{identity.user_rpm} requests per minute are allowed for user {identity.user}, all keys together"
        else:
            text = f"{identity.rpm} requests per minute are allowed for this API key"
        wait = _seconds(standing.at, window.ends_at)
    return ApiError.of("rate_limit_exceeded", limit=text, retry_after_s=wait)


def fair_use_headers(allowance: Allowance) -> Headers:
    """X-FairUse-*: the day's allowance, what is left of it, and the epoch second at which it begins again."""
    return [
        (b"x-fairuse-limit", b"%d" % allowance.rule.limit),
        (b"x-fairuse-remaining", b"%d" % allowance.remaining),
        (b"x-fairuse-reset", b"%d" % (allowance.resets_at // 1000)),
    ]


def throttled(allowance: Allowance) -> ApiError:
    """The 429 of a user whose allowance and money are used up."""
    rule = allowance.rule
    return ApiError.of(
        "daily_limit_throttled",
        limit=rule.limit,
        every=_duration(rule.throttle_s),
        retry_after_s=min(_seconds(allowance.at, allowance.slot_at), rule.throttle_s),  # a clock may have gone back
    )


def _duration(seconds: int) -> str:
    """600 → '10 minutes'."""
    for size, name in ((3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            number = seconds // size
            return f"{number} {name}{'' if number == 1 else 's'}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"
