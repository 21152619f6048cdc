"""Decide whether a request may be sent, by what the catalogue and the request say. Pure; the balance is asked elsewhere.

Refusals come as ApiError, in the order of the pipeline: model and access (404), kind of endpoint (400), price (400), what the
model supports (400), context window (400), provider paused (429) or without a credential (503).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from daemon.domain.catalog import Catalog, Provider, is_priced, may_use
from daemon.domain.errors import ApiError
from daemon.domain.pricing import CHEAPER_TIERS
from daemon.domain.routing import Refusal, Routes, Served, worst
from daemon.domain.usage import MAX_COUNT, meter_of
from db.identity import Identity
from db.snapshot import StoredDeployment, StoredModel

# A request is refused for its length only when it is clearly over: text that long never has so few tokens.
CLEARLY_BYTES_PER_TOKEN = 16
OUTPUT_ROOM = 1
CONVERSE = frozenset({"openai", "anthropic", "gemini", "demo"})  # protocols of providers that a conversation can go to
# Meters that only a request's own body tells, and the types of model that are sold by them.
COUNTED = ("image", "character", "second")
ANY_NUMBER = MAX_COUNT  # of calls: the request does not say how many
STORED_FEATURE = "stored_responses"
COUNTED_TYPES = frozenset({"image", "audio"})

# What a request may use → the feature a model must list. Absent here: never checked.
FEATURES = {
    "tools": ("tools",),
    "json_mode": ("json_mode", "structured_outputs"),
    "structured_outputs": ("structured_outputs",),
}
FEATURE_PARAMS = {"tools": "tools", "json_mode": "response_format", "structured_outputs": "response_format"}


@dataclass(slots=True)
class Ask:
    """What bounds the cost of a request, whatever its dialect. Never changed once made.

    `body_bytes` is the length of the body (of its longest prompt); `input_bound` the prompt tokens that its text can be at
    most, in `inputs` prompts of which each fits into the window alone. `output_limit` is per choice, None when the body names
    none. `extra` counts meters that the body itself fixes (images, characters), `extra_bound` says how many there can be of
    those that only the reply tells (seconds). `not_used` are meters that it cannot incur. `features` are what the model must
    support; `unbounded` are fields whose cost nothing bounds. `tier` is the service tier it asks for, None for a usual one.
    `hosted` are the tools that the provider would run, with the most calls that the request lets each have (ANY_NUMBER: it
    says nothing); `stored`: its prompt has parts that the provider stored. `prompt_field` is where the prompt stands.
    """

    model: str
    stream: bool
    body_bytes: int
    input_bound: int
    output_limit: int | None
    output_extra: int
    n: int
    media_parts: int
    features: frozenset[str]
    unbounded: tuple[str, ...]
    extra: dict[str, int] = field(default_factory=dict)
    not_used: frozenset[str] = frozenset()
    include_usage: bool | None = None
    tier: str | None = None
    inputs: int = 1
    extra_bound: dict[str, int] = field(default_factory=dict)
    prompt_field: str = "messages"
    hosted: dict[str, int] = field(default_factory=dict)
    stored: bool = False

    @property
    def counted(self) -> dict[str, int]:
        """The most of each meter that is neither input nor output: what a hold must cover."""
        return {**self.extra, **self.extra_bound} if self.extra_bound else self.extra


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who may serve it, and the bounds by which it is held; `extra` counts of meters that are no tokens."""

    model: StoredModel
    candidates: tuple[tuple[Provider, StoredDeployment], ...]
    input_bound: int
    output_bound: int
    extra: dict[str, int]
    alone: bool  # nobody else can be asked


def find_model(catalog: Catalog, identity: Identity, name: str, provider: Provider | None) -> tuple[StoredModel, int | None]:
    """The model that `name` means for this caller, and the provider it names if it names one.

    Unified routes: unknown, disabled and not granted are the same 404. On a provider's own routes an id that is not in
    the catalogue is 400 unknown_model_pricing.
    """
    found = catalog.resolve(name) if provider is None else catalog.for_provider(provider, name)
    if found is None and provider is not None:
        raise ApiError.of("unknown_model_pricing", model=name, param="model")
    if found is None or not may_use(found.model, identity):
        raise ApiError.of("model_not_found", model=name, param="model")
    return found.model, found.provider_id


def admit(
    catalog: Catalog,
    identity: Identity,
    ask: Ask,
    provider: Provider | None,
    *,
    endpoint: str,
    model_types: frozenset[str],
    protocols: frozenset[str] | None,
    default_output: int,
    routes: Routes | None = None,
) -> Admitted:
    """Everything that can be decided without the balance; ApiError when refused. `protocols`: who can serve it, None: all.

    `routes`: what is known of who works now; None when only the catalogue is to decide.
    """
    model, provider_id = find_model(catalog, identity, ask.model, provider)
    if model.type not in model_types:
        raise ApiError.of("unsupported_endpoint", model=ask.model, endpoint=endpoint, param="model")
    if not is_priced(model):
        raise ApiError.of("unknown_model_pricing", model=ask.model, param="model")
    if model.type in COUNTED_TYPES and not _counted_meters(model) <= {meter_of(key) for key in ask.counted}:
        # Priced by what this endpoint's body does not tell: it would be free.
        raise ApiError.of("unsupported_endpoint", model=ask.model, endpoint=endpoint, param="model")
    check_features(model, ask, strict=provider is None)
    if protocols is not None and not any(catalog.protocol_of(d) in protocols for d in model.deployments):
        raise ApiError.of("unsupported_endpoint", model=ask.model, endpoint=endpoint, param="model")
    input_bound, output_bound = bounds(model, ask, default_output)
    extra = {**ask.counted, **{f"hosted_call/{name}": most for name, most in hosted_limits(model, ask).items()}}
    served, alone = candidates(catalog, model, provider_id, protocols, routes)
    return Admitted(model, served, input_bound, output_bound, extra, alone)


def _counted_meters(model: StoredModel) -> set[str]:
    """The meters of COUNTED that a model is sold by."""
    return {meter for key, price in model.prices.items() if price and (meter := meter_of(key)) in COUNTED}


def check_features(model: StoredModel, ask: Ask, *, strict: bool) -> None:
    """Refuse what the model is known not to do, and what nobody can say the cost of."""
    if ask.unbounded:
        raise ApiError.of(
            "unsupported_parameter",
            model=ask.model,
            param=ask.unbounded[0],
            message=f"'{ask.unbounded[0]}' is refused: its cost is not bounded by the request and model "
            f"'{ask.model}' has no price for it.",
        )
    check_tier(model, ask)
    check_hosted(model, ask)
    if not strict or model.type != "chat":
        return
    if ask.stream and "streaming" not in model.features:
        raise ApiError.of("unsupported_parameter", model=ask.model, param="stream")
    for used in ask.features & FEATURES.keys():
        if model.features.isdisjoint(FEATURES[used]):
            raise ApiError.of("unsupported_parameter", model=ask.model, param=FEATURE_PARAMS[used])


def check_tier(model: StoredModel, ask: Ask) -> None:
    """Refuse a service tier that may be dearer than the model's own prices and has no factor."""
    tier = ask.tier
    if tier is None or tier in model.service_tiers or tier in CHEAPER_TIERS:
        return
    reason = f"The service tier {tier!r} is refused: model '{ask.model}' has no price for it."
    raise _not_allowed(ask, model, "service_tier", reason, "--tier NAME=FACTOR")


def check_hosted(model: StoredModel, ask: Ask) -> None:
    """Refuse hosted tools and stored state that the model's entry does not allow, or gives no bound of."""
    for name, wanted in ask.hosted.items():
        most = model.hosted_tools.get(name)
        if most is None or not any(key in model.prices for key in (f"hosted_call/{name}", "hosted_call")):
            raise _not_allowed(
                ask,
                model,
                "tools",
                f"The tool {name!r}, which the provider runs, is refused: model '{ask.model}' has no limit and price for it.",
                f"--hosted-tool {name}=CALLS --price hosted_call/{name}=USD",
            )
        if most < wanted < ANY_NUMBER:
            raise ApiError.of(
                "invalid_value", param="tools", reason=f"model '{ask.model}' allows {most} calls of {name!r}, not {wanted}"
            )
    if ask.stored and STORED_FEATURE not in model.features:
        raise _not_allowed(
            ask,
            model,
            "previous_response_id",
            f"What the provider has stored cannot be part of the prompt: model '{ask.model}' does not allow it.",
            f"--feature {STORED_FEATURE}, beside its other features",
        )
    if (ask.stored or ask.hosted) and model.context_length is None:
        raise _not_allowed(
            ask,
            model,
            "tools" if ask.hosted else "previous_response_id",
            f"What a provider puts into the prompt itself is not bounded: model '{ask.model}' has no context window.",
            "--context-length TOKENS",
        )


def _not_allowed(ask: Ask, model: StoredModel, param: str, reason: str, options: str) -> ApiError:
    remedy = f"Whoever runs this gateway can change that: gatewayctl models update {model.public_id} {options}"
    return ApiError.of("unsupported_parameter", model=ask.model, param=param, message=f"{reason} {remedy}")


def hosted_limits(model: StoredModel, ask: Ask) -> dict[str, int]:
    """The most calls of each hosted tool: what the request says, at most what the model's entry allows."""
    return {name: min(wanted, model.hosted_tools.get(name, 0)) for name, wanted in ask.hosted.items()}


def bounds(model: StoredModel, ask: Ask, default_output: int) -> tuple[int, int]:
    """(input bound, output bound per choice) in tokens: what a hold must cover. 400 when the window is clearly exceeded."""
    limit, window = ask.output_limit, model.context_length
    if limit is not None and model.max_output is not None and limit > model.max_output:
        raise ApiError.of(
            "invalid_value",
            param="max_tokens",
            reason=f"the model's output is at most {model.max_output} tokens, {limit} were asked for",
        )
    if window is not None and not ask.media_parts:
        least = ask.body_bytes // CLEARLY_BYTES_PER_TOKEN
        if least + (limit or OUTPUT_ROOM) > window:
            requested = least + (limit or 0)
            raise ApiError.of("context_length_exceeded", limit=window, requested=requested, param=ask.prompt_field)
    output = limit if limit is not None else min(model.max_output or default_output, default_output)
    if window is not None:
        output = min(output, window)
    return _input_bound(model, ask), output + ask.output_extra


def _input_bound(model: StoredModel, ask: Ask) -> int:
    text = ask.input_bound
    if (ask.hosted or ask.stored) and model.context_length is not None:
        # After each call of a hosted tool the model reads the whole prompt again, with what the tool found.
        return model.context_length * (1 + sum(hosted_limits(model, ask).values()))
    if ask.media_parts:
        if model.media_tokens is not None:
            return text + ask.media_parts * model.media_tokens
        if model.context_length is None:
            raise ApiError.of(
                "unsupported_parameter",
                model=ask.model,
                param=ask.prompt_field,
                message=f"Images, audio and files are refused: model '{ask.model}' has neither a context length nor "
                "a bound of tokens for such a part, so their cost is not known.",
            )
        return model.context_length * ask.inputs
    return text if model.context_length is None else min(text, model.context_length * ask.inputs)


def counted_bound(tokens: int) -> int:
    """The most prompt tokens that a prompt counted with our tokeniser can be with another one's vocabulary."""
    return tokens + tokens // 4 + 64


def candidates(
    catalog: Catalog,
    model: StoredModel,
    provider_id: int | None,
    protocols: frozenset[str] | None = None,
    routes: Routes | None = None,
) -> tuple[tuple[Served, ...], bool]:
    """(who may be asked, in order, whether nobody else can): not paused, with a credential, and as `routes` knows working.

    ApiError when nobody is left. Without `routes` in the order of priority, then weight.
    """
    offered = [
        (catalog.providers[d.provider_id], d)
        for d in model.deployments
        if (provider_id is None or d.provider_id == provider_id) and (protocols is None or catalog.protocol_of(d) in protocols)
    ]
    alone = len(offered) == 1 and not model.fallbacks
    refused = [(served, _refusal(*served, routes, alone)) for served in offered]
    usable = [served for served, refusal in refused if refusal is None]
    if not usable and not alone and not model.fallbacks:
        alone = True  # all of them fail: none stands in for another
        refused = [(served, _refusal(*served, routes, alone)) for served in offered]
        usable = [served for served, refusal in refused if refusal is None]
    if not usable:
        raise worst(((provider, refusal) for (provider, _), refusal in refused if refusal is not None), model.public_id)
    if routes is not None:
        return tuple(routes.ordered(model, usable)), alone
    return tuple(sorted(usable, key=lambda served: (served[1].priority, -served[1].weight, served[1].id))), alone


def _refusal(provider: Provider, deployment: StoredDeployment, routes: Routes | None, alone: bool) -> Refusal | None:
    if provider.stored.paused:
        return Refusal("provider_paused")
    if routes is not None:
        return routes.refusal(provider, deployment, alone=alone)
    return None if provider.usable else Refusal("no_active_api_keys")
