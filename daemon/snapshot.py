"""What the daemon knows of the database: the catalogue and who the keys belong to, each with its version.

Knowledge may be old. It may admit a request only because the transaction that places the hold compares the versions, and it
may refuse one only after `refresh` found that it is not old.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from daemon import log
from daemon.domain.catalog import Catalog, Credential, Provider, make_provider
from daemon.store import Store
from db import identity as identities
from db import secrets, snapshot, versions
from db.errors import Invalid
from db.identity import Identity
from db.secrets import MasterKeys

MOST_IDENTITIES = 50_000


def _decrypt(stored: snapshot.StoredProvider, master: MasterKeys) -> tuple[Credential, ...]:
    usable = []
    for one in stored.credentials:
        if one.status == "disabled":
            continue
        try:
            text = master.decrypt(one.ciphertext, purpose="credential", row=f"credentials:{one.id}:secret")
        except Invalid as error:
            log.error("credential unusable", provider=stored.slug, credential=one.name, text=error.message)
            continue
        probe_at = (one.probe_at or 0) if one.status == "benched" else None
        usable.append(Credential(one.id, one.name, one.weight, text, one.max_parallel, probe_at))
    return tuple(usable)


def build_catalog(stored: snapshot.StoredCatalog, master: MasterKeys) -> Catalog:
    """Decrypt the credentials and index the names."""
    providers: dict[int, Provider] = {
        provider.id: make_provider(provider, _decrypt(provider, master)) for provider in stored.providers
    }
    return Catalog(stored, providers)


@dataclass(slots=True)
class Snapshot:
    """The current catalogue and the identities seen lately. `catalog` is replaced, never changed."""

    store: Store
    master: MasterKeys
    catalog: Catalog
    _identities: dict[str, Identity]
    _loading: asyncio.Lock

    @classmethod
    async def open(cls, store: Store, master: MasterKeys) -> Snapshot:
        """Read the catalogue for the first time."""
        catalog = await store.read(_load, master)
        return cls(store, master, catalog, {}, asyncio.Lock())

    def known(self, public_id: str) -> Identity | None:
        """What is remembered of a key; may be old."""
        return self._identities.get(public_id)

    async def look_up(self, public_id: str) -> Identity | None:
        """Read a key from the database, and remember it."""
        found = await self.store.read(identities.find, public_id)
        if found is None:
            self._identities.pop(public_id, None)
            return None
        if len(self._identities) >= MOST_IDENTITIES:
            self._identities.clear()
        self._identities[public_id] = found
        return found

    async def refresh(self) -> bool:
        """Load the catalogue again if the database has another version; True when it had."""
        seen = self.catalog.version
        if await self.store.read(versions.catalog_version) == seen:
            return self.catalog.version != seen
        async with self._loading:
            if self.catalog.version == seen:
                self.catalog = await self.store.read(_load, self.master)
        return self.catalog.version != seen


def _load(master: MasterKeys) -> Catalog:
    return build_catalog(snapshot.load(), master)


def public_id_of(key: str) -> str | None:
    """The public id of a well-formed key."""
    return secrets.public_id_of(key)
