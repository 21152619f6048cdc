"""What each API looks like on the wire, as pure functions over bytes and dicts.

sse, json_spans      the ground: bytes → frames, and where a value stands in raw JSON
event_reader asks forms base    what several dialects share: watching streams, bounds of a cost, multipart forms, the interface
openai_chat          chat completions: requests, usage, streams, edits, errors for bytes that pass; a codec for translation
openai_responses     the Responses API, both ways
anthropic_messages   the Messages API, both ways
gemini               generateContent and its streams, both ways, and for bytes that pass
openai_completions openai_embeddings openai_images openai_audio openai_moderations rerank    one-shot endpoints
raw                  what the gateway relays without knowing its dialect: only usage is read
anthropic_errors     errors for /messages
dialects             the table of the dialects that routes use

Dialects meet in daemon.domain.chat and know the ground and the domain, never one another.
"""
