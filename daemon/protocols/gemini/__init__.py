"""The Gemini API (generateContent, streamGenerateContent, countTokens), both ways: as a client's dialect and a provider's.

Map: tables (what becomes of each field, part and tool) is the ground; values reads fields in both spellings, names URLs; seals
keeps proofs of other protocols inside thoughtSignature, models knows generations, schemas Google's kind of schema, media its
files. A client's request: parts -> turns -> decode. A provider's: content -> encode. usage; errors; citations; logprobs; reply
(a whole reply both ways); frames (a stream in either form) and partial -> decoder (events), encoder (events -> a client's
stream). For bytes that pass: ask (what bounds the cost), edit (what must change), count (countTokens). codec puts it together.
"""

from daemon.protocols.gemini.ask import read
from daemon.protocols.gemini.codec import Gemini
from daemon.protocols.gemini.count import count_reply, count_request
from daemon.protocols.gemini.decoder import Decoder
from daemon.protocols.gemini.edit import (
    MODEL_PATHS,
    StreamAdapter,
    rewrite_reply_model,
    rewrite_request_model,
    set_output_limit,
)
from daemon.protocols.gemini.encoder import Encoder
from daemon.protocols.gemini.errors import error_body, error_frame, read_error, status_of
from daemon.protocols.gemini.names import METHODS, model_and_method, path_of
from daemon.protocols.gemini.tables import NAME
from daemon.protocols.gemini.usage import reply_text, usage_of

__all__ = [
    "METHODS",
    "MODEL_PATHS",
    "NAME",
    "Decoder",
    "Encoder",
    "Gemini",
    "StreamAdapter",
    "count_reply",
    "count_request",
    "error_body",
    "error_frame",
    "model_and_method",
    "path_of",
    "read",
    "read_error",
    "reply_text",
    "rewrite_reply_model",
    "rewrite_request_model",
    "set_output_limit",
    "status_of",
    "usage_of",
]
