"""Everything that leaves for a provider: connections, one attempt, what is forwarded and what is hidden.

transport   connections to one provider: opened by aiohttp's connector, pooled here, never reused when in doubt
send        one attempt: `Upstream.send(UpstreamRequest) -> UpstreamReply`, with its deadlines
headers     which headers and query parameters go to the provider, which come back; URLs joined; secrets masked
errors      the three ways in which an attempt fails; only `UpstreamUnreachable` may be tried again
httpx_client  httpx over these connections: Provider for customers' requests, client() for rare calls that want comfort
"""
