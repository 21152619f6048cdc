"""The URL of a request: which model, which method."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["METHODS", "model_and_method", "path_of"]

METHODS: Final = frozenset({"generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"})
TUNED: Final = "tunedModels/"
MODELS: Final = "models/"
_PATH: Final = re.compile(r"/v1(?:alpha|beta\d?)?/(models|tunedModels)/(.+):([A-Za-z]+)", re.DOTALL)
_ESCAPES: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_UNSAFE: Final = re.compile(rb"[^A-Za-z0-9._~:@-]")


def path_of(model: str, stream: bool) -> str:
    """The path on a provider for a model by its own name there; the caller adds `?alt=sse` to a stream.

    "models/x" and "tunedModels/x" may be given whole. Everything else that a URL could read otherwise is escaped.
    """
    kind, name = (TUNED, model[len(TUNED) :]) if model.startswith(TUNED) else (MODELS, model.removeprefix(MODELS))
    safe = _UNSAFE.sub(lambda found: b"%%%02X" % ord(found[0]), name.encode("utf-8", "replace")).decode()
    return f"/v1beta/{kind}{safe}:{'streamGenerateContent' if stream else 'generateContent'}"


def model_and_method(path: str) -> tuple[str, str] | None:
    """("gemini-x", "countTokens") of a percent-encoded "/v1beta/models/gemini-x:countTokens"; None for any other path.

    The name may hold `/`, `:` and `#`, escaped or not; "tunedModels/" stays part of it. /v1, /v1beta and /v1alpha are alike.
    """
    found = _PATH.fullmatch(path)
    if found is None or found[3] not in METHODS:
        return None
    try:
        name = _ESCAPES.sub(lambda run: bytes.fromhex(run[0].replace("%", "")).decode(), found[2])
    except UnicodeDecodeError:
        return None
    if found[1] == "tunedModels":
        return TUNED + name, found[3]
    name = name.removeprefix(MODELS)
    return (name, found[3]) if name else None
