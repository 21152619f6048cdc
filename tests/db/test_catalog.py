"""Models: names that clash, prices with a history, and a file that round-trips."""

from __future__ import annotations

import json
from typing import Any

import pytest

from db import audit, catalog, catalog_file, clock, groups, known_models, meters, multipliers, prices, providers, snapshot
from db.errors import Conflict, Invalid, NotFound, Refused, StoreError
from db.prices import NewPrice

FREE = {"input": NewPrice(0), "output": NewPrice(0)}


@pytest.fixture
def ready(database: str) -> str:
    groups.create("everyone", is_default=True)
    providers.create("openai")
    catalog.add(catalog.NewModel("gpt", "openai", "gpt-up", FREE, aliases=("g",)))
    return database


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("name", ["gpt", "GPT", "g", "G"])
def test_a_name_means_one_model_in_whatever_case(name: str) -> None:
    with pytest.raises(Conflict):
        catalog.add(catalog.NewModel(name, "openai", "x", FREE))
    catalog.add(catalog.NewModel("other", "openai", "x", FREE))
    with pytest.raises(Conflict):
        catalog.add_alias(name, "other")


@pytest.mark.parametrize("name", ["", "a#b", "a b", "/a", "a/", "a//b", "x" * 201, "a?b", "a%2f", "é"])
@pytest.mark.usefixtures("ready")
def test_malformed_ids_are_refused(name: str) -> None:
    with pytest.raises(Invalid):
        catalog.add(catalog.NewModel(name, "openai", "x", FREE))


@pytest.mark.usefixtures("ready")
def test_a_new_price_closes_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = prices.history("g")[0].valid_from_at
    monkeypatch.setattr(clock, "now_ms", lambda: begun + 1000)
    catalog.update("gpt", new_prices={"output": NewPrice(7, "test", "2026-01-01"), "cached_input": NewPrice(1)})
    rows = [(row.meter, row.nanos, row.valid_from_at - begun, row.valid_to_at) for row in prices.history("gpt")]
    assert sorted(rows, key=repr) == sorted(
        [
            ("cached_input", 1, 1000, None),
            ("output", 7, 1000, None),
            ("output", 0, 0, begun + 1000),
            ("input", 0, 0, None),
        ],
        key=repr,
    )
    [stored] = snapshot.load().models
    assert stored.prices == {"input": 0, "output": 7, "cached_input": 1}
    entry = audit.entries(1)[0]
    assert entry.before == {"prices": {"output": "0", "cached_input": None}}
    assert entry.after == {"prices": {"output": "0.000000007", "cached_input": "0.000000001"}}


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("nanos", [-1, 2**62 + 1, True, 1.5])
def test_a_price_that_is_no_price_is_refused(nanos: Any) -> None:
    with pytest.raises(Invalid):
        catalog.update("gpt", new_prices={"input": NewPrice(nanos)})


@pytest.mark.usefixtures("ready")
def test_what_a_type_needs_a_price_for() -> None:
    def add(model_type: str, *priced: str) -> None:
        name = f"{model_type}-{'-'.join(priced)}"
        new = {meter: NewPrice(1) for meter in priced}
        catalog.add(catalog.NewModel(name, "openai", "x", new, type=model_type))

    for model_type, priced in (
        ("chat", ()), ("chat", ("input",)), ("chat", ("request",)), ("embedding", ("output",)), ("image", ()),
    ):  # fmt: skip
        with pytest.raises(Refused):
            add(model_type, *priced)
    add("embedding", "input")
    add("image", "image")
    add("audio", "second")
    with pytest.raises(Refused):
        catalog.update("image-image", type="chat", new_prices={"input": NewPrice(1)})
    assert catalog.show("image-image").type == "image"


@pytest.mark.usefixtures("ready")
def test_deleting_a_model_forgets_its_multiplier() -> None:
    multipliers.set_for("model", "gpt", 2_000_000)
    catalog.delete("g")
    assert catalog.add(catalog.NewModel("gpt", "openai", "x", FREE)).multiplier_ppm == 1_000_000
    with pytest.raises(NotFound):
        catalog.show("g")


def test_meters_are_those_of_the_daemon() -> None:
    from daemon.domain.usage import METERS

    assert list(meters.METERS) == list(METERS)
    assert meters.parse_price("input", "0.15") == 150_000_000
    assert meters.parse_price("image", "0.04") == 40_000_000 * 1_000_000
    assert meters.format_price("second", meters.parse_price("second", "0.0001")) == "0.0001"


def test_a_price_may_be_of_one_kind_of_image_or_tool() -> None:
    assert meters.price_key("image/1024x1024/high") == meters.PriceKey(meters.METERS["image"], "1024x1024/high")
    assert meters.price_key("hosted_call/web_search").variant == "web_search"
    assert meters.price_key("input") == meters.PriceKey(meters.METERS["input"])
    assert meters.price_key("cache_write_5m@1000000000") == meters.PriceKey(meters.METERS["cache_write_5m"], above=10**9)
    assert meters.parse_price("input@200000", "6") == meters.parse_price("input", "6")
    keys = ["image/a", "input@2000", "image", "output", "input@300", "input"]
    assert sorted(keys, key=meters.place) == ["input", "input@300", "input@2000", "output", "image", "image/a"]
    assert meters.parse_price("image/1024x1024", "0.04") == meters.parse_price("image", "0.04")
    assert meters.format_price("hosted_call/web_search", 10_000_000 * 1_000_000) == "0.01"


@pytest.mark.parametrize(
    "wrong",
    ["", "nothing", "nothing/x", "input/x", "second/x", "image/", "image//hd", "image/a/b/c", "image/A", "image/a b", "*",
     "image/" + "x" * 35, "image/é", "hosted_call/-x", "input@", "input@0", "input@01", "input@-1", "input@1e5", "input@²",
     "input@1000000001", "image@5", "image/a@5", "input@5/a", "@5"],
)  # fmt: skip
def test_what_is_no_price_key_is_refused(wrong: str) -> None:
    with pytest.raises(Invalid):
        meters.price_key(wrong)


@pytest.mark.usefixtures("ready")
def test_prices_of_variants_are_versioned_exported_and_imported_like_others() -> None:
    texts = {"image": "0.05", "image/1024x1024/high": "0.17", "hosted_call/web_search": "0.01"}
    new = {key: NewPrice(meters.parse_price(key, text)) for key, text in texts.items()}
    catalog.add(catalog.NewModel(public_id="pictures", provider="openai", upstream="p", prices=new, type="image"))
    catalog.update("pictures", new_prices={"image/1024x1024/high": NewPrice(0)})
    exported = json.loads(catalog_file.export())["models"]
    [entry] = [item for item in exported if item["id"] == "pictures"]
    assert entry["prices"] == texts | {"image/1024x1024/high": "0"}
    assert [item.nanos for item in prices.history("pictures") if item.meter == "image/1024x1024/high"] == [
        0, new["image/1024x1024/high"].nanos,
    ]  # fmt: skip
    [change] = catalog_file.apply(catalog_file.parse(_file(entry)))
    assert change.action == "keep"
    catalog_file.apply(catalog_file.parse(_file(entry | {"prices": {"image/512x512": "0.02"}})))
    assert set(catalog.show("pictures").prices) == {"image/512x512"}
    stored = {model.public_id: model for model in snapshot.load().models}
    assert stored["pictures"].prices == {"image/512x512": meters.parse_price("image", "0.02")}


@pytest.mark.usefixtures("ready")
def test_a_price_ends_and_a_step_needs_its_meter() -> None:
    def usd(**texts: str) -> dict[str, NewPrice]:
        return {key: NewPrice(meters.parse_price(key, text)) for key, text in texts.items()}

    view = catalog.update("gpt", new_prices=usd(**{"input@200000": "6", "cached_input": "1", "cached_input@200000": "2"}))
    assert set(view.prices) == {"input", "output", "input@200000", "cached_input", "cached_input@200000"}
    for wrong in ({"without_prices": ["cached_input"]}, {"new_prices": usd(**{"audio_input@5": "1"})}):
        with pytest.raises(Invalid, match="and none for"):
            catalog.update("gpt", **wrong)
    with pytest.raises(Refused):
        catalog.update("gpt", without_prices=["input", "input@200000"])
    with pytest.raises(Invalid):
        catalog.update("gpt", without_prices=["nothing"])
    assert set(catalog.show("gpt").prices) == set(view.prices)
    view = catalog.update("gpt", without_prices=["cached_input@200000", "cached_input", "image"])
    assert set(view.prices) == {"input", "output", "input@200000"}
    assert audit.entries(1)[0].after == {"prices": {"cached_input": None, "cached_input@200000": None}}
    [ended, _, _] = sorted(
        (item for item in prices.history("gpt") if "@" in item.meter or item.meter == "cached_input"),
        key=lambda item: item.meter,
    )
    assert ended.valid_to_at is not None


@pytest.mark.usefixtures("ready")
def test_service_tiers_have_a_factor_that_travels_with_the_model() -> None:
    view = catalog.update("gpt", service_tiers={"priority": 1_750_000, "flex": 500_000})
    assert view.service_tiers == {"flex": 500_000, "priority": 1_750_000}
    [stored] = [model for model in snapshot.load().models if model.public_id == "gpt"]
    assert stored.service_tiers == view.service_tiers
    [entry] = [item for item in json.loads(catalog_file.export())["models"] if item["id"] == "gpt"]
    assert entry["service_tiers"] == {"flex": "0.5", "priority": "1.75"}
    assert [change.action for change in catalog_file.apply(catalog_file.parse(_file(entry)))] == ["keep"]
    catalog_file.apply(catalog_file.parse(_file(entry | {"service_tiers": {"priority": "2"}})))
    assert catalog.show("gpt").service_tiers == {"priority": 2_000_000}
    for wrong in ({"Priority": 1}, {"": 1}, {"a b": 1}, {"x": -1}, {"x": 1000 * 1_000_000 + 1}, {"x": True}, {"x": 1.5}):
        with pytest.raises(Invalid):
            catalog.update("gpt", service_tiers=wrong)
    with pytest.raises(Invalid):
        catalog_file.parse(_file(entry | {"service_tiers": {"priority": "-1"}}))


@pytest.mark.usefixtures("ready")
def test_hosted_tools_travel_with_the_model() -> None:
    assert catalog.update("gpt", hosted_tools={"web_search": 5, "mcp": 0}).hosted_tools == {"mcp": 0, "web_search": 5}
    [stored] = [model for model in snapshot.load().models if model.public_id == "gpt"]
    assert stored.hosted_tools == {"mcp": 0, "web_search": 5}
    [entry] = [item for item in json.loads(catalog_file.export())["models"] if item["id"] == "gpt"]
    assert entry["hosted_tools"] == {"mcp": 0, "web_search": 5}
    assert [change.action for change in catalog_file.apply(catalog_file.parse(_file(entry)))] == ["keep"]
    catalog_file.apply(catalog_file.parse(_file(entry | {"hosted_tools": {}})))
    assert catalog.show("gpt").hosted_tools == {}
    for wrong in (
        {"web_search": "5"},
        {"web_search": True},
        {"web_search": -1},
        {"Web": 1},
        {"web_search": 1001},
        ["web_search"],
    ):
        with pytest.raises(Invalid):
            catalog_file.parse(_file(entry | {"hosted_tools": wrong}))


# The file


def _file(*models: dict[str, Any], **more: Any) -> str:
    return json.dumps({"version": 1, "models": list(models), **more})


NEW = {"id": "new", "provider": "openai", "prices": {"input": "1", "output": "2.5"}}


@pytest.mark.usefixtures("ready")
def test_export_then_import_changes_nothing() -> None:
    catalog.update("gpt", features=["tools"], description="d", multiplier_ppm=1_500_000)
    multipliers.set_for("model", "gpt", 3, "output")
    catalog.add(catalog.NewModel("pics", "openai", "p", {"image": NewPrice(4)}, type="image", private=True))
    text, count = catalog_file.export(), len(audit.entries(1000))
    changes = catalog_file.apply(catalog_file.parse(text), prune=True)
    assert [(change.id, change.action) for change in changes] == [("gpt", "keep"), ("pics", "keep")]
    assert (catalog_file.export(), len(audit.entries(1000))) == (text, count)


@pytest.mark.usefixtures("ready")
def test_import_adds_updates_and_prunes() -> None:
    entries = catalog_file.parse(
        _file({**NEW, "aliases": ["g"], "multiplier": "2", "groups": [], "enabled": False}, {"id": "gpt", "aliases": []})
    )
    before = catalog_file.export()
    planned = catalog_file.apply(entries, dry_run=True)
    assert catalog_file.export() == before
    done = catalog_file.apply(entries)
    assert planned == done
    assert [(change.id, change.action) for change in done] == [("gpt", "update"), ("new", "add")]
    view = catalog.show("g")  # the alias has moved
    assert (view.public_id, view.multiplier_ppm, view.groups, view.enabled) == ("new", 2_000_000, (), False)
    assert view.prices["output"].source == "model_catalog.json"
    gone = catalog_file.apply(catalog_file.parse(_file(NEW)), prune=True)
    assert [(change.id, change.action) for change in gone] == [("gpt", "delete"), ("new", "keep")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 2, "models": []}',
        _file(more=1),
        _file({"provider": "openai"}),
        _file({"id": "a#b"}),
        _file({"id": "a", "prices": {"input": 0.15}}),
        _file({"id": "a", "prices": {"input": "-1"}}),
        _file({"id": "a", "prices": {"input": "NaN"}}),
        _file({"id": "a", "prices": {"input": "1e3"}}),
        _file({"id": "a", "prices": {"tokens": "1"}}),
        _file({"id": "a", "type": "music"}),
        _file({"id": "a", "context_length": 0}),
        _file({"id": "a", "context_length": True}),
        _file({"id": "a", "features": "tools"}),
        _file({"id": "a", "input_modalities": ["smell"]}),
        _file({"id": "a", "multiplier": "-1"}),
        _file({"id": "a", "multiplier": "1001"}),
        _file({"id": "a", "colour": "red"}),
        _file({"id": "a"}, {"id": "A"}),
        _file({"id": "a"}, {"id": "b", "aliases": ["a"]}),
        '{"version": 1, "models": [{"id": "a", "id": "b"}]}',
        '{"version": 1, "models": [{"id": "a", "context_length": NaN}]}',
        "[" * 100_000,
    ],
)
def test_a_malformed_file_is_refused_before_any_write(text: str) -> None:
    with pytest.raises(Invalid):
        catalog_file.parse(text)


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "x", "prices": {"input": "1", "output": "1"}},  # no provider
        {"id": "x", "provider": "nowhere", "prices": {"input": "1", "output": "1"}},
        {"id": "x", "provider": "openai", "prices": {"input": "1"}},
        {"id": "x", "provider": "openai"},
        {"id": "gpt", "prices": {}},
        {"id": "gpt", "groups": ["nowhere"]},
    ],
)
def test_an_import_is_all_or_nothing(wrong: dict[str, Any]) -> None:
    before, count = catalog_file.export(), len(audit.entries(1000))
    for dry_run in (True, False):
        with pytest.raises(StoreError):
            catalog_file.apply(catalog_file.parse(_file(NEW, wrong)), dry_run=dry_run)
    assert (catalog_file.export(), len(audit.entries(1000))) == (before, count)


# What is known


def test_known_models_come_with_exact_prices_and_where_they_are_from() -> None:
    found = known_models.find("gpt-4o-mini", provider_slug="openai", base_url="http://127.0.0.1:9/v1")
    assert found is not None
    assert (found.prices["input"], found.prices["output"]) == (150_000_000, 600_000_000)
    assert (found.context_length, found.type) == (128_000, "chat")
    assert found.source.startswith("genai-prices ")
    assert len(found.source_date) == 10
    by_address = known_models.find("gpt-4o-mini", provider_slug="mine", base_url="https://api.openai.com/v1")
    assert by_address is not None
    assert by_address.prices == found.prices


@pytest.mark.parametrize(
    ("slug", "name"),
    [("openai", "gpt-4o-mini-2"), ("openai", "nonsense"), ("mine", "gpt-4o-mini"), ("ollama", "llama3"), ("demo", "x")],
)
def test_nothing_is_guessed(slug: str, name: str) -> None:
    assert known_models.find(name, provider_slug=slug) is None


def test_known_types_and_units() -> None:
    embedding = known_models.find("text-embedding-3-small", provider_slug="openai")
    speech = known_models.find("whisper-1", provider_slug="openai")
    assert embedding is not None
    assert speech is not None
    assert (embedding.type, set(embedding.prices)) == ("embedding", {"input"})
    image = known_models.find("gpt-image-1", provider_slug="openai")
    assert image is not None
    assert image.prices["image_input"] > image.prices["input"]
    searching = known_models.find("gpt-4o", provider_slug="openai")
    assert searching is not None
    assert meters.format_price("hosted_call/web_search", searching.prices["hosted_call/web_search"]) == "0.01"
    assert (speech.type, meters.format_price("second", speech.prices["second"])) == ("audio", "0.0001")
    rising = known_models.find("gemini-2.5-pro", provider_slug="gemini")
    assert rising is not None
    assert rising.prices["input@200000"] > rising.prices["input"]
    assert {key.partition("@")[0] for key in rising.prices if "@" in key} == {"input", "cached_input", "output"}
    assert not any("200000" in note for note in rising.notes)
    short = known_models.find("claude-sonnet-4-5", provider_slug="anthropic")
    assert short is not None
    assert not any("@" in key for key in short.prices)  # its window does not reach the step
