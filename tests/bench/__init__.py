"""The benchmark: the gateway and its peers in one run, the system under test on one core, upstream and load on another.

Read in this order:
    payloads.py   the bytes that go over the wire, and what a complete valid reply is
    upstream.py   a static OpenAI-like upstream, fast enough not to be the limit
    load.py       the load generator: counts complete valid replies only
    floor.py      the least that Quart + Hypercorn + httpx can do: relays, meters nothing
    procs.py      process groups, pinning, CPU time and memory from /proc
    peers.py      installs LiteLLM and Portkey into a cache outside the tree
    systems.py    how each system is started and what its clients send
    report.py     medians, ratios, the table, docs/performance.md
    __main__.py   `python -m tests.bench`

To add a peer: 1. its pinned versions under peers/ and an installer in peers.py; 2. a starter in systems.py;
3. a column in report.COLUMNS.
"""
