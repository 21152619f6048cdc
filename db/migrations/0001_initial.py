"""The first schema. Frozen text: later changes are migrations of their own.

Written in PostgreSQL's types; SQLite gets INTEGER and BLOB instead and STRICT tables. AUTOINCREMENT is SQLite's word for
what PostgreSQL's serial types do anyway: no number is used twice.
"""

from __future__ import annotations

from typing import Any

from peewee import SqliteDatabase

SCHEMA = """
    CREATE TABLE users (
        id BIGSERIAL NOT NULL PRIMARY KEY,
        name TEXT NOT NULL CHECK (length(name) <= 120),
        status TEXT NOT NULL CHECK (status IN ('active', 'suspended', 'deleted')),
        version BIGINT NOT NULL,
        balance_nanos BIGINT NOT NULL,
        held_nanos BIGINT NOT NULL CHECK (held_nanos >= 0 AND held_nanos <= 4611686018427387904),
        credit_limit_nanos BIGINT NOT NULL CHECK (credit_limit_nanos >= 0 AND credit_limit_nanos <= 4611686018427387904),
        rpm INTEGER,
        fair_use_limit INTEGER,
        fair_use_throttle_s INTEGER,
        created_at BIGINT NOT NULL,
        email TEXT CHECK (length(email) <= 320)
    );
    CREATE UNIQUE INDEX users_name ON users (name);
    CREATE TABLE groups (
        id BIGSERIAL NOT NULL PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL CHECK (length(name) <= 120),
        is_default INTEGER NOT NULL CHECK (is_default IN (0, 1)),
        created_at BIGINT NOT NULL
    );
    CREATE UNIQUE INDEX groups_name ON groups (name);
    CREATE TABLE memberships (
        user_id BIGINT NOT NULL,
        group_id BIGINT NOT NULL,
        PRIMARY KEY (user_id, group_id),
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
        FOREIGN KEY (group_id) REFERENCES groups (id) ON DELETE CASCADE
    );
    CREATE INDEX memberships_group_id ON memberships (group_id);
    CREATE TABLE keys (
        id BIGSERIAL NOT NULL PRIMARY KEY,
        user_id BIGINT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('active', 'disabled', 'revoked')),
        expires_at BIGINT,
        rpm INTEGER,
        tpm INTEGER,
        max_parallel INTEGER,
        budget_nanos BIGINT CHECK (budget_nanos >= 0 AND budget_nanos <= 4611686018427387904),
        budget_period TEXT CHECK (budget_period IN ('day', 'week', 'month')),
        budget_window_at BIGINT NOT NULL,
        budget_spent_nanos BIGINT NOT NULL CHECK (budget_spent_nanos >= 0 AND budget_spent_nanos <= 4611686018427387904),
        budget_held_nanos BIGINT NOT NULL CHECK (budget_held_nanos >= 0 AND budget_held_nanos <= 4611686018427387904),
        spent_nanos BIGINT NOT NULL CHECK (spent_nanos >= 0 AND spent_nanos <= 4611686018427387904),
        last_used_at BIGINT,
        created_at BIGINT NOT NULL,
        name TEXT NOT NULL CHECK (length(name) <= 120),
        models TEXT,
        metadata TEXT NOT NULL,
        FOREIGN KEY (user_id) REFERENCES users (id)
    );
    CREATE INDEX keys_user_id ON keys (user_id);
    CREATE TABLE key_secrets (
        public_id TEXT NOT NULL PRIMARY KEY,
        key_id BIGINT NOT NULL,
        digest BYTEA NOT NULL,
        expires_at BIGINT,
        created_at BIGINT NOT NULL,
        FOREIGN KEY (key_id) REFERENCES keys (id)
    );
    CREATE INDEX key_secrets_key_id ON key_secrets (key_id);
    CREATE TABLE providers (
        id BIGSERIAL NOT NULL PRIMARY KEY AUTOINCREMENT,
        slug TEXT NOT NULL CHECK (length(slug) <= 40),
        name TEXT NOT NULL CHECK (length(name) <= 120),
        protocol TEXT NOT NULL CHECK (protocol IN ('openai', 'anthropic', 'gemini', 'demo')),
        status TEXT NOT NULL CHECK (status IN ('active', 'paused')),
        paused_at BIGINT,
        no_auth INTEGER NOT NULL CHECK (no_auth IN (0, 1)),
        connect_timeout_ms INTEGER NOT NULL,
        first_byte_timeout_ms INTEGER NOT NULL,
        read_timeout_ms INTEGER NOT NULL,
        total_timeout_ms INTEGER NOT NULL,
        max_connections INTEGER NOT NULL,
        on_disconnect TEXT NOT NULL CHECK (on_disconnect IN ('cancel', 'drain')),
        include_usage INTEGER NOT NULL CHECK (include_usage IN (0, 1)),
        daily_alert_nanos BIGINT CHECK (daily_alert_nanos >= 0 AND daily_alert_nanos <= 4611686018427387904),
        daily_stop_nanos BIGINT CHECK (daily_stop_nanos >= 0 AND daily_stop_nanos <= 4611686018427387904),
        created_at BIGINT NOT NULL,
        base_url TEXT NOT NULL CHECK (length(base_url) <= 2000),
        auth_header TEXT CHECK (length(auth_header) <= 120),
        auth_prefix TEXT CHECK (length(auth_prefix) <= 120),
        paused_reason TEXT CHECK (length(paused_reason) <= 500),
        allow_endpoints TEXT NOT NULL
    );
    CREATE UNIQUE INDEX providers_slug ON providers (slug);
    CREATE TABLE credentials (
        id BIGSERIAL NOT NULL PRIMARY KEY AUTOINCREMENT,
        provider_id BIGINT NOT NULL,
        name TEXT NOT NULL CHECK (length(name) <= 120),
        status TEXT NOT NULL CHECK (status IN ('active', 'disabled', 'benched')),
        weight INTEGER NOT NULL CHECK (weight >= 1),
        last_error_at BIGINT,
        created_at BIGINT NOT NULL,
        hint TEXT NOT NULL CHECK (length(hint) <= 20),
        last_error TEXT CHECK (length(last_error) <= 300),
        secret BYTEA NOT NULL,
        FOREIGN KEY (provider_id) REFERENCES providers (id) ON DELETE CASCADE
    );
    CREATE INDEX credentials_provider_id ON credentials (provider_id);
    CREATE UNIQUE INDEX credentials_provider_id_name ON credentials (provider_id, name);
    CREATE TABLE models (
        id BIGSERIAL NOT NULL PRIMARY KEY AUTOINCREMENT,
        public_id TEXT NOT NULL CHECK (length(public_id) <= 200),
        type TEXT NOT NULL CHECK (type IN ('chat', 'embedding', 'image', 'audio', 'rerank', 'moderation')),
        enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
        private INTEGER NOT NULL CHECK (private IN (0, 1)),
        context_length INTEGER,
        max_output INTEGER,
        media_tokens INTEGER,
        created_at BIGINT NOT NULL,
        display_name TEXT NOT NULL CHECK (length(display_name) <= 200),
        description TEXT NOT NULL CHECK (length(description) <= 4000),
        features TEXT NOT NULL,
        input_modalities TEXT NOT NULL,
        output_modalities TEXT NOT NULL
    );
    CREATE UNIQUE INDEX models_public_id ON models (public_id);
    CREATE TABLE aliases (
        id BIGSERIAL NOT NULL PRIMARY KEY,
        alias TEXT NOT NULL CHECK (length(alias) <= 200),
        model_id BIGINT NOT NULL,
        FOREIGN KEY (model_id) REFERENCES models (id) ON DELETE CASCADE
    );
    CREATE UNIQUE INDEX aliases_alias ON aliases (alias);
    CREATE INDEX aliases_model_id ON aliases (model_id);
    CREATE TABLE deployments (
        id BIGSERIAL NOT NULL PRIMARY KEY,
        model_id BIGINT NOT NULL,
        provider_id BIGINT NOT NULL,
        weight INTEGER NOT NULL CHECK (weight >= 1),
        priority INTEGER NOT NULL,
        enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
        upstream_name TEXT NOT NULL CHECK (length(upstream_name) <= 200),
        FOREIGN KEY (model_id) REFERENCES models (id) ON DELETE CASCADE,
        FOREIGN KEY (provider_id) REFERENCES providers (id)
    );
    CREATE INDEX deployments_model_id ON deployments (model_id);
    CREATE INDEX deployments_provider_id ON deployments (provider_id);
    CREATE UNIQUE INDEX deployments_model_id_provider_id_upstream_name ON deployments (model_id, provider_id, upstream_name);
    CREATE TABLE prices (
        id BIGSERIAL NOT NULL PRIMARY KEY,
        model_id BIGINT NOT NULL,
        meter TEXT NOT NULL CHECK (length(meter) <= 40),
        price_nanos BIGINT NOT NULL CHECK (price_nanos >= 0 AND price_nanos <= 4611686018427387904),
        valid_from_at BIGINT NOT NULL,
        valid_to_at BIGINT,
        source TEXT NOT NULL CHECK (length(source) <= 200),
        source_date TEXT CHECK (length(source_date) <= 40),
        FOREIGN KEY (model_id) REFERENCES models (id) ON DELETE CASCADE
    );
    CREATE INDEX prices_model_id ON prices (model_id);
    CREATE INDEX prices_model_id_meter_valid_from_at ON prices (model_id, meter, valid_from_at);
    CREATE TABLE multipliers (
        id BIGSERIAL NOT NULL PRIMARY KEY,
        scope TEXT NOT NULL CHECK (scope IN ('user', 'group', 'model')),
        subject_id BIGINT NOT NULL,
        meter TEXT NOT NULL CHECK (length(meter) <= 40),
        ppm BIGINT NOT NULL CHECK (ppm >= 0 AND ppm <= 1000000000)
    );
    CREATE UNIQUE INDEX multipliers_scope_subject_id_meter ON multipliers (scope, subject_id, meter);
    CREATE TABLE grants (
        group_id BIGINT NOT NULL,
        model_id BIGINT NOT NULL,
        PRIMARY KEY (group_id, model_id),
        FOREIGN KEY (group_id) REFERENCES groups (id) ON DELETE CASCADE,
        FOREIGN KEY (model_id) REFERENCES models (id) ON DELETE CASCADE
    );
    CREATE INDEX grants_model_id ON grants (model_id);
    CREATE TABLE processes (
        id BIGSERIAL NOT NULL PRIMARY KEY,
        host TEXT NOT NULL CHECK (length(host) <= 255),
        boot_id TEXT NOT NULL CHECK (length(boot_id) <= 64),
        pid BIGINT NOT NULL,
        pid_started BIGINT NOT NULL,
        beat BIGINT NOT NULL,
        started_at BIGINT NOT NULL,
        ended_at BIGINT
    );
    CREATE TABLE holds (
        request_id TEXT NOT NULL PRIMARY KEY,
        user_id BIGINT NOT NULL,
        key_id BIGINT NOT NULL,
        model_id BIGINT,
        provider_id BIGINT,
        state TEXT NOT NULL CHECK (state IN ('open', 'settled', 'released', 'expired')),
        amount_nanos BIGINT NOT NULL CHECK (amount_nanos >= 0 AND amount_nanos <= 4611686018427387904),
        budgeted INTEGER NOT NULL CHECK (budgeted IN (0, 1)),
        input_estimate BIGINT NOT NULL,
        delivered BIGINT NOT NULL,
        stream INTEGER NOT NULL CHECK (stream IN (0, 1)),
        placed_at BIGINT NOT NULL,
        closed_at BIGINT,
        process_id BIGINT NOT NULL,
        ticket BIGINT NOT NULL,
        requested_model TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        terms TEXT NOT NULL,
        FOREIGN KEY (user_id) REFERENCES users (id),
        FOREIGN KEY (key_id) REFERENCES keys (id)
    );
    CREATE INDEX holds_open ON holds (process_id) WHERE state = 'open';
    CREATE TABLE ledger_entries (
        id BIGSERIAL NOT NULL PRIMARY KEY,
        user_id BIGINT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('topup', 'charge', 'adjustment', 'refund')),
        amount_nanos BIGINT NOT NULL,
        balance_after_nanos BIGINT NOT NULL,
        at BIGINT NOT NULL,
        request_id TEXT CHECK (length(request_id) <= 160),
        ref TEXT CHECK (length(ref) <= 200),
        note TEXT CHECK (length(note) <= 1000),
        FOREIGN KEY (user_id) REFERENCES users (id)
    );
    CREATE INDEX ledger_entries_user_id_at ON ledger_entries (user_id, at);
    CREATE UNIQUE INDEX ledger_one_charge_per_request ON ledger_entries (request_id) WHERE kind = 'charge';
    CREATE INDEX ledger_refunds ON ledger_entries (request_id) WHERE kind = 'refund';
    CREATE UNIQUE INDEX ledger_one_entry_per_ref ON ledger_entries (user_id, ref) WHERE ref IS NOT NULL;
    CREATE TABLE usage_records (
        id BIGSERIAL NOT NULL PRIMARY KEY,
        at BIGINT NOT NULL,
        user_id BIGINT NOT NULL,
        key_id BIGINT NOT NULL,
        model_id BIGINT,
        provider_id BIGINT,
        status TEXT NOT NULL CHECK (status IN ('ok', 'error', 'client_disconnected', 'cached', 'refused')),
        http_status INTEGER NOT NULL,
        cost_nanos BIGINT NOT NULL CHECK (cost_nanos >= 0 AND cost_nanos <= 4611686018427387904),
        upstream_cost_nanos BIGINT NOT NULL CHECK (upstream_cost_nanos >= 0 AND upstream_cost_nanos <= 4611686018427387904),
        charged_nanos BIGINT NOT NULL CHECK (charged_nanos >= 0 AND charged_nanos <= 4611686018427387904),
        absorbed_nanos BIGINT NOT NULL CHECK (absorbed_nanos >= 0 AND absorbed_nanos <= 4611686018427387904),
        input_tokens BIGINT NOT NULL,
        output_tokens BIGINT NOT NULL,
        stream INTEGER NOT NULL CHECK (stream IN (0, 1)),
        estimated INTEGER NOT NULL CHECK (estimated IN (0, 1)),
        cached INTEGER NOT NULL CHECK (cached IN (0, 1)),
        latency_ms INTEGER,
        ttft_ms INTEGER,
        request_id TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        error_code TEXT,
        requested_model TEXT NOT NULL,
        served_model TEXT,
        usage TEXT NOT NULL,
        terms TEXT NOT NULL,
        attempts TEXT NOT NULL
    );
    CREATE UNIQUE INDEX usage_records_request_id ON usage_records (request_id);
    CREATE INDEX usage_records_at ON usage_records (at);
    CREATE INDEX usage_records_user_id_at ON usage_records (user_id, at);
    CREATE INDEX usage_records_key_id_at ON usage_records (key_id, at);
    CREATE TABLE counters (
        scope TEXT NOT NULL CHECK (scope IN ('user', 'key', 'provider')),
        subject_id BIGINT NOT NULL,
        window_at BIGINT NOT NULL,
        requests BIGINT NOT NULL,
        tokens BIGINT NOT NULL,
        cost_nanos BIGINT NOT NULL CHECK (cost_nanos >= 0 AND cost_nanos <= 4611686018427387904),
        PRIMARY KEY (scope, subject_id, window_at)
    );
    CREATE TABLE settings (
        name TEXT NOT NULL PRIMARY KEY,
        value TEXT NOT NULL
    );
    CREATE TABLE audit_log (
        id BIGSERIAL NOT NULL PRIMARY KEY,
        at BIGINT NOT NULL,
        actor TEXT NOT NULL CHECK (length(actor) <= 200),
        action TEXT NOT NULL CHECK (length(action) <= 80),
        subject TEXT NOT NULL CHECK (length(subject) <= 300),
        before TEXT,
        after TEXT
    );
    CREATE INDEX audit_log_at ON audit_log (at);
    CREATE TABLE catalog_state (
        id INTEGER NOT NULL PRIMARY KEY,
        version BIGINT NOT NULL
    );
    INSERT INTO catalog_state (id, version) VALUES (1, 1);
"""


def up(migrator: Any, db: Any) -> None:
    """Create every table and index."""
    sqlite = isinstance(db, SqliteDatabase)
    for statement in SCHEMA.split(";\n"):
        text = statement.strip()
        if not text:
            continue
        if sqlite:
            for theirs, ours in (("BIGSERIAL", "INTEGER"), ("BIGINT", "INTEGER"), ("BYTEA", "BLOB")):
                text = text.replace(theirs, ours)
            if text.startswith("CREATE TABLE"):
                text += " STRICT"
        else:
            text = text.replace(" AUTOINCREMENT", "")
        db.execute_sql(text)
