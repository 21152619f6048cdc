"""Log probabilities, both ways: Google's chosen and top candidates, and OpenAI's list of tokens."""

from __future__ import annotations

from typing import Any, Final

from daemon.protocols.gemini.values import objects_of, string_of

__all__ = ["decode_logprobs", "encode_logprobs"]

Raw = dict[str, Any]
LEAST: Final = -9999.0  # OpenAI's word for a token that is out of the question


def decode_logprobs(candidate: Raw) -> list[Raw]:
    """The tokens of logprobsResult as OpenAI has them; empty when there are none."""
    result = candidate.get("logprobsResult")
    if type(result) is not dict:
        return []
    tops = objects_of(result, "topCandidates")
    found: list[Raw] = []
    for index, chosen in enumerate(objects_of(result, "chosenCandidates")):
        others = objects_of(tops[index], "candidates") if index < len(tops) else []
        found.append(_token(chosen) | {"top_logprobs": [_token(other) for other in others]})
    return found


def _token(candidate: Raw) -> Raw:
    token, probability = string_of(candidate, "token"), candidate.get("logProbability")
    # 0, certainty, is left out.
    number = probability if type(probability) in (int, float) else 0.0
    return {"token": token, "logprob": number, "bytes": list(token.encode("utf-8", "replace"))}


def encode_logprobs(content: object) -> Raw | None:
    """logprobsResult of OpenAI's tokens; None when there are none."""
    tokens = [item for item in content if type(item) is dict] if type(content) is list else []
    if not tokens:
        return None
    return {
        "chosenCandidates": [_candidate(item) for item in tokens],
        "topCandidates": [{"candidates": [_candidate(top) for top in objects_of(item, "top_logprobs")]} for item in tokens],
    }


def _candidate(item: Raw) -> Raw:
    number = item.get("logprob")
    return {"token": string_of(item, "token"), "logProbability": number if type(number) in (int, float) else LEAST}
