"""Check the fields of a request: each error is a 400 that names the field."""

from __future__ import annotations

from typing import Any, Final

from daemon.domain.errors import ApiError

MODEL_LENGTH: Final = 512


def invalid(param: str, reason: str) -> ApiError:
    return ApiError.of("invalid_value", param=param, reason=reason)


def missing(param: str) -> ApiError:
    return ApiError.of("missing_required_parameter", param=param)


def unsupported(param: str, what: str, note: str = "") -> ApiError:
    """`what` cannot be translated for this model; `note` is the next step, or the reason."""
    message = f"Unsupported parameter: {what} cannot be used with this model, which another API serves"
    return ApiError.of("unsupported_parameter", param=param, message=f"{message}: {note}." if note else f"{message}.")


def model_of(body: dict[str, Any]) -> str:
    model = body.get("model")
    if model is None or model == "":
        raise missing("model")
    if type(model) is not str or len(model) > MODEL_LENGTH or not model.isprintable() or model.isspace():
        raise invalid("model", f"it must be a string of at most {MODEL_LENGTH} printable characters")
    return model


def optional_text(holder: dict[str, Any], name: str, at: str = "") -> str | None:
    value = holder.get(name)
    if value is not None and type(value) is not str:
        raise invalid(at + name, "it must be a string")
    return value


def required_text(holder: dict[str, Any], name: str, at: str = "") -> str:
    value = optional_text(holder, name, at)
    if not value:
        raise missing(at + name)
    return value


def optional_flag(holder: dict[str, Any], name: str, at: str = "") -> bool | None:
    value = holder.get(name)
    if value is not None and type(value) is not bool:
        raise invalid(at + name, "it must be true or false")
    return value


def optional_number(holder: dict[str, Any], name: str, most: int) -> float | int | None:
    value = holder.get(name)
    if value is not None and (type(value) not in (int, float) or not 0 <= value <= most):
        raise invalid(name, f"it must be a number from 0 to {most}")
    return value


def optional_integer(holder: dict[str, Any], name: str, least: int, most: int) -> int | None:
    value = holder.get(name)
    if value is not None and (type(value) is not int or not least <= value <= most):
        raise invalid(name, f"it must be an integer from {least} to {most}")
    return value


def optional_object(holder: dict[str, Any], name: str, at: str = "") -> dict[str, Any] | None:
    value = holder.get(name)
    if value is not None and type(value) is not dict:
        raise invalid(at + name, "it must be an object")
    return value


def optional_list(holder: dict[str, Any], name: str, at: str = "") -> list[Any]:
    """Empty when absent or null."""
    value = holder.get(name)
    if value is None:
        return []
    if type(value) is not list:
        raise invalid(at + name, "it must be an array")
    return value


def as_object(value: object, param: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise invalid(param, "it must be an object")
    return value


def one_of(value: str | None, known: frozenset[str], param: str) -> str | None:
    if value is not None and value not in known:
        raise invalid(param, f"it must be one of {', '.join(sorted(known))}")
    return value
