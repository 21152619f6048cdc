"""gatewayctl models: public names, prices, limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import typer

from db import money
from db.prices import NewPrice
from gatewayctl import context, output, parse, shapes
from gatewayctl.commands._shared import IF_NOT_EXISTS, YES, create_or_existing, given
from gatewayctl.errors import Usage

app = typer.Typer()
ID = typer.Argument(..., metavar="ID", help="Model id or alias.")
COLUMNS = ("id", "type", "provider", "enabled", "prices", "multiplier", "context_length", "aliases", "groups")
TYPES = "chat|embedding|image|audio|rerank|moderation"

PRICE = typer.Option(
    [],
    metavar="METER=USD",
    help="Per million tokens; per one image, character, second, request, hosted_call. Of one kind of image or tool: "
    "image/1024x1024/high=USD, hosted_call/web_search=USD. Of requests with more input tokens: input@200000=USD. 0 is free, "
    "none (update) ends it. Repeat.",
)
INPUT_PRICE = typer.Option(None, metavar="X", help="USD per million input tokens.")
OUTPUT_PRICE = typer.Option(None, metavar="X", help="USD per million output tokens.")
CACHED_PRICE = typer.Option(None, metavar="X", help="USD per million input tokens read from a cache.")
MULTIPLIER = typer.Option(None, metavar="X", help="Factor on the model's prices.")
CONTEXT = typer.Option(None, metavar="N", help="Context window in tokens.")
MAX_OUTPUT = typer.Option(None, metavar="N", help="Most output tokens of one answer.")
MEDIA_TOKENS = typer.Option(None, metavar="N", help="Tokens to hold for one image or file of a request.")
DISPLAY = typer.Option(None, metavar="T", help="Name for people.")
DESCRIPTION = typer.Option(None, metavar="T", help="A sentence or two.")
FEATURE = typer.Option([], metavar="F", help="tools, json_mode, vision, reasoning, stored_responses …; repeat.")
MODALITY = typer.Option([], metavar="M", help="text, image, audio, video or file as input; repeat.")
TIER = typer.Option(
    [],
    metavar="TIER=X",
    help="Factor on the price of tokens in a service tier: priority=1.75; none (update) forgets it. Repeat.",
)
HOSTED_TOOL = typer.Option(
    [],
    metavar="TOOL=N",
    help="A tool that the provider runs, and its most calls in one request; none (update) forbids it. Repeat.",
)
ROUTING = typer.Option(None, metavar="weighted|least_latency", help="Whose turn it is among deployments of one priority.")
STREAMING = typer.Option(None, "--streaming/--no-streaming", help="Whether it can stream.")


def _show(view: Any) -> None:
    output.record(shapes.model(view))


def _written_prices(
    price: list[str], input_price: str | None, output_price: str | None, cached_input_price: str | None
) -> tuple[dict[str, NewPrice], list[str]]:
    """(prices by key, keys whose price ends)."""
    from db.meters import parse_price

    named = {"input": input_price, "output": output_price, "cached_input": cached_input_price}
    texts = given(**named)
    for meter, text in parse.pairs(price, "--price").items():
        if meter in texts:
            raise Usage(f"The price of {meter} is given twice", "Give it once")
        texts[meter] = text
    ended = [key for key, text in texts.items() if text == "none"]
    return {key: NewPrice(parse_price(key, text)) for key, text in texts.items() if key not in ended}, ended


def _say(known: Any, used: dict[str, NewPrice]) -> None:
    from db.meters import format_price, price_key

    taken = [
        f"{key} {format_price(key, price.nanos)}/{'M ' if price_key(key).meter.per_million else ''}{price_key(key).meter.unit}"
        for key, price in used.items()
        if price.source == known.source
    ]
    if taken:
        output.note(f"Price: {', '.join(taken)} USD. Source: {known.source}, taken {known.source_date}.")
        for text in known.notes:
            output.note(f"  Note: {text}.")


@app.command()
def add(
    model_id: str = typer.Argument(..., metavar="ID", help="The public name."),
    provider: str = typer.Option(..., metavar="SLUG", help="Who serves it."),
    upstream: str | None = typer.Option(None, metavar="NAME", help="The provider's name for it; default: ID."),
    type_: str | None = typer.Option(None, "--type", metavar=TYPES, help="Default: chat, or as known."),
    price: list[str] = PRICE,
    input_price: str | None = INPUT_PRICE,
    output_price: str | None = OUTPUT_PRICE,
    cached_input_price: str | None = CACHED_PRICE,
    multiplier: str | None = MULTIPLIER,
    context_length: int | None = CONTEXT,
    max_output: int | None = MAX_OUTPUT,
    media_tokens: int | None = MEDIA_TOKENS,
    display_name: str | None = DISPLAY,
    description: str | None = DESCRIPTION,
    feature: list[str] = FEATURE,
    streaming: bool | None = STREAMING,
    modality: list[str] = MODALITY,
    tier: list[str] = TIER,
    hosted_tool: list[str] = HOSTED_TOOL,
    routing: str = typer.Option("weighted", metavar="weighted|least_latency", help="Among deployments of one priority."),
    alias: list[str] = typer.Option([], metavar="NAME", help="Another name for it; repeat."),
    private: bool = typer.Option(False, "--private", help="Granted to no group, not in the public list."),
    group: list[str] = typer.Option([], metavar="G", help="Only these groups may call it; default: the default groups."),
    if_not_exists: bool = IF_NOT_EXISTS,
) -> None:
    """Offer a model. Prices and limits of well-known models are filled in; what was taken is shown.

    Example: gatewayctl models add gpt-4o-mini --provider openai

    Example: gatewayctl models add my-llama --provider local --upstream llama-3 --input-price 0.10 --output-price 0.40
    """
    from db import catalog, known_models, meters, providers

    context.open_database()
    owner = providers.show(provider)
    written, ended = _written_prices(price, input_price, output_price, cached_input_price)
    if ended:
        raise Usage(f"A new model has no price of {ended[0]} to end", "Leave it away")
    upstream_name = upstream or model_id
    known = known_models.find(upstream_name, provider_slug=owner.slug, base_url=owner.base_url)
    model_type = type_ or (known.type if known else "chat")
    prices = dict(written)
    lacking = meters.missing(model_type, set(written)) if model_type in meters.REQUIRED else ()
    if known is not None and lacking:
        # Only what is lacking: who writes prices means those. Without any, everything that is known.
        wanted = set(lacking) if written and lacking != ("any",) else set(known.prices)
        prices |= {
            key: NewPrice(nanos, known.source, known.source_date)
            for key, nanos in known.prices.items()
            if key.partition("@")[0] in wanted and key not in written
        }
    features = list(feature or known_models.features_of(upstream_name, model_type))
    if streaming is not None:
        features = _with_streaming(features, streaming)
    model = catalog.NewModel(
        public_id=model_id,
        provider=owner.slug,
        upstream=upstream_name,
        prices=prices,
        type=model_type,
        private=private,
        display_name=display_name or (known.display_name if known and upstream is None else model_id),
        description=description or "",
        context_length=context_length or (known.context_length if known else None),
        max_output=max_output or (known.max_output if known else None),
        media_tokens=media_tokens,
        features=features,
        input_modalities=modality or (known.input_modalities if known else ("text",)),
        output_modalities=known.output_modalities if known else ("text",),
        aliases=alias,
        groups=group or None,
        multiplier_ppm=None if multiplier is None else money.parse_multiplier(multiplier),
        service_tiers=_merged({}, tier, "--tier", money.parse_multiplier),
        hosted_tools=_merged({}, hosted_tool, "--hosted-tool", _calls),
        routing=routing,
    )
    view, created = create_or_existing(lambda: catalog.add(model), lambda: _exactly(model_id), if_not_exists=if_not_exists)
    if created and known is not None:
        _say(known, prices)
    if created and not view.groups:
        output.note(f"No group may call it yet: gatewayctl groups allow GROUP {model_id}")
    _show(view)


def _exactly(model_id: str) -> Any:
    """The model of that id; an alias of that name is another thing."""
    from db import catalog
    from db.errors import NotFound

    view = catalog.show(model_id)
    if view.public_id != model_id:
        raise NotFound(f"There is no model {model_id!r}")
    return view


def _merged(before: Mapping[str, int], given: list[str], what: str, read: Callable[[str], int]) -> dict[str, int]:
    """What a model has of named numbers, after NAME=VALUE and NAME=none."""
    after = dict(before)
    for name, text in parse.pairs(given, what).items():
        if text != "none":
            after[name] = read(text)
        elif after.pop(name, None) is None:
            raise Usage(f"The model has no {name!r} to forget", "See: gatewayctl models show")
    return after


def _calls(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise Usage(f"{text[:40]!r} is not a number of calls", "Example: --hosted-tool web_search=5")
    return int(text[:9])


def _with_streaming(features: list[str], streaming: bool) -> list[str]:
    rest = [item for item in features if item != "streaming"]
    return ["streaming", *rest] if streaming else rest


@app.command("list")
def list_models(
    feature: str | None = typer.Option(None, metavar="F", help="Only models with it."),
    type_: str | None = typer.Option(None, "--type", metavar=TYPES, help="Only this type."),
    provider: str | None = typer.Option(None, metavar="SLUG", help="Only what it serves."),
) -> None:
    """List models with prices as they are written: USD per million tokens, per image, per second …

    Example: gatewayctl models list --feature tools
    """
    from db import catalog

    context.open_database()
    rows = [shapes.model(view) for view in catalog.list_all(feature=feature, model_type=type_, provider=provider)]
    if not output.state.json:  # a table has room for the plain meters
        rows = [row | {"prices": {key: text for key, text in row["prices"].items() if key.isidentifier()}} for row in rows]
    output.rows(
        rows,
        COLUMNS,
        right=("multiplier", "context_length"),
        empty="No models. Try: gatewayctl models add gpt-4o-mini --provider openai",
    )


@app.command()
def show(
    model: str = ID,
    prices: bool = typer.Option(False, "--prices", help="Every price it ever had."),
) -> None:
    """Show a model.

    Example: gatewayctl models show gpt-4o-mini
    """
    from db import catalog
    from db.clock import iso
    from db.meters import format_price
    from db.prices import history

    context.open_database()
    if not prices:
        return _show(catalog.show(model))
    rows = [
        {
            "model": item.model,
            "meter": item.meter,
            "price": format_price(item.meter, item.nanos),
            "valid_from": iso(item.valid_from_at),
            "valid_to": iso(item.valid_to_at),
            "source": item.source,
            "source_date": item.source_date,
        }
        for item in history(model)
    ]
    columns = ("meter", "price", "valid_from", "valid_to", "source", "source_date")
    return output.rows(rows, columns, id="meter", right=("price",))


@app.command()
def update(
    model: str = ID,
    provider: str | None = typer.Option(None, metavar="SLUG", help="Who serves it from now on."),
    upstream: str | None = typer.Option(None, metavar="NAME", help="The provider's name for it."),
    type_: str | None = typer.Option(None, "--type", metavar=TYPES, help="What it is."),
    price: list[str] = PRICE,
    input_price: str | None = INPUT_PRICE,
    output_price: str | None = OUTPUT_PRICE,
    cached_input_price: str | None = CACHED_PRICE,
    multiplier: str | None = MULTIPLIER,
    context_length: str | None = typer.Option(None, metavar="N|none", help="Context window in tokens."),
    max_output: str | None = typer.Option(None, metavar="N|none", help="Most output tokens of one answer."),
    media_tokens: str | None = typer.Option(None, metavar="N|none", help="Tokens to hold for one image or file."),
    display_name: str | None = DISPLAY,
    description: str | None = DESCRIPTION,
    feature: list[str] = FEATURE,
    streaming: bool | None = STREAMING,
    modality: list[str] = MODALITY,
    tier: list[str] = TIER,
    hosted_tool: list[str] = HOSTED_TOOL,
    routing: str | None = ROUTING,
    private: bool | None = typer.Option(None, "--private/--public", help="Whether it is in the public list."),
) -> None:
    """Change a model. A new price holds for requests that begin from now on; the old one is kept.

    Example: gatewayctl models update gpt-4o-mini --output-price 0.70
    """
    from db import catalog

    context.open_database()
    written, ended = _written_prices(price, input_price, output_price, cached_input_price)
    fields = parse.changes(
        type=(type_, None),
        context_length=(context_length, parse.optional_number),
        max_output=(max_output, parse.optional_number),
        media_tokens=(media_tokens, parse.optional_number),
        display_name=(display_name, None),
        description=(description, None),
        features=(feature or None, None),
        input_modalities=(modality or None, None),
        private=(private, None),
        provider=(provider, None),
        upstream=(upstream, None),
        routing=(routing, None),
        new_prices=(written or None, None),
        without_prices=(ended or None, None),
        multiplier_ppm=(multiplier, money.parse_multiplier),
    )
    if tier:
        fields["service_tiers"] = _merged(catalog.show(model).service_tiers, tier, "--tier", money.parse_multiplier)
    if hosted_tool:
        fields["hosted_tools"] = _merged(catalog.show(model).hosted_tools, hosted_tool, "--hosted-tool", _calls)
    if streaming is not None:
        fields["features"] = _with_streaming(list(feature or catalog.show(model).features), streaming)
    if not fields:
        raise Usage("Nothing to change", "See: gatewayctl models update --help")
    _show(catalog.update(model, **fields))


@app.command()
def enable(model: str = ID) -> None:
    """Offer a disabled model again.

    Example: gatewayctl models enable gpt-4o-mini
    """
    from db import catalog

    context.open_database()
    _show(catalog.set_enabled(model, True))


@app.command()
def disable(model: str = ID) -> None:
    """Stop offering a model (404 from the next request on).

    Example: gatewayctl models disable gpt-4o-mini
    """
    from db import catalog

    context.open_database()
    _show(catalog.set_enabled(model, False))


@app.command()
def delete(model: str = ID, yes: bool = YES) -> None:
    """Delete a model with its aliases, prices and grants; usage records stay.

    Example: gatewayctl models delete gpt-4o-mini --yes
    """
    from db import catalog

    context.open_database()
    view = catalog.show(model)
    output.confirm(f"Delete model {view.public_id}?", yes=yes)
    catalog.delete(view.public_id)
    _show(view)


@app.command()
def alias(
    alias: str = typer.Argument(..., metavar="ALIAS", help="The other name."),
    model: str | None = typer.Argument(None, metavar="[ID]", help="The model it names."),
    remove: bool = typer.Option(False, "--remove", help="Forget the alias."),
) -> None:
    """Give a model another name.

    Example: gatewayctl models alias gpt-mini gpt-4o-mini
    """
    from db import catalog

    context.open_database()
    if remove:
        return _show(catalog.show(catalog.remove_alias(alias)))
    if model is None:
        raise Usage("Which model should it name?", "Example: gatewayctl models alias gpt-mini gpt-4o-mini")
    return _show(catalog.add_alias(alias, model))


@app.command()
def deploy(
    model: str = ID,
    provider: str = typer.Option(..., metavar="SLUG", help="Who serves it too."),
    upstream: str | None = typer.Option(None, metavar="NAME", help="The provider's name for it; default: ID."),
    weight: int | None = typer.Option(None, metavar="N", min=1, help="Share of the requests inside its priority; default 1."),
    priority: int | None = typer.Option(None, metavar="N", min=0, help="0 is asked first, higher ones after it; default 0."),
    enabled: bool | None = typer.Option(None, "--enable/--disable", help="Whether it gets requests."),
    remove: bool = typer.Option(False, "--remove", help="It serves the model no more."),
) -> None:
    """Let another provider serve a model too, or change the share of one that does.

    Requests are spread by weight inside the lowest priority that works; the others are asked when it fails.

    Example: gatewayctl models deploy gpt-4o-mini --provider azure --upstream my-mini --weight 3

    Example: gatewayctl models deploy gpt-4o-mini --provider openrouter --upstream openai/gpt-4o-mini --priority 1
    """
    from db import catalog, deployments

    context.open_database()
    if remove:
        deployments.undeploy(model, provider, upstream=upstream)
    else:
        deployments.deploy(model, provider, upstream=upstream, weight=weight, priority=priority, enabled=enabled)
    _show(catalog.show(model))


@app.command()
def fallback(
    model: str = ID,
    to: list[str] = typer.Option([], "--to", metavar="ID", help="The model to ask instead; repeat, in order."),
    none: bool = typer.Option(False, "--none", help="No fallback."),
) -> None:
    """Say which models stand in, in order, when nobody can serve a model. They are charged at their own price.

    Example: gatewayctl models fallback gpt-4o --to claude-sonnet --to gpt-4o-mini
    """
    from db import catalog, deployments

    if bool(to) == none:
        raise Usage("Which models should stand in?", "Example: --to gpt-4o-mini; or --none")
    context.open_database()
    deployments.set_fallbacks(model, to)
    _show(catalog.show(model))


_SNIPPETS = {
    "curl": """curl {base}/v1/chat/completions \\
  -H "Authorization: Bearer $GATEWAY_KEY" -H "Content-Type: application/json" \\
  -d '{{"model":"{model}","messages":[{{"role":"user","content":"Hello"}}]}}'""",
    "python": """import os
from openai import OpenAI

client = OpenAI(base_url="{base}/v1", api_key=os.environ["GATEWAY_KEY"])
reply = client.chat.completions.create(
    model="{model}", messages=[{{"role": "user", "content": "Hello"}}]
)
print(reply.choices[0].message.content)""",
    "node": """import OpenAI from "openai";

const client = new OpenAI({{ baseURL: "{base}/v1", apiKey: process.env.GATEWAY_KEY }});
const reply = await client.chat.completions.create({{
  model: "{model}",
  messages: [{{ role: "user", content: "Hello" }}],
}});
console.log(reply.choices[0].message.content);""",
}


@app.command()
def snippet(
    model: str = ID,
    lang: str = typer.Option("curl", metavar="|".join(_SNIPPETS), help="In which language."),
) -> None:
    """Print a few lines that call a chat model through this gateway.

    Example: gatewayctl models snippet gpt-4o-mini --lang python
    """
    from db import catalog
    from gatewayctl.addresses import public_base_url

    if lang not in _SNIPPETS:
        raise Usage(f"There is no snippet for {lang!r}", f"Languages: {', '.join(_SNIPPETS)}")
    context.open_database()
    view = catalog.show(model)
    if view.type != "chat":
        raise Usage(f"{view.public_id} is not a chat model", "Snippets exist for chat models")
    text = _SNIPPETS[lang].format(base=public_base_url(context.settings()), model=model)
    if output.state.json:
        return output.document({"model": model, "lang": lang, "snippet": text})
    return output.text(text)
