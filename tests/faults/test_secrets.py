"""Row 32: keys where they do not belong, and secrets in what providers say. 401, and no secret in any place (O6)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.faults.figures import figure
from tests.faults.fleet import Client
from tests.faults.oracle import canaries_in, database_bytes, wait_for_quiet
from tests.faults.scene import PROMPT_CANARY, PROVIDER_CANARY, REPLY_CANARY, Order, Scene
from tests.support import upstream as up
from tests.support.gateway import Gateway
from tests.support.postgres import Server
from tests.support.upstream import Received

ORDER = Order("ask")


async def _get(port: int, target: str, headers: str = "", method: str = "GET", body: bytes = b"") -> bytes:
    """One raw request on a connection of its own; the whole reply."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    length = f"content-length: {len(body)}\r\n" if body else ""
    writer.write(f"{method} {target} HTTP/1.1\r\nhost: g\r\nconnection: close\r\n{headers}{length}\r\n".encode() + body)
    reply = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return reply


def _key_places(key: str) -> list[tuple[str, str]]:
    """(target, headers) of a chat request whose key stands where it does not belong."""
    path = "/v1/chat/completions"
    basic = base64.b64encode(f"user:{key}".encode()).decode()
    return [
        (f"{path}?key={key}", ""),
        (f"{path}?api_key={key}&a=b", ""),
        (f"{path}?access_token={key}", ""),
        (f"{path}?authorization=Bearer%20{key}", ""),
        (f"/v1/{key}/chat/completions", ""),
        (f"/{key}{path}", ""),
        (f"{path}#{key}", ""),
        (path, f"authorization: Basic {basic}\r\n"),
        (path, f"authorization: {key}\r\n"),
        (path, f"authorization: Token {key}\r\n"),
        (path, f"x-auth-token: {key}\r\n"),
        (path, f"api-key: {key}\r\n"),
        (path, f"cookie: key={key}\r\n"),
        (path, f"x-forwarded-authorization: Bearer {key}\r\n"),
        (path, f"proxy-authorization: Bearer {key}\r\n"),
        (path, f"user-agent: Bearer {key}\r\n"),
        (path, f"referer: http://127.0.0.1/?key={key}\r\n"),
        (path, f"x-request-id: {key}\r\n"),
        (path, f"authorization: Bearer {key}x\r\n"),
        (path, f"authorization: Bearer {key[:-1]}\r\n"),
        (path, f"authorization: Bearer {key.swapcase()}\r\n"),
        (path, f"authorization: Bearer {key} {key}\r\n"),
    ]


def _process_lines(gateway: Gateway) -> bytes:
    """What `ps` shows of the daemon and its workers: the command lines."""
    pids = [gateway.process.pid, *gateway.workers()]
    return b"\n".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids)


def _all_places(scene: Scene, gateway: Gateway, replies: Mapping[str, bytes]) -> dict[str, bytes]:
    metrics = asyncio.run(_get(gateway.port, "/metrics"))
    status = asyncio.run(_get(gateway.port, "/api/status"))
    health = asyncio.run(_get(gateway.port, "/health"))
    places = {f"log {path.name}": path.read_bytes() for path in scene.logs}
    places |= {"metrics": metrics, "status": status, "health": health, "ps": _process_lines(gateway)}
    places |= {f"database {name}": data for name, data in database_bytes(scene.url).items()}
    return places | dict(replies)


def _canaries(scene: Scene) -> dict[str, bytes]:
    master = (scene.home.home / "master.key").read_text().strip()
    found = {"the provider's credential": PROVIDER_CANARY.encode(), "the master key": master.encode()}
    for customer in scene.customers:
        found[f"the key of {customer.name}"] = customer.key.encode()
        found[f"the secret part of the key of {customer.name}"] = customer.key.partition("_")[2].encode()
        found[f"the key of {customer.name} in base64"] = base64.b64encode(customer.key.encode())[:40]
    return found


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_keys_in_wrong_places_are_refused_and_never_written(
    scene_with: Callable[..., Scene], database: str, request: pytest.FixtureRequest
) -> None:
    url = None
    if database == "postgresql":
        server: Server = request.getfixturevalue("postgres")
        url = server.new_database()
    scene = scene_with(url=url)
    key = scene.customers[0].key
    replies: dict[str, bytes] = {}
    scene.kitchen.keep = True
    with scene.start(workers=2) as gateway:
        body = ORDER.body(stream=False)
        wrong = _key_places(key)
        for number, (target, headers) in enumerate(wrong):
            reply = asyncio.run(_get(gateway.port, target, headers, "POST", body))
            status = int(reply[9:12])
            assert status in (400, 401, 404), (target.replace(key, "KEY"), headers.replace(key, "KEY"), reply)
            if target == "/v1/chat/completions" or target.startswith("/v1/chat/completions?"):
                assert status == 401, (target.replace(key, "KEY"), headers.replace(key, "KEY"), reply)
            replies[f"reply {number}"] = reply
        # Beside a good key, more copies of it do no harm, and go nowhere.
        good = f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        for number, target in enumerate((f"/v1/chat/completions?key={key}", f"/v1/chat/completions?x={key}")):
            more = f"{good}x-copy: {key}\r\nuser-agent: {key}\r\nidempotency-key: {key}\r\nx-request-id: {key}\r\n"
            order = Order(f"beside{number}")
            reply = asyncio.run(_get(gateway.port, target, more, "POST", order.body(stream=False)))
            assert reply[9:12] == b"200", reply
            replies[f"reply beside {number}"] = reply
        for target in (
            f"/v1/up/{key}",
            f"/v1/up/{key}/chat/completions",
            f"/v1/{key}/chat/completions",
            f"/v1/up/x%2f%73k-gw-{key[6:]}",
        ):
            reply = asyncio.run(_get(gateway.port, target, good, "POST", ORDER.body(stream=False)))
            assert reply[9:12] == b"401", reply
            replies[f"reply to {target.replace(key, 'KEY')}"] = reply
        wait_for_quiet(scene.url)
        assert set(scene.kitchen.seen) == {"beside0", "beside1"}
        places = _all_places(scene, gateway, replies)
        assert gateway.stop() == 0
    received = {f"upstream's request {name}": request.everything for name, request in scene.kitchen.requests.items()}
    canaries = _canaries(scene)
    assert not canaries_in(received, {name: canary for name, canary in canaries.items() if "key of" in name})
    found = canaries_in(places | {f"log {p.name}": p.read_bytes() for p in scene.logs}, canaries)
    figure("32", database=database, wrong_places=len(wrong), places=len(places), canaries=len(canaries), hits=len(found))
    assert not found, found


ECHOES: dict[str, Callable[[Received], up.Answer]] = {
    "the request's headers in a 401": lambda r: up.error_reply(401, f"Incorrect API key provided: {r.header('authorization')}"),
    "half of the key in a 400": lambda r: up.error_reply(400, f"bad key {PROVIDER_CANARY[:12]}****{PROVIDER_CANARY[-4:]}"),
    "the whole key in a 400": lambda r: up.error_reply(400, f"key {PROVIDER_CANARY} may not use this"),
    "the whole key in a 404": lambda r: up.json_reply({"detail": PROVIDER_CANARY, "x": {"y": [PROVIDER_CANARY]}}, 404),
    "everything in a 500": lambda r: up.Reply(500, [("Content-Type", "text/html")], r.everything),
    "everything in a 400": lambda r: up.Reply(400, [("Content-Type", "text/plain")], r.everything),
    "a header in a 200": lambda r: up.json_reply({"choices": []}, headers=[("X-Request-Id", PROVIDER_CANARY)]),
    "a redirect": lambda r: up.Reply(302, [("Location", f"http://127.0.0.1:1/?key={PROVIDER_CANARY}")], b""),
    "garbage": lambda r: [r.everything, up.Close()],
    "an error event": lambda r: list(up.sse([{"error": {"message": f"no {PROVIDER_CANARY}"}}])),
    "an error event after text": lambda r: list(
        up.sse([*up.chat_frames(["a"])[:2], {"error": {"message": f"no {PROVIDER_CANARY}"}}])
    ),
    "a reset": lambda r: up.reset(),
}


def test_what_a_provider_says_of_its_credential_goes_nowhere(scene: Scene) -> None:
    current: list[Callable[[Received], up.Answer]] = []
    scene.upstream.always(lambda request: current[0](request))
    replies: dict[str, bytes] = {}
    with scene.start() as gateway:
        for name, echo in ECHOES.items():
            for stream in (False, True):
                for path in ("/v1/chat/completions", "/v1/up/chat/completions"):
                    current[:] = [echo]
                    order = Order(f"e{len(replies)}")
                    client = Client(gateway.port, scene.customers[0].key, keep=False)
                    got = asyncio.run(client.ask(order.body(stream=stream), order.id, stream=stream, path=path))
                    replies[f"reply to {name}, stream {stream}, {path}"] = bytes(got.raw)
        wait_for_quiet(scene.url)
        shown = json.dumps(scene.home.json("credentials", "list")).encode()
        places = _all_places(scene, gateway, {**replies, "credentials list": shown})
        assert gateway.stop() == 0
    masked = {"half of the credential": f"{PROVIDER_CANARY[:12]}****".encode(), "its middle": PROVIDER_CANARY[8:24].encode()}
    found = canaries_in(places, _canaries(scene) | masked)
    figure("32", echoes=len(replies), places=len(places), hits=len(found))
    assert not found, found


def test_no_prompt_no_reply_and_no_secret_is_kept(scene: Scene) -> None:
    """Every kind of end: whole, stream, refused, failed, cut, disconnected; then a crash."""
    poor = scene.customer("poor", "0.000001")
    orders = [
        (Order("n1"), False, None, scene.customers[0]),
        (Order("n2"), True, None, scene.customers[0]),
        (Order("n3", usage=False), True, None, scene.customers[0]),
        (Order("n4", fault="reset", fault_at=3), True, None, scene.customers[0]),
        (Order("n5", fault="refuse_400"), False, None, scene.customers[0]),
        (Order("n6", pieces=50, pace_ms=50), True, 0.3, scene.customers[0]),
        (Order("n7"), False, None, poor),
    ]
    replies: dict[str, bytes] = {}
    with scene.start() as gateway:
        for order, stream, leave_after_s, customer in orders:
            client = Client(gateway.port, customer.key, keep=False)
            got = asyncio.run(client.ask(order.body(stream=stream), order.id, stream=stream, leave_after_s=leave_after_s))
            if got.status != 200:
                replies[order.id] = bytes(got.raw)
        bad = asyncio.run(
            Client(gateway.port, scene.customers[0].key).ask(b'{"model": "' + PROMPT_CANARY.encode(), "n8", stream=False)
        )
        replies["n8"] = bytes(bad.raw)
        wait_for_quiet(scene.url)
        gateway.kill()
    with scene.start() as gateway:
        places = _all_places(scene, gateway, replies)
    canaries = _canaries(scene) | {"a prompt": PROMPT_CANARY.encode(), "a reply": REPLY_CANARY.encode()}
    found = canaries_in(places, canaries)
    figure("32", kinds_of_end=len(orders) + 1, places=len(places), canaries=len(canaries), hits=len(found))
    assert not found, found
    digest = hashlib.sha256(scene.customers[0].key.encode()).digest()
    assert any(digest in data for data in database_bytes(scene.url).values())  # that the search can find something
