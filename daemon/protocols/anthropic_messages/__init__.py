"""The Anthropic Messages API (POST /v1/messages), both ways: as a client's dialect and as a provider's.

Map: tables (what becomes of each field, block and tool; the versions of the API) is the ground; values checks fields, seals
keeps proofs of other protocols inside signatures, citations and models know their own. A client's request: blocks -> decode.
A provider's: content -> encode. usage; errors; reply (a whole message both ways); decoder (a provider's stream -> events)
and encoder (events -> a client's stream); count (what count_tokens counts). codec puts them together.
"""

from daemon.protocols.anthropic_messages.codec import AnthropicMessages
from daemon.protocols.anthropic_messages.count import count_reply, count_request
from daemon.protocols.anthropic_messages.decoder import Decoder
from daemon.protocols.anthropic_messages.encoder import Encoder
from daemon.protocols.anthropic_messages.errors import read_error
from daemon.protocols.anthropic_messages.tables import DEFAULT_MAX_TOKENS, NAME, VERSION, VERSION_HEADER, VERSIONS

__all__ = [
    "DEFAULT_MAX_TOKENS",
    "NAME",
    "VERSION",
    "VERSIONS",
    "VERSION_HEADER",
    "AnthropicMessages",
    "Decoder",
    "Encoder",
    "count_reply",
    "count_request",
    "read_error",
]
