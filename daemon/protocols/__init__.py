"""What each API looks like on the wire, as pure functions over bytes and dicts.

Map: sse (bytes -> frames) and json_spans (where a value stands in raw JSON) are the ground; openai_chat reads
requests, usage and streams of chat completions with them; openai_request, openai_usage and openai_stream are
its three parts. anthropic_errors wraps errors for /messages. Protocols know the ground and the domain, never
one another.
"""
