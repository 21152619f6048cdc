"""What each API looks like on the wire, as pure functions over bytes and dicts.

sse, json_spans     the ground: bytes → frames, and where a value stands in raw JSON
openai_chat         chat completions: requests, usage, streams, edits, errors
raw                 what the gateway relays without knowing its dialect: only usage is read
anthropic_errors    errors for /messages
dialects            the table of dialects by name

Protocols know the ground and the domain, never one another.
"""
