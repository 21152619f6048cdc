"""What is offered: providers, their credentials, models, aliases, deployments, versioned prices, multipliers."""

from __future__ import annotations

from peewee import SQL, BigAutoField, BigIntegerField, BlobField, Check, ForeignKeyField, IntegerField, TextField

from db.fields import NumberedField, added_json, added_one_of, amount, flag, instant, one_of, short_text
from db.models.base import Table

PROTOCOLS = ("openai", "anthropic", "gemini", "demo")
CHAT_APIS = ("chat", "responses", "both")  # which of OpenAI's two APIs of conversation a provider speaks
ROTATIONS = ("round_robin", "least_busy")  # whose turn it is among a provider's credentials
NO_ANSWER = ("fail", "next")  # what follows when a request was sent and nobody knows what became of it
ROUTINGS = ("weighted", "least_latency")  # whose turn it is among a model's deployments of one priority
MODEL_TYPES = ("chat", "embedding", "image", "audio", "rerank", "moderation")


class Provider(Table):
    """Who serves models to us."""

    id = NumberedField()
    slug = short_text("slug", 40, unique=True)
    name = short_text("name", 120)
    protocol = one_of("protocol", PROTOCOLS)
    status = one_of("status", ("active", "paused"), default="active")
    paused_at = instant(null=True)
    no_auth = flag("no_auth", default=0)
    connect_timeout_ms = IntegerField(default=5000)
    first_byte_timeout_ms = IntegerField(default=120_000)
    read_timeout_ms = IntegerField(default=60_000)
    total_timeout_ms = IntegerField(default=1_800_000)
    max_connections = IntegerField(default=512)
    on_disconnect = one_of("on_disconnect", ("cancel", "drain"), default="cancel")
    include_usage = flag("include_usage", default=1)
    daily_alert_nanos = amount("daily_alert_nanos", null=True)
    daily_stop_nanos = amount("daily_stop_nanos", null=True)
    created_at = instant()
    base_url = short_text("base_url", 2000, default="")
    auth_header = short_text("auth_header", 120, null=True)
    auth_prefix = short_text("auth_prefix", 120, null=True)
    paused_reason = short_text("paused_reason", 500, null=True)
    allow_endpoints = TextField(default="[]")  # JSON array of 'METHOD path'
    chat_api = added_one_of("chat_api", CHAT_APIS, "chat")
    rotation = added_one_of("rotation", ROTATIONS, "round_robin")
    on_no_answer = added_one_of("on_no_answer", NO_ANSWER, "fail")

    class Meta:
        table_name = "providers"


class Credential(Table):
    """Our secret at a provider, encrypted."""

    id = NumberedField()
    provider = ForeignKeyField(Provider, column_name="provider_id", on_delete="CASCADE")
    name = short_text("name", 120)
    status = one_of("status", ("active", "disabled", "benched"), default="active")
    weight = IntegerField(default=1, constraints=[Check("weight >= 1")])
    last_error_at = instant(null=True)
    created_at = instant()
    hint = short_text("hint", 20)
    last_error = short_text("last_error", 300, null=True)
    secret = BlobField()
    max_parallel = IntegerField(null=True, constraints=[Check("max_parallel >= 1")])
    benched_at = instant(null=True)
    probe_at = instant(null=True)  # when a benched one is tried again
    enabled_at = instant(null=True)
    benches = IntegerField(default=0, constraints=[SQL("DEFAULT 0")])  # refusals since it was last accepted

    class Meta:
        table_name = "credentials"
        indexes = ((("provider", "name"), True),)


class CatalogModel(Table):
    """A public model name and what is known of it."""

    id = NumberedField()
    public_id = short_text("public_id", 200, unique=True)
    type = one_of("type", MODEL_TYPES, default="chat")
    enabled = flag("enabled", default=1)
    private = flag("private", default=0)
    context_length = IntegerField(null=True)
    max_output = IntegerField(null=True)
    media_tokens = IntegerField(null=True)
    created_at = instant()
    display_name = short_text("display_name", 200)
    description = short_text("description", 4000, default="")
    features = TextField(default="[]")
    input_modalities = TextField(default='["text"]')
    output_modalities = TextField(default='["text"]')
    service_tiers = added_json("{}")  # {"priority": parts per million}
    hosted_tools = added_json("{}")  # {"web_search": calls per request}
    routing = added_one_of("routing", ROUTINGS, "weighted")
    fallbacks = added_json("[]")  # ids of models, in order

    class Meta:
        table_name = "models"


class Alias(Table):
    """Another public name of a model."""

    id = BigAutoField()
    alias = short_text("alias", 200, unique=True)
    model = ForeignKeyField(CatalogModel, column_name="model_id", on_delete="CASCADE")

    class Meta:
        table_name = "aliases"


class Deployment(Table):
    """A provider, and the name by which it knows the model."""

    id = BigAutoField()
    model = ForeignKeyField(CatalogModel, column_name="model_id", on_delete="CASCADE")
    provider = ForeignKeyField(Provider, column_name="provider_id")
    weight = IntegerField(default=1, constraints=[Check("weight >= 1")])
    priority = IntegerField(default=0)
    enabled = flag("enabled", default=1)
    upstream_name = short_text("upstream_name", 200)
    open_since_at = instant(null=True)  # told by workers that stopped sending requests there; for people, not for workers
    open_reason = TextField(null=True)

    class Meta:
        table_name = "deployments"
        indexes = ((("model", "provider", "upstream_name"), True),)


class Price(Table):
    """nano-USD per million units of a meter, or of what a price key names (db.meters). Rows are closed, never changed."""

    id = BigAutoField()
    model = ForeignKeyField(CatalogModel, column_name="model_id", on_delete="CASCADE")
    meter = short_text("meter", 40)
    price_nanos = amount("price_nanos")
    valid_from_at = instant()
    valid_to_at = instant(null=True)
    source = short_text("source", 200)
    source_date = short_text("source_date", 40, null=True)

    class Meta:
        table_name = "prices"
        indexes = ((("model", "meter", "valid_from_at"), False),)


class Multiplier(Table):
    """Parts per million on the price, for a user, group or model; for one meter or for all ('*')."""

    id = BigAutoField()
    scope = one_of("scope", ("user", "group", "model"))
    subject_id = BigIntegerField()
    meter = short_text("meter", 40, default="*")
    ppm = BigIntegerField(constraints=[Check("ppm >= 0 AND ppm <= 1000000000")])

    class Meta:
        table_name = "multipliers"
        indexes = ((("scope", "subject_id", "meter"), True),)
