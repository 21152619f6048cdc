"""Which deployment and which credential is asked next, by a clock and a chance of our own."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from daemon.domain.admission import candidates
from daemon.domain.breaker import PAUSE_S, TRIP
from daemon.domain.catalog import Catalog, Credential, Provider, make_provider
from daemon.domain.errors import ApiError
from daemon.domain.routing import AGAIN_S, Routes
from db.snapshot import StoredCatalog, StoredDeployment, StoredModel, StoredProvider

STORED = StoredProvider(
    id=1, slug="p1", name="P1", protocol="openai", base_url="https://p1/v1", paused=False, paused_reason=None,
    no_auth=False, auth_header=None, auth_prefix=None, connect_timeout_ms=1, first_byte_timeout_ms=1, read_timeout_ms=1,
    total_timeout_ms=1, max_connections=1, on_disconnect="cancel", include_usage=True, allow_endpoints=(), chat_api="chat",
    rotation="round_robin", on_no_answer="fail", credentials=(),
)  # fmt: skip
MODEL = StoredModel(
    id=1, public_id="gpt", type="chat", enabled=True, private=False, display_name="gpt", description="", created_at=0,
    context_length=None, max_output=None, media_tokens=None, features=frozenset(), input_modalities=("text",),
    output_modalities=("text",), aliases=(), groups=frozenset({1}), deployments=(), prices={"input": 1, "output": 1},
    multipliers={}, service_tiers={}, hosted_tools={},
)  # fmt: skip


@dataclass
class Bench:
    """Routes whose time the test moves. `told` are the openings and closings."""

    now: float = 1000.0
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    told: list[tuple[str, str | None]] = field(default_factory=list)
    routes: Routes = field(init=False)

    def __post_init__(self) -> None:
        self.routes = Routes(lambda: self.now, lambda: int(self.now * 1000), self.chance.random, 1, self._tell)

    def _tell(self, provider: Provider, deployment: StoredDeployment, reason: str | None) -> None:
        self.told.append((provider.stored.slug, reason))

    def fail(self, provider: Provider, deployment: StoredDeployment, times: int = TRIP) -> None:
        for _ in range(times):
            turn = self.routes.begin(provider, deployment, None)
            turn.failed("http_500")
            turn.end()


def provider(number: int = 1, credentials: tuple[Credential, ...] = (), **fields: Any) -> Provider:
    stored = replace(STORED, id=number, slug=f"p{number}", name=f"P{number}", base_url=f"https://p{number}/v1")
    return make_provider(replace(stored, no_auth=not credentials, **fields), credentials)


def secret(number: int, weight: int = 1, **fields: Any) -> Credential:
    return Credential(number, f"c{number}", weight, f"sk-{number}", **fields)


def world(*deployments: tuple[Provider, int, int], **fields: Any) -> tuple[Catalog, StoredModel]:
    """A catalogue with one model: (provider, weight, priority) of each deployment."""
    stored = tuple(StoredDeployment(n, p.stored.id, "gpt", weight, tier) for n, (p, weight, tier) in enumerate(deployments, 1))
    model = replace(MODEL, deployments=stored, **fields)
    providers = {p.stored.id: p for p, _, _ in deployments}
    return Catalog(StoredCatalog(1, tuple(p.stored for p in providers.values()), (model,), {}, {}), providers), model


def order(bench: Bench, catalog: Catalog, model: StoredModel) -> list[str]:
    return [p.stored.slug for p, _ in candidates(catalog, model, None, None, bench.routes)[0]]


def refusal(bench: Bench, catalog: Catalog, model: StoredModel) -> ApiError:
    with pytest.raises(ApiError) as caught:
        candidates(catalog, model, None, None, bench.routes)
    return caught.value


# ------------------------------------------------------------------------------------------ deployments


def test_tiers_come_in_order_and_weights_decide_inside_one() -> None:
    bench = Bench()
    catalog, model = world((provider(1), 3, 0), (provider(2), 1, 0), (provider(3), 100, 1))
    first: Counter[str] = Counter()
    for _ in range(4000):
        found = order(bench, catalog, model)
        assert found[2] == "p3"
        assert set(found) == {"p1", "p2", "p3"}
        first[found[0]] += 1
    assert first["p1"] / 4000 == pytest.approx(0.75, abs=0.02)


def test_the_fastest_is_first_where_the_model_says_so_and_the_unknown_is_measured() -> None:
    bench = Bench()
    slow, fast, unknown = provider(1), provider(2), provider(3)
    catalog, model = world((slow, 100, 0), (fast, 1, 0), (unknown, 1, 0), routing="least_latency")
    for who, deployment, took in ((slow, model.deployments[0], 2.0), (fast, model.deployments[1], 0.5)):
        turn = bench.routes.begin(who, deployment, None)
        bench.now += took
        turn.answered()
        turn.worked()
        turn.end()
    assert order(bench, catalog, model) == ["p3", "p2", "p1"]
    bench.now += 3600
    assert set(order(bench, catalog, model)[:1]) <= {"p1", "p2", "p3"}  # nothing is known of any: all are measured anew


def test_what_is_open_is_left_out_and_the_probe_is_the_first_of_its_tier() -> None:
    bench = Bench()
    dead, fine, spare = provider(1), provider(2), provider(3)
    catalog, model = world((dead, 1, 0), (fine, 1000, 0), (spare, 1, 1))
    bench.fail(dead, model.deployments[0])
    assert bench.told == [("p1", "http_500")]
    assert all(order(bench, catalog, model) == ["p2", "p3"] for _ in range(20))
    bench.now += PAUSE_S
    assert order(bench, catalog, model) == ["p1", "p2", "p3"]
    turn = bench.routes.begin(dead, model.deployments[0], None)
    assert order(bench, catalog, model) == ["p2", "p3"]
    turn.worked()
    turn.failed("told once only")
    turn.end()
    turn.end()
    assert bench.told == [("p1", "http_500"), ("p1", None)]
    assert set(order(bench, catalog, model)) == {"p1", "p2", "p3"}


def test_one_that_hesitates_comes_after_the_tiers_that_do_not() -> None:
    bench = Bench()
    doubtful, spare = provider(1), provider(2)
    catalog, model = world((doubtful, 1, 0), (spare, 1, 1))
    bench.fail(doubtful, model.deployments[0], 1)
    assert order(bench, catalog, model) == ["p1", "p2"]
    turns = [bench.routes.begin(doubtful, model.deployments[0], None) for _ in range(2)]
    assert order(bench, catalog, model) == ["p2", "p1"]
    for turn in turns:
        turn.end()
    assert order(bench, catalog, model) == ["p1", "p2"]


def test_when_all_fail_a_little_none_is_closed_off() -> None:
    bench = Bench()
    one, two = provider(1), provider(2)
    catalog, model = world((one, 1, 0), (two, 1, 0))
    bench.fail(one, model.deployments[0])
    bench.fail(two, model.deployments[1])
    found, alone = candidates(catalog, model, None, None, bench.routes)
    assert alone
    assert len(found) == 2


def test_when_all_are_dead_the_client_hears_when_to_come_back() -> None:
    bench = Bench()
    one, two = provider(1), provider(2)
    catalog, model = world((one, 1, 0), (two, 1, 0))
    bench.fail(one, model.deployments[0], 9)
    bench.fail(two, model.deployments[1], 9)
    bench.now += 10
    error = refusal(bench, catalog, model)
    assert (error.code, error.headers["Retry-After"]) == ("model_unavailable", str(int(PAUSE_S - 10)))


def test_another_address_is_another_deployment() -> None:
    bench = Bench()
    dead, fine = provider(1), provider(2)
    catalog, model = world((dead, 1, 0), (fine, 1, 0))
    bench.fail(dead, model.deployments[0])
    assert order(bench, catalog, model) == ["p2"]
    catalog, model = world((make_provider(replace(dead.stored, base_url="https://new/v1"), ()), 1, 0), (fine, 1, 0))
    assert set(order(bench, catalog, model)) == {"p1", "p2"}


def test_pauses_and_missing_credentials_are_told_when_nothing_passes_by_itself() -> None:
    bench = Bench()
    catalog, model = world((provider(1, (), paused=True), 1, 0))
    assert refusal(bench, catalog, model).code == "provider_paused"
    bare = make_provider(replace(STORED, no_auth=False), ())
    catalog, model = world((bare, 1, 0))
    assert refusal(bench, catalog, model).code == "no_active_api_keys"
    catalog, model = world((bare, 1, 0), (provider(2, (), paused=True), 1, 0))
    assert refusal(bench, catalog, model).code == "provider_paused"


# ------------------------------------------------------------------------------------------ credentials


def names(found: list[Credential | None]) -> list[str]:
    return [one.name if one else "-" for one in found]


def test_credentials_take_turns_by_weight() -> None:
    bench = Bench()
    pool = provider(1, (secret(1, 2), secret(2)))
    first = Counter(names(bench.routes.credentials(pool))[0] for _ in range(300))
    assert first == {"c1": 200, "c2": 100}
    assert all(set(names(bench.routes.credentials(pool))) == {"c1", "c2"} for _ in range(3))
    assert names(bench.routes.credentials(provider(2))) == ["-"]


def test_the_least_busy_is_first_where_the_provider_says_so() -> None:
    bench = Bench()
    one, two = secret(1, 3), secret(2)
    pool = provider(1, (one, two), rotation="least_busy")
    deployment = StoredDeployment(1, 1, "gpt", 1, 0)
    turns = [bench.routes.begin(pool, deployment, one) for _ in range(2)] + [bench.routes.begin(pool, deployment, two)]
    assert names(bench.routes.credentials(pool)) == ["c1", "c2"]  # 2 of 3 against 1 of 1
    for turn in turns:
        turn.end()
        turn.end()
    turns = [bench.routes.begin(pool, deployment, one)]
    assert names(bench.routes.credentials(pool)) == ["c2", "c1"]


def test_a_full_credential_is_left_out() -> None:
    bench = Bench()
    one = secret(1, max_parallel=2)
    pool = provider(1, (one,))
    catalog, model = world((pool, 1, 0))
    turns = [bench.routes.begin(pool, model.deployments[0], one) for _ in range(2)]
    assert bench.routes.credentials(pool) == []
    assert (refusal(bench, catalog, model).code, refusal(bench, catalog, model).headers["Retry-After"]) == ("overloaded", "1")
    turns[0].end()
    assert names(bench.routes.credentials(pool)) == ["c1"]


def test_workers_share_what_a_credential_may_have() -> None:
    bench = Bench()
    bench.routes.workers = 4
    one = secret(1, max_parallel=9)
    pool = provider(1, (one,))
    deployment = StoredDeployment(1, 1, "gpt", 1, 0)
    for _ in range(2):
        assert names(bench.routes.credentials(pool)) == ["c1"]
        bench.routes.begin(pool, deployment, one)
    assert bench.routes.credentials(pool) == []


def test_a_429_rests_a_credential_for_as_long_as_it_says() -> None:
    bench = Bench()
    one, two = secret(1), secret(2)
    pool = provider(1, (one, two))
    catalog, model = world((pool, 1, 0))
    assert bench.routes.rest(pool, one, 30) == 30
    assert all(names(bench.routes.credentials(pool)) == ["c2"] for _ in range(4))
    bench.routes.rest(pool, two, 20)
    error = refusal(bench, catalog, model)
    assert (error.code, error.headers["Retry-After"]) == ("upstream_rate_limited", "20")
    bench.now += 20
    assert names(bench.routes.credentials(pool)) == ["c2"]
    bench.now += 10
    assert set(names(bench.routes.credentials(pool))) == {"c1", "c2"}


def test_a_429_that_says_nothing_rests_longer_each_time() -> None:
    bench = Bench()
    one = secret(1)
    pool = provider(1, (one,))
    assert [bench.routes.rest(pool, one, None) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    bench.routes.accepted(pool, one)
    assert bench.routes.rest(pool, one, None) == 1
    assert bench.routes.rest(pool, one, 10**7) == 3600  # whatever it says


def test_a_provider_without_credentials_rests_too() -> None:
    bench = Bench()
    local = provider(1)
    catalog, model = world((local, 1, 0))
    bench.routes.rest(local, None, 5)
    assert bench.routes.credentials(local) == []
    assert refusal(bench, catalog, model).code == "upstream_rate_limited"
    bench.now += 5
    assert names(bench.routes.credentials(local)) == ["-"]


def test_a_benched_credential_is_tried_by_one_request_after_its_pause() -> None:
    bench = Bench()
    benched = secret(1, probe_at=int((bench.now + 30) * 1000))
    pool = provider(1, (benched, secret(2)))
    deployment = StoredDeployment(1, 1, "gpt", 1, 0)
    assert names(bench.routes.credentials(pool)) == ["c2"]
    bench.now += 30
    assert names(bench.routes.credentials(pool)) == ["c1", "c2"]
    bench.routes.begin(pool, deployment, benched).end()
    assert names(bench.routes.credentials(pool)) == ["c2"]
    bench.now += AGAIN_S  # nothing was heard of that one
    assert names(bench.routes.credentials(pool)) == ["c1", "c2"]
    assert bench.routes.credential(pool) == pool.credentials[0]  # where nobody tells how it went, never a benched one


def test_the_only_credential_benched_is_503_until_it_may_be_tried() -> None:
    bench = Bench()
    pool = provider(1, (secret(1, probe_at=int((bench.now + 30) * 1000)),))
    catalog, model = world((pool, 1, 0))
    assert refusal(bench, catalog, model).code == "no_active_api_keys"
    bench.now += 30
    assert order(bench, catalog, model) == ["p1"]
    assert names(bench.routes.credentials(pool)) == ["c1"]
