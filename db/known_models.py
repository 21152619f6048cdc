"""What is known of well-known models: prices and context window from the genai-prices package, the rest from tables here.

Nothing is fetched: the data is what the installed package holds. It is imported inside the functions, because it is
large. A model is known when the package's own rule for that provider matches it, never by guessing from a similar name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

from db import clock
from db.money import NANOS_PER_USD
from db.presets import preset

# price key of the package → (our meter, how many of our units the price is for)
_METER_OF = {
    "input_mtok": ("input", 1_000_000),
    "output_mtok": ("output", 1_000_000),
    "cache_read_mtok": ("cached_input", 1_000_000),
    "cache_write_mtok": ("cache_write_5m", 1_000_000),
    "cache_write_5m_mtok": ("cache_write_5m", 1_000_000),
    "cache_write_1h_mtok": ("cache_write_1h", 1_000_000),
    "input_audio_mtok": ("audio_input", 1_000_000),
    "output_audio_mtok": ("audio_output", 1_000_000),
    "input_image_mtok": ("image_input", 1_000_000),
    "output_image_mtok": ("image_output", 1_000_000),
    "audio_hours": ("second", 3600),
    "input_audio_hours": ("second", 3600),
    "input_mchars": ("character", 1_000_000),
    "requests_kcount": ("request", 1000),
    "rerank_searches_kcount": ("request", 1000),
    "web_searches_kcount": ("hosted_call/web_search", 1000),
    "storage_searches_kcount": ("hosted_call/file_search", 1000),
}

# Largest output in tokens, by the beginning of the name; the longest that fits counts.
_MAX_OUTPUT = {
    "gpt-3.5-turbo": 4_096,
    "gpt-4-turbo": 4_096,
    "gpt-4o": 16_384,
    "gpt-4.1": 32_768,
    "gpt-5": 128_000,
    "o1": 100_000,
    "o3": 100_000,
    "o4-mini": 100_000,
    "claude-3-haiku": 4_096,
    "claude-3-5": 8_192,
    "claude-3-7": 64_000,
    "claude-haiku-4": 64_000,
    "claude-sonnet-4": 64_000,
    "claude-opus-4": 32_000,
    "claude-opus-4-5": 64_000,
    "gemini-2.0": 8_192,
    "gemini-2.5": 65_535,
    "deepseek-chat": 8_192,
}
_CONTEXT = {"gemini-2.0": 1_048_576, "gemini-2.5": 1_048_576, "llama-3.3-70b-versatile": 131_072}
_SEES = ("gpt-4o", "gpt-4.1", "gpt-5", "o1", "o3", "o4-mini", "claude-", "gemini-", "grok-4", "pixtral", "llama-4")
_REASONS = ("gpt-5", "o1", "o3", "o4-mini", "claude-3-7", "claude-sonnet-4", "claude-opus-4", "claude-haiku-4",
            "gemini-2.5", "deepseek-reasoner", "grok-4", "magistral", "sonar-reasoning")  # fmt: skip
_STRUCTURED = ("gpt-4o", "gpt-4.1", "gpt-5", "o1", "o3", "o4-mini", "gemini-")

CHAT_FEATURES = ("streaming", "tools", "json_mode")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """Prices in nano-USD per million units; `notes` are what an admin should read before trusting them."""

    provider: str
    id: str
    display_name: str
    type: str
    prices: dict[str, int]
    source: str
    source_date: str
    context_length: int | None = None
    max_output: int | None = None
    features: tuple[str, ...] = ()
    input_modalities: tuple[str, ...] = ("text",)
    output_modalities: tuple[str, ...] = ("text",)
    notes: tuple[str, ...] = field(default=())


def _longest(table: dict[str, int], name: str) -> int | None:
    fitting = [prefix for prefix in table if name.startswith(prefix)]
    return table[max(fitting, key=len)] if fitting else None


def _bare(name: str) -> str:
    """'anthropic/claude-…' → 'claude-…'."""
    return name.lower().rsplit("/", 1)[-1]


def features_of(name: str, model_type: str) -> tuple[str, ...]:
    """What a chat model of that name can do, as far as known; nothing for other types."""
    if model_type != "chat":
        return ()
    bare, found = _bare(name), list(CHAT_FEATURES)
    found += ["structured_outputs"] if bare.startswith(_STRUCTURED) else []
    found += ["vision"] if bare.startswith(_SEES) else []
    found += ["reasoning"] if bare.startswith(_REASONS) else []
    return tuple(found)


def _nanos_per_million(price: Decimal, per: int) -> int:
    # Up, not half: a price that cannot be stored exactly must not be below the provider's.
    exact = price * NANOS_PER_USD * 1_000_000 / per
    return int(exact.to_integral_value(ROUND_CEILING))


def _standard_prices(model: Any) -> dict[str, Any]:
    """Price key → Decimal or tiers. Where the price depends on the time of day, the highest."""
    if not isinstance(model.prices, list):
        return dict(model.prices.__dict__)
    by_hour = [item for item in model.prices if hasattr(item.constraint, "start_time")]
    if not by_hour:
        return dict(model.get_prices(datetime.now(tz=UTC)).__dict__)
    highest: dict[str, Any] = {}
    for item in model.prices:
        if item.constraint is None or item in by_hour:
            for key, value in item.prices.__dict__.items():
                if value is not None and (key not in highest or value > highest[key]):
                    highest[key] = value
    return highest


def _meters(model: Any, context_length: int | None) -> tuple[dict[str, int], list[str]]:
    prices: dict[str, int] = {}
    notes: list[str] = []
    for key, value in _standard_prices(model).items():
        if value is None or key not in _METER_OF:
            if value is not None and key.endswith(("searches_kcount", "executions_kcount")):
                notes.append(f"{key.removesuffix('_kcount').replace('_', ' ')} cost extra and are not metered")
            continue
        meter, per = _METER_OF[key]
        base = value if isinstance(value, Decimal) else value.base
        prices[meter] = max(_nanos_per_million(base, per), prices.get(meter, 0))
        for step in () if isinstance(value, Decimal) else value.tiers:
            key = f"{meter}@{step.start}"
            if context_length is None or context_length > step.start:
                prices[key] = max(_nanos_per_million(step.price, per), prices.get(key, 0))
    return prices, notes


def _type_of(name: str, prices: dict[str, int]) -> str:
    bare = _bare(name)
    if "embed" in bare:
        return "embedding"
    if "rerank" in bare:
        return "rerank"
    if bare.startswith(("gpt-image", "dall-e", "imagen")):
        return "image"
    if "output" not in prices or bare.startswith(("whisper", "tts-")) or "transcribe" in bare or "-tts" in bare:
        return "audio" if {"second", "character"} & set(prices) or "tts" in bare or "transcribe" in bare else "chat"
    return "chat"


def type_of(name: str) -> str:
    """What a model without known prices is, by its name."""
    return _type_of(name, {})


def _modalities(bare: str, model_type: str, prices: dict[str, int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if model_type == "chat":
        return ("text", "image") if bare.startswith(_SEES) else ("text",), ("text",)
    if model_type == "image":
        return ("text",), ("image",)
    if model_type == "audio":
        return (("audio",), ("text",)) if "second" in prices else (("text",), ("audio",))
    return ("text",), ("text",)


def _provider(snapshot: Any, slug: str, base_url: str) -> Any:
    known = preset(slug)
    tries = ({"provider_id": known.prices} if known and known.prices else None, {"provider_api_url": base_url})
    for attempt in tries:
        if attempt is None or not next(iter(attempt.values())):
            continue
        arguments = {"provider_id": None, "provider_api_url": None, **attempt}
        try:
            return snapshot.find_provider(None, **arguments)
        except LookupError:
            continue
    return None


def find(name: str, *, provider_slug: str, base_url: str = "") -> KnownModel | None:
    """What is known of a provider's model; None when the provider or the model is not in the data."""
    from importlib.metadata import version

    from genai_prices import data_snapshot

    snapshot = data_snapshot.get_snapshot()
    provider = _provider(snapshot, provider_slug, base_url)
    if provider is None:
        return None
    model = provider.find_model(name.lower(), all_providers=snapshot.providers)
    if model is None:
        return None
    bare = _bare(name)
    context = model.context_window or _longest(_CONTEXT, bare)
    prices, notes = _meters(model, context)
    model_type = _type_of(name, prices)
    inputs, outputs = _modalities(bare, model_type, prices)
    if model.id.lower() not in {name.lower(), bare}:
        notes.insert(0, f"priced as {model.id}")
    if model.deprecated:
        notes.append("its provider calls it deprecated")
    return KnownModel(
        provider=provider.id,
        id=model.id,
        display_name=(model.name or name) if model.id.lower() == name.lower() else name,
        type=model_type,
        prices=prices,
        source=f"genai-prices {version('genai-prices')}: {provider.id}/{model.id}"[:200],
        source_date=str(clock.iso(clock.now_ms()))[:10],
        context_length=context,
        max_output=_longest(_MAX_OUTPUT, bare) if model_type == "chat" else None,
        features=features_of(name, model_type),
        input_modalities=inputs,
        output_modalities=outputs,
        notes=tuple(dict.fromkeys(notes)),
    )
