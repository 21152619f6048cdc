"""Read the fields of a request in either spelling and check them: each error is a 400 that names the field."""

from __future__ import annotations

import functools
import json
import re
from typing import Any, Final

from daemon.domain.errors import ApiError

MODEL_LENGTH: Final = 512
_CAPITAL: Final = re.compile("[A-Z]")


@functools.cache
def snake(name: str) -> str:
    """The other spelling of a field, which the API accepts as well."""
    return _CAPITAL.sub(lambda found: "_" + found[0].lower(), name)


def field(holder: dict[str, Any], name: str) -> Any:
    """The value of a field, however it is spelled; None when it is not given."""
    value = holder.get(name)
    return holder.get(snake(name)) if value is None else value


def invalid(param: str, reason: str) -> ApiError:
    return ApiError.of("invalid_value", param=param, reason=reason)


def missing(param: str) -> ApiError:
    return ApiError.of("missing_required_parameter", param=param)


def unsupported(param: str, what: str, note: str = "") -> ApiError:
    """`what` cannot be translated for this model; `note` is the reason, or the next step."""
    message = f"Unsupported parameter: {what} cannot be used with this model, which another API serves"
    return ApiError.of("unsupported_parameter", param=param, message=f"{message}: {note}." if note else f"{message}.")


def model_of(body: dict[str, Any]) -> str:
    """The model, which the caller takes from the URL."""
    model = body.get("model")
    if model is None or model == "":
        raise missing("model")
    if type(model) is not str or len(model) > MODEL_LENGTH or not model.isprintable() or model.isspace():
        raise invalid("model", f"it must be a string of at most {MODEL_LENGTH} printable characters")
    return model


def optional_text(holder: dict[str, Any], name: str, at: str = "") -> str | None:
    value = field(holder, name)
    if value is not None and type(value) is not str:
        raise invalid(at + name, "it must be a string")
    return value


def required_text(holder: dict[str, Any], name: str, at: str = "") -> str:
    """A string that is not empty."""
    value = optional_text(holder, name, at)
    if not value:
        raise missing(at + name)
    return value


def optional_flag(holder: dict[str, Any], name: str, at: str = "") -> bool | None:
    value = field(holder, name)
    if value is not None and type(value) is not bool:
        raise invalid(at + name, "it must be true or false")
    return value


def optional_number(holder: dict[str, Any], name: str, least: int, most: int, at: str = "") -> float | int | None:
    value = field(holder, name)
    if value is not None and (type(value) not in (int, float) or not least <= value <= most):
        raise invalid(at + name, f"it must be a number from {least} to {most}")
    return value


def optional_integer(holder: dict[str, Any], name: str, least: int, most: int, at: str = "") -> int | None:
    """Also written as 40.0, as the official SDK does it."""
    value = field(holder, name)
    if type(value) is float and value.is_integer():
        value = int(value)
    if value is not None and (type(value) is not int or not least <= value <= most):
        raise invalid(at + name, f"it must be an integer from {least} to {most}")
    return value


def optional_object(holder: dict[str, Any], name: str, at: str = "") -> dict[str, Any] | None:
    value = field(holder, name)
    if value is not None and type(value) is not dict:
        raise invalid(at + name, "it must be an object")
    return value


def optional_list(holder: dict[str, Any], name: str, at: str = "") -> list[Any]:
    """Empty when absent or null. One object may stand for a list of it, as in the API's own examples."""
    value = field(holder, name)
    if value is None:
        return []
    if type(value) is dict:
        return [value]
    if type(value) is not list:
        raise invalid(at + name, "it must be an array")
    return value


def as_object(value: object, param: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise invalid(param, "it must be an object")
    return value


def string_of(holder: dict[str, Any], name: str) -> str:
    """A string of a reply, "" when it is none."""
    value = holder.get(name)
    return value if type(value) is str else ""


def objects_of(holder: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in a list of a reply; what is none is left out."""
    value = holder.get(name)
    return [item for item in value if type(item) is dict] if type(value) is list else []


# Made once: json.dumps makes an encoder for each call with such options.
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def compact(value: object) -> str:
    """JSON text without spaces."""
    return _encode(value)


def json_bytes(value: object) -> bytes:
    """The same as UTF-8; half of a surrogate pair becomes a question mark."""
    return _encode(value).encode("utf-8", "replace")
