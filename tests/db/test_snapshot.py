"""The catalogue in memory, and the versions by which every change of an admin is noticed on the next request."""

from __future__ import annotations

import ast
import inspect
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import pytest

from db import (
    catalog,
    catalog_file,
    clock,
    credentials,
    deployments,
    engine,
    groups,
    identity,
    keys,
    multipliers,
    prices,
    providers,
    secrets,
    snapshot,
    users,
)
from db.catalog import NewModel
from db.errors import StoreError
from db.identity import Identity
from db.models import Deployment, KeySecret, User
from db.models import database as bound
from db.prices import NewPrice
from db.snapshot import StoredCatalog
from tests.support.threads import together

NOUNS = (users, groups, keys, providers, credentials, catalog, deployments, prices, multipliers, catalog_file)
OLD_MASTER, MASTER = secrets.MasterKeys([os.urandom(32)]), secrets.MasterKeys([os.urandom(32)])
BOTH = secrets.MasterKeys([next(iter(MASTER._keys.values())), next(iter(OLD_MASTER._keys.values()))])
FREE = {"input": NewPrice(0), "output": NewPrice(0)}


def _build() -> None:
    """A bit of everything: two users with a key each, in a group that may call a model with an alias."""
    groups.create("everyone", is_default=True)
    groups.create("beta")
    providers.create("openai")
    credentials.add("openai", "sk-0123456789abcdef", OLD_MASTER)
    catalog.add(NewModel("gpt", "openai", "gpt-upstream", {"input": NewPrice(5), "output": NewPrice(7)}, aliases=("g",)))
    catalog.add(NewModel("other", "openai", "", FREE))
    for name in ("alice", "bob"):
        users.create(name, groups=["beta"])
        keys.create(name, budget_nanos=100)
    multipliers.set_for("user", "alice", 2_000_000, "output")


@pytest.fixture
def own_world(database: str) -> None:
    """That, in a database of the test's own."""
    _build()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """That, once for all tests of this file on each backend."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("world") / "gateway.db"
        shutil.copyfile(request.getfixturevalue("_sqlite_template"), path)
        url = f"sqlite:///{path}"
    else:
        url = request.getfixturevalue("postgres").lend(request.getfixturevalue("_postgres_template"))
    engine.open_database(url)
    _build()
    engine.close_connection()
    yield url
    if request.param == "postgresql":
        request.getfixturevalue("postgres").take_back(url)


@pytest.fixture
def world(built: str) -> Iterator[None]:
    """That, inside a transaction that is undone after the test."""
    engine.open_database(built)
    with bound.atomic() as transaction:
        yield
        transaction.rollback(begin=False)
        bound.begin()
    engine.close_connection()


def _entry(**fields: Any) -> list[catalog_file.Entry]:
    return [catalog_file.Entry("gpt", {"id": "gpt", **fields}, None, None)]


# Every change that an admin can make, by module and function: what it does, and whose versions must rise:
# c the catalogue's, a alice's, b bob's. Alice has key 1, bob has key 2.
CHANGES: dict[str, list[tuple[Callable[[], object], str]]] = {
    "users.create": [(lambda: users.create("carol"), "")],  # nobody can know a user who was not there
    "users.update": [
        (lambda: users.update("alice", rpm=5), "a"),
        (lambda: users.update("alice", multiplier_ppm=5), "a"),
        (lambda: users.update("alice", credit_limit_nanos=5), "a"),
    ],
    "users.set_status": [(lambda: users.set_status("alice", "suspended"), "a")],
    "users.delete": [(lambda: users.delete("alice"), "a")],
    "groups.create": [(lambda: groups.create("gamma", multiplier_ppm=5), "c")],
    "groups.update": [(lambda: groups.update("beta", fair_use_limit=5), "ab")],
    "groups.delete": [(lambda: groups.delete("beta"), "cab")],
    "groups.add_user": [(lambda: (groups.create("gamma"), groups.add_user("gamma", "alice")), "ca")],
    "groups.remove_user": [(lambda: groups.remove_user("beta", "alice"), "a")],
    "groups.allow": [(lambda: groups.allow("beta", ["g"]), "c")],
    "groups.deny": [(lambda: groups.deny("everyone", ["gpt"]), "c")],
    "keys.create": [(lambda: keys.create("alice"), "a")],
    "keys.rotate": [(lambda: keys.rotate("1", grace_ms=5000), "a"), (lambda: keys.rotate("1", grace_ms=0), "a")],
    "keys.update": [
        (lambda: keys.update("1", models=["g"]), "a"),
        (lambda: keys.update("1", budget_nanos=None), "a"),
        (lambda: keys.update("1", expires_at=clock.now_ms() + 10_000), "a"),
    ],
    "keys.set_status": [(lambda: keys.set_status("1", "disabled"), "a"), (lambda: keys.set_status("1", "revoked"), "a")],
    "providers.create": [(lambda: providers.create("groq"), "c")],
    "providers.update": [(lambda: providers.update("openai", read_timeout_ms=5), "c")],
    "providers.pause": [(lambda: providers.pause("openai", "holidays"), "c")],
    "providers.resume": [(lambda: (providers.pause("openai"), providers.resume("openai")), "c")],
    "providers.delete": [(lambda: (providers.create("groq"), providers.delete("groq")), "c")],
    "credentials.add": [(lambda: credentials.add("openai", "sk-fedcba9876543210", MASTER, name="second"), "c")],
    "credentials.set_status": [(lambda: credentials.set_status("default", "disabled"), "c")],
    "credentials.delete": [(lambda: credentials.delete("default"), "c")],
    "credentials.reencrypt": [(lambda: credentials.reencrypt(BOTH), "c")],
    "credentials.update": [(lambda: credentials.update("default", weight=3, max_parallel=5), "c")],
    "credentials.bench": [(lambda: credentials.bench(1, "refused", sent_at=clock.now_ms()), "c")],
    "credentials.unbench": [
        (lambda: credentials.unbench(1), ""),  # it was not benched
        (lambda: (credentials.bench(1, "refused", sent_at=clock.now_ms()), credentials.unbench(1)), "c"),
    ],
    "deployments.deploy": [
        (lambda: deployments.deploy("gpt", "openai", weight=3), "c"),
        (lambda: deployments.deploy("gpt", "openai", upstream="gpt-2", priority=1), "c"),
    ],
    "deployments.undeploy": [
        (lambda: (deployments.deploy("gpt", "openai", upstream="b"), deployments.undeploy("gpt", "openai", upstream="b")), "c")
    ],
    "deployments.set_fallbacks": [(lambda: deployments.set_fallbacks("gpt", ["other"]), "c")],
    "deployments.forget_open": [(lambda: (deployments.note_open(1, "x"), deployments.forget_open()), "")],
    "deployments.note_open": [(lambda: deployments.note_open(1, "http_500"), "")],  # for people to read; decides nothing
    "catalog.add": [(lambda: catalog.add(NewModel("new", "openai", "", FREE)), "c")],
    "catalog.update": [
        (lambda: catalog.update("gpt", max_output=5), "c"),
        (lambda: catalog.update("gpt", new_prices={"input": NewPrice(6)}), "c"),
        (lambda: catalog.update("gpt", multiplier_ppm=5), "c"),
        (lambda: catalog.update("gpt", upstream="gpt-2"), "c"),
        (lambda: (providers.create("groq"), catalog.update("gpt", provider="groq")), "c"),
    ],
    "catalog.set_enabled": [(lambda: catalog.set_enabled("gpt", False), "c")],
    "catalog.delete": [(lambda: catalog.delete("gpt"), "c")],
    "catalog.add_alias": [(lambda: catalog.add_alias("h", "gpt"), "c")],
    "catalog.remove_alias": [(lambda: catalog.remove_alias("g"), "c")],
    "multipliers.set_for": [
        (lambda: multipliers.set_for("user", "bob", 5), "b"),
        (lambda: multipliers.set_for("group", "beta", 5), "c"),
        (lambda: multipliers.set_for("model", "gpt", 5, "output"), "c"),
    ],
    "multipliers.unset": [
        (lambda: multipliers.unset("user", "alice", "output"), "a"),
        (lambda: (multipliers.set_for("model", "gpt", 5), multipliers.unset("model", "gpt")), "c"),
    ],
    "catalog_file._apply": [
        (lambda: catalog_file.apply(_entry(display_name="GPT")), "c"),
        (lambda: catalog_file.apply(_entry(aliases=[])), "c"),
        (lambda: catalog_file.apply(_entry(groups=["beta"])), "c"),
        (lambda: catalog_file.apply([catalog_file.Entry("gpt", {"id": "gpt"}, {"input": 9, "output": 9}, {"*": 5})]), "c"),
        (lambda: catalog_file.apply(_entry(), prune=True), "c"),
    ],
}
CASES = [(name, number) for name, calls in CHANGES.items() for number in range(len(calls))]


@dataclass(frozen=True)
class Known:
    """What a daemon could have in memory."""

    catalog: StoredCatalog
    identities: dict[str, Identity]

    @classmethod
    def now(cls) -> Known:
        public_ids = [row.public_id for row in KeySecret.select()]
        return cls(snapshot.load(), {public_id: identity.find(public_id) for public_id in public_ids})


def _versions(name: str) -> int:
    """Of a user who may have another name by now."""
    return int(User.get(User.name.endswith(name)).version)


@pytest.mark.parametrize(("name", "number"), CASES)
def test_every_change_is_noticed(world: None, name: str, number: int) -> None:
    change, expected = CHANGES[name][number]
    before, versions = Known.now(), {user: _versions(user) for user in ("alice", "bob")}
    change()
    after = Known.now()
    risen = "c" * (after.catalog.version > before.catalog.version)
    risen += "".join(user[0] for user, version in versions.items() if _versions(user) > version)
    assert risen == expected
    # And whatever the table above says: what is different has another version.
    if replace(after.catalog, version=0) != replace(before.catalog, version=0):
        assert after.catalog.version > before.catalog.version
    for public_id, found in before.identities.items():
        later = after.identities[public_id]
        if replace(later, user_version=0) != replace(found, user_version=0):
            assert later.user_version > found.user_version


def _writing_functions(module: ModuleType) -> set[str]:
    """Names of the functions that run in a transaction of their own."""
    noun = module.__name__.removeprefix("db.")
    return {
        f"{noun}.{node.name}"
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(mark, ast.Name) and mark.id == "transaction" for mark in node.decorator_list)
    }


def test_no_change_is_forgotten_here() -> None:
    """A new function that writes needs a line in CHANGES."""
    assert set().union(*(_writing_functions(module) for module in NOUNS)) == set(CHANGES)


REFUSED: tuple[Callable[[], object], ...] = (
    lambda: users.update("alice", rpm=-5),
    lambda: users.create("alice"),
    lambda: groups.allow("beta", ["gpt", "nothing"]),
    lambda: keys.update("1", budget_nanos=-5),
    lambda: providers.delete("openai"),
    lambda: catalog.add(NewModel("new", "openai", "", {"input": NewPrice(1)})),
    lambda: catalog.update("gpt", max_output=5, new_prices={}, replace_prices=True),
    lambda: catalog_file.apply([*_entry(display_name="GPT"), catalog_file.Entry("new", {"id": "new"}, None, None)]),
)


def test_what_is_refused_changes_nothing(own_world: None) -> None:
    before = Known.now()
    for change in REFUSED:
        with pytest.raises(StoreError):
            change()
        assert Known.now() == before
    catalog_file.apply(_entry(display_name="GPT"), dry_run=True)
    assert Known.now() == before


def test_a_catalogue_in_full(world: None) -> None:
    catalog.add(NewModel(
        "full", "openai", "full-1", {"input": NewPrice(5), "output": NewPrice(7), "image": NewPrice(9)}, private=True,
        display_name="Full", description="d", context_length=10, max_output=20, media_tokens=30, features=("tools",),
        input_modalities=("text", "image"), aliases=("z", "y"), groups=("beta",), multiplier_ppm=3_000_000,
    ))  # fmt: skip
    multipliers.set_for("group", "beta", 1_500_000, "input")
    providers.update("openai", allow_endpoints=["POST files"], auth_header="x-api-key", include_usage=False)
    providers.pause("openai", "tired")
    found = snapshot.load()
    [provider] = found.providers
    assert (provider.slug, provider.protocol, provider.paused, provider.paused_reason) == ("openai", "openai", True, "tired")
    assert (provider.allow_endpoints, provider.auth_header, provider.include_usage) == (("POST files",), "x-api-key", False)
    [credential] = provider.credentials
    assert OLD_MASTER.decrypt(credential.ciphertext, purpose="credential", row=f"credentials:{credential.id}:secret")
    assert "ciphertext" not in repr(credential)
    assert [model.public_id for model in found.models] == ["full", "gpt", "other"]
    model = found.models[0]
    names = {number: name for number, name in found.group_names.items() if number in model.groups}
    assert set(names.values()) == {"beta"}
    assert found.group_multipliers == {next(iter(names)): {"input": 1_500_000}}
    assert (model.prices, model.multipliers, model.aliases) == (
        {"input": 5, "output": 7, "image": 9},
        {"*": 3_000_000},
        ("y", "z"),
    )
    assert (model.private, model.enabled, model.features, model.input_modalities) == (
        True, True, frozenset({"tools"}), ("text", "image"),
    )  # fmt: skip
    assert (model.context_length, model.max_output, model.media_tokens) == (10, 20, 30)
    assert [(one.upstream_name, one.provider_id) for one in model.deployments] == [("full-1", provider.id)]


def test_only_prices_in_force_and_enabled_deployments(world: None) -> None:
    catalog.update("gpt", new_prices={"input": NewPrice(50)})
    Deployment.update(enabled=0).execute()
    model = next(model for model in snapshot.load().models if model.public_id == "gpt")
    assert (model.prices, model.deployments) == ({"input": 50, "output": 7}, ())


def _after_each_statement(look: Callable[[], Any], change: Callable[[], object]) -> list[tuple[Any, int]]:
    """`look` repeated, with `change` done by somebody else after its first, its second … statement."""
    execute = bound.obj.execute_sql
    found = []
    for position in range(1, 12):
        seen = []

        def spying(text: str, values: Any = None, position: int = position, seen: list[str] = seen) -> Any:
            cursor = execute(text, values)
            seen.append(text)
            if len(seen) == position:
                bound.obj.execute_sql = execute
                together([change])
                bound.obj.execute_sql = spying
            return cursor

        bound.obj.execute_sql = spying
        try:
            found.append((look(), len(seen)))
        finally:
            del bound.obj.execute_sql
    return found


def test_a_change_meanwhile_makes_a_catalogue_stale_never_wrong(own_world: None) -> None:
    """The version is read first: whatever else is seen belongs to it or to a later one."""
    for found, statements in _after_each_statement(snapshot.load, lambda: catalog.add_alias(f"x{os.urandom(4).hex()}", "gpt")):
        assert statements <= 11
        if found.version == snapshot.load().version:
            assert found == snapshot.load()


def test_a_change_meanwhile_makes_an_identity_stale_never_wrong(own_world: None) -> None:
    public_id = KeySecret.get(KeySecret.key == 1).public_id
    ppm = iter(range(1, 100))
    for found, _ in _after_each_statement(
        lambda: identity.find(public_id), lambda: multipliers.set_for("user", "alice", next(ppm))
    ):
        if found.user_version == identity.find(public_id).user_version:
            assert found == identity.find(public_id)
