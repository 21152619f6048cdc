"""Usage of a reply, as disjoint meters and back.

| meter | where it is | is part of |
|---|---|---|
| input | what is left of promptTokenCount, and toolUsePromptTokenCount | |
| cached_input | cachedContentTokenCount, or else the sum of cacheTokensDetails | promptTokenCount |
| audio_input | AUDIO of promptTokensDetails without that of cacheTokensDetails; AUDIO of toolUsePromptTokensDetails | both |
| output | candidatesTokenCount and thoughtsTokenCount, which stand beside each other | |
| audio_output | AUDIO of candidatesTokensDetails | candidatesTokenCount |
| image_output | IMAGE of candidatesTokensDetails; images in the prompt cost what text does and are among the input | the same |
| reasoning | thoughtsTokenCount | output |
| hosted_call | what the candidates show of tools at work, see runs | |

null and absent mean 0: zeros are left out. An object without any count (the first ones of a stream) is no usage. When a host
tells neither candidates nor thoughts, what totalTokenCount has beyond the prompt was generated. In a stream the last counts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from daemon.domain.usage import MAX_COUNT, InvalidUsage, Usage, checked_count
from daemon.protocols.gemini.runs import add_runs, counted
from daemon.protocols.gemini.tables import TIERS, TIERS_ENCODED
from daemon.protocols.gemini.values import compact, objects_of, string_of
from daemon.protocols.hosted import with_hosted

__all__ = ["read_usage", "reply_text", "tier_of", "usage_object", "usage_of", "with_runs"]

Raw = dict[str, Any]
COUNTS: Final = (
    "promptTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "toolUsePromptTokenCount",
    "cachedContentTokenCount",
    "totalTokenCount",
)
TIER_LENGTH: Final = 40
TRAFFIC: Final = {"ON_DEMAND_PRIORITY": "priority", "ON_DEMAND_FLEX": "flex"}  # Vertex's words for the tiers
# Also as numbers, for clients that ask for those.
AUDIO: Final = ("AUDIO", 4)
IMAGE: Final = ("IMAGE", 2)


def usage_of(body: Raw) -> Usage | None:
    """Of a whole reply or a chunk; None when it has none, InvalidUsage when it cannot be true."""
    usage = body.get("usageMetadata")
    found = None if usage is None else read_usage(usage)
    if found is None:
        return None
    runs: dict[str, set[str]] = {}
    add_runs(runs, body)
    return with_runs(found, runs, string_of(body, "modelVersion"))


def with_runs(usage: Usage, runs: dict[str, set[str]], model: str) -> Usage:
    """The usage with the calls of hosted tools that the reply of `model` shows."""
    return replace(usage, meters=with_hosted(usage.meters, counted(runs, model))) if runs else usage


def read_usage(usage: object) -> Usage | None:
    """A usageMetadata object; None when it holds no count, InvalidUsage when it cannot be true."""
    if type(usage) is not dict:
        raise InvalidUsage("usageMetadata is not an object")
    if all(usage.get(name) is None for name in COUNTS):
        return None
    prompt, used = _count(usage, "promptTokenCount"), _count(usage, "toolUsePromptTokenCount")
    thoughts, total = _count(usage, "thoughtsTokenCount"), _count(usage, "totalTokenCount")
    said = usage.get("candidatesTokenCount")
    if said is None and usage.get("thoughtsTokenCount") is None:
        generated = max(0, total - prompt - used)
    else:
        generated = _count(usage, "candidatesTokenCount")
    told = usage.get("cachedContentTokenCount") is not None
    cached = _count(usage, "cachedContentTokenCount") if told else _of(usage, "cacheTokensDetails", None)
    if cached > prompt:
        raise InvalidUsage("cachedContentTokenCount is more than promptTokenCount")
    # Details may lag behind the counts: they never make more of them.
    audio_in = max(0, _of(usage, "promptTokensDetails", AUDIO) - _of(usage, "cacheTokensDetails", AUDIO))
    audio_in = min(audio_in, prompt - cached) + min(_of(usage, "toolUsePromptTokensDetails", AUDIO), used)
    audio_out = min(_of(usage, "candidatesTokensDetails", AUDIO), generated)
    images = min(_of(usage, "candidatesTokensDetails", IMAGE), generated - audio_out)
    if max(prompt + used, generated + thoughts) > MAX_COUNT:
        raise InvalidUsage(f"the tokens are more than {MAX_COUNT}")
    meters = {"input": prompt + used - cached - audio_in, "output": generated + thoughts - audio_out - images}
    for meter, count in (
        ("cached_input", cached),
        ("audio_input", audio_in),
        ("audio_output", audio_out),
        ("image_output", images),
    ):
        if count:
            meters[meter] = count
    tier = usage.get("serviceTier")
    return Usage(meters, thoughts, tier=tier[:TIER_LENGTH].lower() if type(tier) is str and tier else _tier_of_traffic(usage))


def _tier_of_traffic(usage: Raw) -> str | None:
    kind = usage.get("trafficType")
    return TRAFFIC.get(kind) if type(kind) is str else None


def _count(holder: Raw, name: str) -> int:
    value = holder.get(name)
    return 0 if value is None else checked_count(value, name)


def _of(usage: Raw, name: str, wanted: tuple[object, ...] | None) -> int:
    """The tokens of a modality in a list by modality; None: of all."""
    value = usage.get(name)
    if value is None:
        return 0
    if type(value) is not list or not all(type(item) is dict for item in value):
        raise InvalidUsage(f"{name} is not a list of objects")
    total = 0
    for item in value:
        count = _count(item, "tokenCount")
        if wanted is None or item.get("modality") in wanted:
            total += count
    return total


def tier_of(body: Raw) -> str | None:
    """The service tier that the usage of a reply names."""
    usage = body.get("usageMetadata")
    tier = usage.get("serviceTier") if type(usage) is dict else None
    return TIERS.get(tier.lower(), tier.lower()) if type(tier) is str and tier else None


def reply_text(body: Raw) -> str:
    """The generated text of a whole reply, thoughts, calls and code included, to be counted when it reports no usage."""
    found: list[str] = []
    for candidate in objects_of(body, "candidates"):
        content = candidate.get("content")
        for part in objects_of(content, "parts") if type(content) is dict else ():
            found.append(string_of(part, "text"))
            if type(call := part.get("functionCall")) is dict:
                found += [string_of(call, "name"), compact(call.get("args") or {})]
            if type(code := part.get("executableCode")) is dict:
                found.append(string_of(code, "code"))
    return "\n".join(text for text in found if text)


def usage_object(usage: Usage, tier: str | None = None) -> Raw:
    """As this API writes it. What was written to a cache is part of the prompt."""
    meters = usage.meters
    # Sound and images are never thoughts.
    thoughts = min(usage.reasoning, meters.get("output", 0))
    prompt, candidates = usage.input_tokens, usage.output_tokens - thoughts
    found: Raw = {"promptTokenCount": prompt, "candidatesTokenCount": candidates, "totalTokenCount": usage.total_tokens}
    if thoughts:
        found["thoughtsTokenCount"] = thoughts
    if cached := meters.get("cached_input", 0):
        found["cachedContentTokenCount"] = cached
    for name, total, parts in (
        ("promptTokensDetails", prompt, (("AUDIO", "audio_input"), ("IMAGE", "image_input"))),
        ("candidatesTokensDetails", candidates, (("AUDIO", "audio_output"), ("IMAGE", "image_output"))),
    ):
        rest = total - sum(meters.get(meter, 0) for _, meter in parts)
        if rest < total:
            counts = [("TEXT", rest), *((word, meters.get(meter, 0)) for word, meter in parts)]
            found[name] = [{"modality": word, "tokenCount": count} for word, count in counts if count]
    if tier in TIERS_ENCODED:
        found["serviceTier"] = TIERS_ENCODED[tier]
    return found
