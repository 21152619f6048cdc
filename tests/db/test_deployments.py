"""Deployments and fallbacks of models; benched credentials."""

from __future__ import annotations

import os

import pytest

from db import catalog, catalog_file, clock, credentials, deployments, providers, secrets
from db.catalog import NewModel
from db.errors import Conflict, Invalid, NotFound, Refused
from db.models import Credential
from db.prices import NewPrice

FREE = {"input": NewPrice(0), "output": NewPrice(0)}
MASTER = secrets.MasterKeys([os.urandom(32)])


@pytest.fixture(autouse=True)
def offered(database: str) -> None:
    providers.create("openai")
    providers.create("groq")
    for name in ("gpt", "other", "third"):
        catalog.add(NewModel(name, "openai", "", FREE))
    catalog.add(NewModel("words", "openai", "", {"input": NewPrice(0)}, type="embedding"))


def _deployments() -> list[tuple[str, str, int, int, bool]]:
    return [(d.provider, d.upstream, d.weight, d.priority, d.enabled) for d in catalog.show("gpt").deployments]


def test_another_provider_is_added_changed_and_removed() -> None:
    deployments.deploy("gpt", "groq", upstream="their-gpt", priority=1)
    assert _deployments() == [("openai", "gpt", 1, 0, True), ("groq", "their-gpt", 1, 1, True)]
    deployments.deploy("gpt", "groq", weight=5, enabled=False)
    assert _deployments()[1] == ("groq", "their-gpt", 5, 1, False)
    deployments.undeploy("gpt", "groq")
    assert _deployments() == [("openai", "gpt", 1, 0, True)]
    with pytest.raises(NotFound, match="groq does not serve"):
        deployments.undeploy("gpt", "groq")
    with pytest.raises(Refused, match="Nobody else"):
        deployments.undeploy("gpt", "openai")


def test_one_provider_may_serve_it_under_several_names() -> None:
    deployments.deploy("gpt", "openai", upstream="gpt-b", weight=2)
    with pytest.raises(Conflict, match="several names: gpt, gpt-b"):
        deployments.deploy("gpt", "openai", weight=3)
    deployments.deploy("gpt", "openai", upstream="gpt", weight=3)
    assert [row[2] for row in _deployments()] == [3, 2]


@pytest.mark.parametrize("fields", [{"weight": 0}, {"weight": 10**7}, {"priority": -1}, {"priority": 1001}])
def test_numbers_out_of_range(fields: dict[str, int]) -> None:
    with pytest.raises(Invalid):
        deployments.deploy("gpt", "groq", **fields)  # type: ignore[arg-type]
    assert len(_deployments()) == 1


def test_fallbacks_are_kept_in_order_and_lose_what_is_deleted() -> None:
    deployments.set_fallbacks("gpt", ["third", "other", "third"])
    assert catalog.show("gpt").fallbacks == ("third", "other")
    catalog.delete("third")
    assert catalog.show("gpt").fallbacks == ("other",)
    deployments.set_fallbacks("gpt", [])
    assert catalog.show("gpt").fallbacks == ()


@pytest.mark.parametrize(("target", "error"), [("gpt", Invalid), ("words", Invalid), ("nobody", NotFound)])
def test_what_cannot_stand_in(target: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        deployments.set_fallbacks("gpt", ["other", target])
    assert catalog.show("gpt").fallbacks == ()


def test_what_a_worker_leaves_out_is_told() -> None:
    deployments.note_open(1, "http_500")
    [(number, (since, reason))] = deployments.left_out().items()
    assert (number, reason) == (1, "http_500")
    assert since <= clock.now_ms()
    assert catalog.show("gpt").deployments[0].open_reason == "http_500"
    deployments.note_open(1, None)
    assert deployments.left_out() == {}
    deployments.note_open(1, "reset")
    deployments.forget_open()
    assert deployments.left_out() == {}


# ------------------------------------------------------------------------------------------ credentials


def _bench(number: int, *, sent_at: int) -> int | None:
    return credentials.bench(number, "the provider answered 401", sent_at=sent_at)


def _due(number: int) -> None:
    """Its pause is over."""
    Credential.update(probe_at=1).where(Credential.id == number).execute()


def test_a_bench_doubles_until_the_provider_accepts_it_again() -> None:
    number = credentials.add("openai", "sk-0123456789abcdef", MASTER).id
    pauses = []
    for _ in range(9):
        now = clock.now_ms()
        until = _bench(number, sent_at=now)
        assert until is not None
        pauses.append(round((until - now) / 1000))
        assert _bench(number, sent_at=now) is None  # another request of that time
        _due(number)
    assert pauses == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    view = credentials.show("default")
    assert (view.status, view.last_error) == ("benched", "the provider answered 401")
    assert credentials.unbench(number)
    assert not credentials.unbench(number)
    view = credentials.show("default")
    assert (view.status, view.benched_at, view.probe_at) == ("active", None, None)


def test_what_an_admin_disabled_stays_so_and_what_they_enabled_too() -> None:
    number = credentials.add("openai", "sk-0123456789abcdef", MASTER).id
    before = clock.now_ms() - 1
    credentials.set_status("default", "disabled")
    assert _bench(number, sent_at=clock.now_ms()) is None
    assert not credentials.unbench(number)
    assert credentials.show("default").status == "disabled"
    credentials.set_status("default", "active")
    assert _bench(number, sent_at=before) is None  # a request of before says nothing of now
    assert credentials.show("default").status == "active"


def test_another_address_judges_anew() -> None:
    number = credentials.add("openai", "sk-0123456789abcdef", MASTER).id
    _bench(number, sent_at=clock.now_ms())
    providers.update("openai", read_timeout_ms=5)
    assert credentials.show("default").status == "benched"
    providers.update("openai", base_url="https://elsewhere.example/v1")
    assert credentials.show("default").status == "active"


@pytest.mark.parametrize("fields", [{"weight": 0}, {"max_parallel": 0}, {"max_parallel": 10**6}])
def test_shares_out_of_range(fields: dict[str, int]) -> None:
    credentials.add("openai", "sk-0123456789abcdef", MASTER)
    with pytest.raises(Invalid):
        credentials.update("default", **fields)


# ------------------------------------------------------------------------------------------ model_catalog.json


def test_a_catalogue_with_deployments_and_fallbacks_comes_back_as_it_went() -> None:
    deployments.deploy("gpt", "groq", upstream="their-gpt", weight=3, priority=1)
    deployments.set_fallbacks("gpt", ["third", "other"])
    catalog.update("gpt", routing="least_latency")
    before, text = catalog.show("gpt"), catalog_file.export()
    assert {change.action for change in catalog_file.apply(catalog_file.parse(text))} == {"keep"}
    catalog.delete("gpt")
    changes = {change.id: change.action for change in catalog_file.apply(catalog_file.parse(text))}
    assert changes == {"gpt": "add", "other": "keep", "third": "keep", "words": "keep"}
    after = catalog.show("gpt")
    assert (after.deployments, after.fallbacks, after.routing) == (before.deployments, before.fallbacks, before.routing)
    deployments.undeploy("gpt", "openai")
    deployments.set_fallbacks("gpt", [])
    [change] = [one for one in catalog_file.apply(catalog_file.parse(text)) if one.id == "gpt"]
    assert (change.action, change.fields) == ("update", ("deployments", "fallbacks"))
    assert (catalog.show("gpt").deployments, catalog.show("gpt").fallbacks) == (before.deployments, before.fallbacks)


@pytest.mark.parametrize("item", ["{}", '{"provider": "openai"}', '{"provider": "openai", "upstream": "x", "weight": true}'])
def test_a_deployment_of_the_file_that_is_none(item: str) -> None:
    with pytest.raises(Invalid, match="deployments must be"):
        catalog_file.parse('{"version": 1, "models": [{"id": "gpt", "deployments": [' + item + "]}]}")
