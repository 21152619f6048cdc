"""Hold JSON to the TypedDicts by which an official SDK describes a request: every key known, every value of its type.

assert problems(body, anthropic.types.MessageCreateParamsNonStreaming) == []
"""

from __future__ import annotations

import collections.abc
import types
import typing
from functools import lru_cache
from typing import Any

import typing_extensions

SEQUENCES = (list, tuple, set, collections.abc.Iterable, collections.abc.Sequence, collections.abc.Collection)
MAPPINGS = (dict, collections.abc.Mapping)
WRAPPERS = (typing.Annotated, typing.Required, typing.NotRequired, typing_extensions.Required, typing_extensions.NotRequired)


def problems(value: Any, hint: Any, at: str = "") -> list[str]:
    """What is wrong with `value`, each with its place; [] when it is what `hint` describes."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in (Any, object):
        return []
    if origin in WRAPPERS:
        return problems(value, arguments[0], at)
    if isinstance(hint, typing.TypeAliasType) if hasattr(typing, "TypeAliasType") else False:
        return problems(value, hint.__value__, at)
    if origin in (typing.Union, types.UnionType):
        return _best([problems(value, variant, at) for variant in arguments])
    if origin is typing.Literal:
        return [] if value in arguments else [f"{at}: {value!r} is none of {arguments}"]
    if typing_extensions.is_typeddict(hint):
        return _object(value, hint, at)
    if origin in MAPPINGS or hint in MAPPINGS:
        if not isinstance(value, dict):
            return [f"{at}: {value!r} is no object"]
        inner = arguments[1] if len(arguments) == 2 else Any
        return [found for name, item in value.items() for found in problems(item, inner, f"{at}.{name}")]
    if origin in SEQUENCES or hint in SEQUENCES or "Sequence" in str(origin):
        if not isinstance(value, list):
            return [f"{at}: {value!r} is no array"]
        inner = arguments[0] if arguments else Any
        return [found for place, item in enumerate(value) for found in problems(item, inner, f"{at}[{place}]")]
    return _plain(value, hint, at)


def _plain(value: Any, hint: Any, at: str) -> list[str]:
    wanted = {None: type(None)}.get(hint, hint)
    if wanted is float and type(value) is int:
        return []
    return [] if type(value) is wanted else [f"{at}: {value!r} is no {getattr(hint, '__name__', hint)}"]


def _best(found: list[list[str]]) -> list[str]:
    """The variant that fits best: of those that are wrong, the one that is wrong deepest tells most."""
    return min(found, key=lambda wrong: (len(wrong), -max(map(len, wrong), default=0)))


@lru_cache(None)
def _hints(hint: Any) -> dict[str, Any]:
    return typing_extensions.get_type_hints(hint, include_extras=True)


def _object(value: Any, hint: Any, at: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{at}: {value!r} is no object"]
    hints = _hints(hint)
    found = [f"{at}.{name} is not known to {hint.__name__}" for name in value if name not in hints]
    found += [f"{at}.{name} is missing in {hint.__name__}" for name in hint.__required_keys__ if name not in value]
    for name, item in value.items():
        if name in hints:
            found += problems(item, hints[name], f"{at}.{name}")
    return found


def by_type(union: Any) -> dict[str, Any]:
    """The models of an SDK's union by the `type` that each is known by."""
    members = typing.get_args(union)
    while members and typing.get_origin(members[0]) is not None:  # Annotated, around the union
        members = typing.get_args(members[0])
    return {kind: member for member in members for kind in typing.get_args(member.model_fields["type"].annotation)}
