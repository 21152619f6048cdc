"""Versions by which a running daemon notices every change of an admin on its next request.

`users.version` covers a user, its keys, secrets, memberships and its own multipliers. `catalog_state.version` covers
providers, credentials, models, aliases, deployments, prices, grants, groups, and the multipliers of groups and models.
Both are compared inside the transaction that places a hold, so no request is admitted by stale knowledge.
"""

from __future__ import annotations

from db.models import CatalogState, User


def bump_catalog() -> None:
    """Call in the transaction of every catalogue change."""
    CatalogState.update(version=CatalogState.version + 1).where(CatalogState.id == 1).execute()


def bump_user(user_id: int) -> None:
    """Call in the transaction of every change of a user, its keys or memberships."""
    User.update(version=User.version + 1).where(User.id == user_id).execute()


def catalog_version() -> int:
    """The current version."""
    return int(CatalogState.get_by_id(1).version)
