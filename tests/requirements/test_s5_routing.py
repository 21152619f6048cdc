"""Many credentials, deployments and fallback models, as a client sees them (S4-15, S5-12, S5-13, S5-17)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from tests.support.upstream import (
    Answer,
    ScriptedUpstream,
    chat_reply,
    closed_port_url,
    error_frame,
    error_reply,
    hang_up,
    stall,
    truncated_stream,
    usage_of,
)
from tests.support.world import World, error_of

SERVED = chat_reply("fine", usage_of(100, 10))


@dataclass
class Pair:
    """A model with two providers: the first one is asked first."""

    world: World
    first: ScriptedUpstream
    second: ScriptedUpstream
    slugs: tuple[str, str]
    model: str

    def ask(self, **body: Any) -> Any:
        return self.world.gateway.chat(self.world.alice.key, model=self.model, **body)

    @property
    def seen(self) -> tuple[int, int]:
        """How many requests each got."""
        return len(self.first.requests), len(self.second.requests)


def shown(world: World, reply: Any) -> dict[str, Any]:
    """The usage record of a reply, with its attempts."""
    world.home.record_of(reply.headers["x-request-id"])
    found: dict[str, Any] = world.home.json("usage", "show", reply.headers["x-request-id"])
    return found


def pair_of(world: World, second: ScriptedUpstream, *options: str, first_url: str | None = None) -> Pair:
    slugs = (world.provider(*options, url=first_url), world.provider(*options, url=second.url))
    model = world.model(provider=slugs[0])
    world.home.ok("models", "deploy", model, "--provider", slugs[1], "--upstream", "their-name", "--priority", "1")
    world.openai.always(SERVED)
    second.always(SERVED)
    return Pair(world, world.openai, second, slugs, model)


@pytest.fixture
def second() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as server:
        yield server


@pytest.fixture
def pair(world: World, second: ScriptedUpstream) -> Pair:
    return pair_of(world, second, "--first-byte-timeout", "1")


# ------------------------------------------------------------------------------------------------ S4-15


def test_s4_15_credentials_take_turns_and_a_disabled_one_none(world: World) -> None:
    slug = world.provider(secret="sk-one-credential")
    world.home.ok("credentials", "add", slug, "--from-env", "S", "--name", "two", env={"S": "sk-two-credential"})
    model = world.model(provider=slug)
    world.openai.always(SERVED)
    for _ in range(6):
        assert world.gateway.chat(world.alice.key, model=model).status_code == 200
    used = [request.header("authorization") for request in world.openai.requests]
    assert used in (["Bearer sk-one-credential", "Bearer sk-two-credential"] * 3,
                    ["Bearer sk-two-credential", "Bearer sk-one-credential"] * 3)  # fmt: skip
    world.home.ok("credentials", "disable", f"{slug}/two")
    for _ in range(3):
        assert world.gateway.chat(world.alice.key, model=model).status_code == 200
    assert {request.header("authorization") for request in world.openai.requests[6:]} == {"Bearer sk-one-credential"}


def test_s4_15_weights_share_the_requests(world: World) -> None:
    slug = world.provider(secret="sk-one-credential")
    world.home.ok("credentials", "add", slug, "--from-env", "S", "--name", "two", env={"S": "sk-two-credential"})
    world.home.ok("credentials", "update", f"{slug}/two", "--weight", "3")
    model = world.model(provider=slug)
    world.openai.always(SERVED)
    for _ in range(8):
        assert world.gateway.chat(world.alice.key, model=model).status_code == 200
    used = [request.header("authorization") for request in world.openai.requests]
    assert used.count("Bearer sk-two-credential") == 6


def test_s4_15_a_refused_credential_is_benched_and_shown_and_enabled_again(world: World) -> None:
    slug = world.provider(secret="sk-one-credential")
    world.home.ok("credentials", "add", slug, "--from-env", "S", "--name", "two", env={"S": "sk-two-credential"})
    model = world.model(provider=slug)

    def answer(request: Any) -> Answer:
        return error_reply(401, "no") if request.header("authorization") == "Bearer sk-one-credential" else SERVED

    world.openai.always(answer)
    for _ in range(6):
        assert world.gateway.chat(world.alice.key, model=model).status_code == 200
    used = [request.header("authorization") for request in world.openai.requests]
    assert used.count("Bearer sk-one-credential") == 1  # then it was known
    [benched] = [row for row in world.home.json("credentials", "list", slug) if row["name"] == "default"]
    assert (benched["status"], benched["last_error"]) == ("benched", "the provider answered 401")
    assert benched["benched_at"] < benched["next_try_at"]
    world.openai.always(SERVED)
    world.home.ok("credentials", "enable", f"{slug}/default")
    for _ in range(2):
        assert world.gateway.chat(world.alice.key, model=model).status_code == 200
    assert {request.header("authorization") for request in world.openai.requests[-2:]} == set(used)


def test_s4_15_a_credential_that_is_limited_rests_for_as_long_as_it_was_told(world: World) -> None:
    slug = world.provider()
    model = world.model(provider=slug)
    world.openai.always(error_reply(429, headers=[("Retry-After", "40")]))
    error_of(world.gateway.chat(world.alice.key, model=model), 429, "upstream_rate_limited")
    world.openai.always(SERVED)
    reply = world.gateway.chat(world.alice.key, model=model)
    error_of(reply, 429, "upstream_rate_limited")
    assert 38 <= int(reply.headers["retry-after"]) <= 40
    assert len(world.openai.requests) == 1


# ------------------------------------------------------------------------------------------------ S5-12


def test_s5_12_what_is_down_is_told_at_once_and_when_to_come_back(world: World) -> None:
    slug = world.provider(url=closed_port_url())
    model = world.model(provider=slug)
    before = world.home.balance("alice")
    codes = [world.gateway.chat(world.alice.key, model=model) for _ in range(9)]
    assert {reply.status_code for reply in codes} == {502, 503}
    error_of(codes[-1], 503, "model_unavailable")
    assert 1 <= int(codes[-1].headers["retry-after"]) <= 30
    shown = world.home.json("models", "show", model)["deployments"][0]
    assert shown["broken_since"]
    assert world.home.balance("alice") == before
    world.home.ok("models", "disable", model)
    error_of(world.gateway.chat(world.alice.key, model=model), 404, "model_not_found")


# ------------------------------------------------------------------------------------------------ several deployments


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "answer",
    [error_reply(500), error_reply(503), error_reply(429), error_reply(401), error_reply(529)],
    ids=["500", "503", "429", "401", "529"],
)
def test_s5_13_what_one_provider_refuses_another_serves(pair: Pair, answer: Answer, stream: bool) -> None:
    pair.first.always(answer)
    before = pair.world.home.balance("alice")
    reply = pair.ask(stream=stream)
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-gateway-provider"] == pair.slugs[1]
    assert reply.headers["x-gateway-attempts"] == "2"
    assert "x-gateway-fallback" not in reply.headers
    assert pair.second.requests[0].json["model"] == "their-name"
    record = shown(pair.world, reply)
    assert [attempt["provider"] for attempt in record["attempts"]] == list(pair.slugs)
    assert record["attempts"][0]["error"].startswith("http_")
    assert Decimal(before) - Decimal(pair.world.home.balance("alice")) == Decimal(record["charged"]) > 0


def test_s5_13_the_callers_mistake_is_nobody_elses(pair: Pair) -> None:
    pair.first.always(error_reply(400, "bad"))
    assert pair.ask().status_code == 400
    assert pair.seen == (1, 0)


def test_s5_13_an_error_in_the_first_event_of_a_stream_is_a_refusal(pair: Pair) -> None:
    pair.first.always(error_frame("overloaded"))
    reply = pair.ask(stream=True)
    assert reply.status_code == 200
    assert reply.headers["x-gateway-provider"] == pair.slugs[1]
    assert pair.seen == (1, 1)


def test_s5_13_nothing_is_sent_elsewhere_after_the_first_byte(pair: Pair) -> None:
    pair.first.always(truncated_stream())
    reply = pair.ask(stream=True)
    assert reply.status_code == 200
    assert "[DONE]" not in reply.text
    assert pair.seen == (1, 0)


def test_s5_17_what_is_not_answered_is_sent_elsewhere_only_where_the_admin_allows_it(pair: Pair) -> None:
    for answer, status, code in ((stall(), 504, "upstream_timeout"), (hang_up(), 502, "upstream_error")):
        pair.first.script(answer)
        error_of(pair.ask(), status, code)
    assert pair.seen == (2, 0)
    assert pair.ask().status_code == 200
    pair.world.home.ok("providers", "update", pair.slugs[0], "--on-no-answer", "next")
    for answer in (stall(), hang_up()):
        pair.first.script(answer)
        reply = pair.ask()
        assert reply.headers["x-gateway-provider"] == pair.slugs[1]
    assert pair.seen == (5, 2)


# ------------------------------------------------------------------------------------------------ S5-13


def with_fallback(world: World, *options: str, target_group: str = "g1") -> tuple[str, str, str]:
    """(model, its provider, the model that stands in for it, at the provider of `claude` and ten times the price)."""
    slug = world.provider(*options)
    model = world.model(provider=slug)
    target = world.model("--upstream", "cheap", provider="openai", price=("6", "24"), group=target_group)
    world.home.ok("models", "fallback", model, "--to", target)
    return model, slug, target


def down(world: World, model: str) -> None:
    """The upstream refuses one model and serves the others."""
    world.openai.always(lambda request: error_reply(500) if request.json["model"] == model else SERVED)


def test_s5_13_another_model_stands_in_at_its_own_price(world: World) -> None:
    model, _, target = with_fallback(world)
    down(world, model)
    before = Decimal(world.home.balance("alice"))
    reply = world.gateway.chat(world.alice.key, model=model, max_tokens=50)
    assert reply.status_code == 200, reply.text
    assert (reply.headers["x-gateway-fallback"], reply.headers["x-gateway-model"]) == ("true", target)
    assert (reply.headers["x-gateway-attempts"], reply.json()["model"]) == ("2", model)
    record = shown(world, reply)
    assert record["served_model"] == target
    assert [attempt["model"] for attempt in record["attempts"]] == [model, target]
    cost = (100 * Decimal(6) + 10 * Decimal(24)) / 1_000_000
    assert Decimal(record["charged"]) == before - Decimal(world.home.balance("alice")) == cost


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_s5_13_a_pause_and_a_missing_credential_are_reasons_too(world: World, stream: bool) -> None:
    model, slug, target = with_fallback(world)
    world.openai.always(SERVED)
    world.home.ok("providers", "pause", slug)
    reply = world.gateway.chat(world.alice.key, model=model, stream=stream)
    assert (reply.status_code, reply.headers["x-gateway-model"]) == (200, target)
    world.home.ok("providers", "resume", slug)
    world.home.ok("credentials", "disable", f"{slug}/default")
    reply = world.gateway.chat(world.alice.key, model=model, stream=stream)
    assert (reply.status_code, reply.headers["x-gateway-model"], reply.headers["x-gateway-attempts"]) == (200, target, "1")
    world.home.ok("credentials", "enable", f"{slug}/default")
    reply = world.gateway.chat(world.alice.key, model=model, stream=stream)
    assert (reply.status_code, reply.headers["x-gateway-model"]) == (200, model)


def test_s5_13_the_callers_mistake_asks_no_other_model(world: World) -> None:
    model, _, _ = with_fallback(world)
    world.openai.always(error_reply(400, "bad"))
    assert world.gateway.chat(world.alice.key, model=model).status_code == 400
    assert len(world.openai.requests) == 1


def test_s5_13_who_may_not_use_it_or_wants_none_gets_the_error(world: World) -> None:
    hidden, _, _ = with_fallback(world, target_group="g2")
    down(world, hidden)
    error_of(world.gateway.chat(world.alice.key, model=hidden), 502, "upstream_error")
    model, slug, _ = with_fallback(world)
    down(world, model)
    headers = {**world.gateway.headers(world.alice.key), "X-Gateway-Fallback": "false"}
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    error_of(world.gateway.client.post("/v1/chat/completions", json=body, headers=headers), 502, "upstream_error")
    error_of(world.gateway.chat(world.alice.key, model=f"{slug}#{model}"), 502, "upstream_error")


def test_s5_13_a_circle_ends(world: World) -> None:
    model, _, target = with_fallback(world)
    world.home.ok("models", "fallback", target, "--to", model)
    world.openai.always(error_reply(500))
    error_of(world.gateway.chat(world.alice.key, model=model), 502, "upstream_error")
    assert len(world.openai.requests) == 2


def test_s5_13_who_cannot_afford_it_gets_a_shorter_answer_or_the_error(world: World) -> None:
    model, _, target = with_fallback(world)
    down(world, model)
    poor = world.person(balance="0.001")
    error_of(world.gateway.chat(poor.key, model=model, max_tokens=100), 502, "upstream_error")
    assert [request.json["model"] for request in world.openai.requests] == [model]
    reply = world.gateway.chat(poor.key, model=model)
    assert (reply.status_code, reply.headers["x-gateway-model"]) == (200, target)
    assert int(reply.headers["x-gateway-max-tokens"]) < 42  # what 0.001 USD buys at 24 USD a million
    assert world.home.json("ledger", "verify")["ok"]
