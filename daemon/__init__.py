"""The server, from the outside in.

run          serve(): the entry of `gatewayctl serve`; one process, or a supervisor over several
supervisor   N workers on one socket
server       one worker: Hypercorn in-process, own drain
app          create_app(): the composition root, the only module that names every concrete part
background   loops around plain functions: beats, recovery, ledger checks
api/         thin handlers and the ASGI front (paths, ids, CORS); the billable ones are plain ASGI, the rest Quart
relay/       the life of a request: admit, hold, attempt, settle
upstream/    the way to a provider: transport, one attempt, headers; the demo provider
store        async bridge to db/: one writer thread with group commit, reader threads
snapshot     database rows → the catalogue in memory, swapped whole when its version changes
protocols/   pure wire formats
domain/      pure decisions: names, prices, admission, usage, errors
tasks log    tasks that the app owns; structured logs without secrets
"""
