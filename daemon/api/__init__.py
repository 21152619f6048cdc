"""What clients call. The front and the billable endpoints are plain ASGI, everything else is Quart.

front        Front: every request first: path, id, CORS, body; then the billable endpoints or Quart
paths        many spellings of a URL → one
auth         a key from a header → an Identity, or 401
incoming     a request and its body, read within limits; forms go to an Upload
one_shot     what bounds the cost of bodies that are no conversation
billable     POST endpoints that cost money: decode, then daemon.relay
passthrough  what a provider-prefixed request is: billable, allow-listed, or refused
count_tokens how long a prompt is: asked of the provider, or counted here; free
models account health pricing    information, in Quart
listing      the list of models in the shapes of OpenAI, Anthropic and Gemini
openapi      /openapi.json, made from the URL map and these tables
errors       Quart's own errors as JSON
"""
