"""Providers and credentials: addresses, presets, reserved words, encryption bound to the row."""

from __future__ import annotations

import os

import pytest

from db import catalog, credentials, presets, providers, snapshot
from db.errors import Conflict, Invalid, NotFound, Refused
from db.models import Credential
from db.names import RESERVED_SLUGS, check_slug
from db.prices import NewPrice
from db.secrets import MasterKeys

FREE = {"input": NewPrice(0), "output": NewPrice(0)}


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("slug", presets.PRESETS)
def test_a_preset_needs_nothing_else(slug: str) -> None:
    view = providers.create(slug)
    assert view.protocol == presets.PRESETS[slug].protocol
    assert view.base_url == presets.PRESETS[slug].base_url
    assert view.no_auth == presets.PRESETS[slug].no_auth
    assert view.chat_api == presets.PRESETS[slug].chat_api


@pytest.mark.usefixtures("database")
def test_which_of_openais_apis_a_provider_speaks() -> None:
    local = {"protocol": "openai", "base_url": "https://h/v1"}
    assert providers.create("local", **local).chat_api == "chat"
    assert providers.create("newer", **local, chat_api="responses").chat_api == "responses"
    assert providers.create("groq", chat_api="chat").chat_api == "chat"
    # The preset's word is about the preset's address only.
    assert providers.create("openai", base_url="https://h/v1").chat_api == "chat"
    assert providers.update("local", chat_api="both").chat_api == "both"
    assert {provider.slug: provider.chat_api for provider in snapshot.load().providers} == {
        "local": "both", "newer": "responses", "groq": "chat", "openai": "chat",
    }  # fmt: skip
    with pytest.raises(Invalid, match="chat, responses, both"):
        providers.update("local", chat_api="completions")


def test_presets_have_distinct_names_and_valid_addresses() -> None:
    names = [item.name.lower() for item in presets.PRESETS.values()]
    assert len(set(names)) == len(names)
    for item in presets.PRESETS.values():
        check_slug(item.slug)
        if item.base_url:
            assert providers.check_base_url(item.base_url) == item.base_url


@pytest.mark.parametrize("slug", [*sorted(RESERVED_SLUGS), "", "A", "a_b", "-a", "a/b", "x" * 41, "é"])
def test_reserved_and_malformed_slugs_are_refused(slug: str) -> None:
    with pytest.raises(Invalid):
        check_slug(slug)


def test_base_urls() -> None:
    assert providers.check_base_url(" https://h.example/v1// ") == "https://h.example/v1"
    assert providers.check_base_url("http://[::1]:8080") == "http://[::1]:8080"
    for bad in (
        "", "h.example", "ftp://h", "https://", "https://u:p@h", "https://u@h", "https://h?x=1", "https://h#f",
        "https://h/a b", "https://h:0", "https://h:99999", "https://h:x", "https://h/a\nb", "javascript:alert(1)",
    ):  # fmt: skip
        with pytest.raises(Invalid):
            providers.check_base_url(bad)
    assert providers.is_plain_http("http://10.0.0.1/v1")
    assert not any(map(providers.is_plain_http, ("https://h", "http://127.0.0.1:1", "http://localhost/v1")))


@pytest.mark.usefixtures("database")
def test_a_display_name_means_one_provider() -> None:
    providers.create("openai")
    with pytest.raises(Conflict):
        providers.create("other", protocol="openai", base_url="https://h", name="openAI")
    assert providers.create("claude", protocol="anthropic", base_url="https://h").name == "Claude"
    assert providers.create("anthropic").name == "anthropic"  # 'Claude' is taken
    with pytest.raises(Conflict):
        providers.update("claude", name="OpenAI")
    with pytest.raises(Invalid):
        providers.update("claude", name="a#b")


@pytest.mark.usefixtures("database")
def test_unknown_providers_need_protocol_and_address() -> None:
    for fields in ({}, {"protocol": "openai"}, {"protocol": "smtp", "base_url": "https://h"}):
        with pytest.raises(Invalid):
            providers.create("mine", **fields)
    demo = providers.create("pretend", protocol="demo")
    assert (demo.base_url, demo.no_auth) == ("", True)


@pytest.mark.usefixtures("database")
def test_a_provider_that_serves_models_is_not_deleted() -> None:
    providers.create("openai")
    catalog.add(catalog.NewModel("m", "openai", "m", FREE))
    with pytest.raises(Refused, match="m"):
        providers.delete("openai")
    providers.create("groq")
    catalog.update("m", provider="groq", upstream="other")
    providers.delete("openai")
    assert catalog.show("m").deployments[0].provider == "groq"


@pytest.mark.usefixtures("database")
def test_pause_and_resume() -> None:
    providers.create("openai")
    paused = providers.pause("openai", "invoice open")
    assert (paused.status, paused.paused_reason) == ("paused", "invoice open")
    assert paused.paused_at is not None
    resumed = providers.resume("openai")
    assert (resumed.status, resumed.paused_reason, resumed.paused_at) == ("active", None, None)


def test_endpoints_that_may_pass() -> None:
    assert providers.check_endpoint("post fine_tuning/jobs") == "POST fine_tuning/jobs"
    for bad in ("", "POST", "fetch x", "GET a b", "GET a?b", "GET ../x"):
        with pytest.raises(Invalid):
            providers.check_endpoint(bad)


@pytest.mark.usefixtures("database")
def test_a_credential_decrypts_only_in_its_own_row_and_with_its_key() -> None:
    old, new = os.urandom(32), os.urandom(32)
    keys = MasterKeys([old])
    providers.create("openai")
    for name in ("a", "b"):
        credentials.add("openai", f"sk-0123456789-{name}", keys, name=name)
    assert credentials.reveal_one("openai", keys) == "sk-0123456789-a"
    first, second = (bytes(row.secret) for row in Credential.select().order_by(Credential.id))
    assert b"0123456789" not in first + second
    Credential.update(secret=second).where(Credential.name == "a").execute()
    with pytest.raises(Invalid, match="damaged"):
        credentials.reveal_one("openai", keys)
    Credential.update(secret=first).where(Credential.name == "a").execute()
    with pytest.raises(Invalid, match="another master key"):
        credentials.reveal_one("openai", MasterKeys([new]))
    rotated = MasterKeys([new, old])
    assert credentials.reencrypt(rotated) == 2
    assert credentials.reencrypt(rotated) == 0
    assert credentials.reveal_one("openai", MasterKeys([new])) == "sk-0123456789-a"


@pytest.mark.usefixtures("database")
def test_credentials_are_named_by_number_or_provider_and_name() -> None:
    keys = MasterKeys([os.urandom(32)])
    for slug in ("openai", "groq"):
        providers.create(slug)
        credentials.add(slug, "sk-0123456789abc", keys, name="ci")
    assert credentials.show("1").provider == "openai"
    assert credentials.show("groq/ci").id == 2
    with pytest.raises(Conflict) as caught:
        credentials.show("ci")
    assert "groq/ci, openai/ci" in caught.value.hint
    with pytest.raises(NotFound):
        credentials.show("openai/other")
    credentials.set_status("openai/ci", "disabled")
    assert credentials.reveal_one("openai", keys) is None
    assert providers.show("openai").credentials == 0
    for bad in ("", "a\nb", "é"):
        with pytest.raises(Invalid):
            credentials.add("openai", bad, keys, name="x")
