"""What the scripts share: the case that they are given, the words they use, and the report that they print.

A script makes one document, {surface: {"models": {model: {step: result}}, step: result}}. A step that raises is reported with
what it raised, so that one defect doesn't hide the next.
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

CASE = SimpleNamespace(**json.loads(os.environ["CLIENT_CASE"]))
SYSTEM, HELLO, SUM = "Be brief.", "Say hello.", "What is 1 + 2?"
BREAK_OFF, OVERLOAD = "Please break off.", "Please overload."
Step = Callable[[], Any]


def add(a: int, b: int) -> str:
    """What a tool round trip's client does with the call."""
    return str(a + b)


def identified(reply: Any) -> bool:
    """Whether an official SDK found the id by which the operator finds the request."""
    return str(reply._request_id).startswith("req_")


def attempt(step: Step) -> Any:
    try:
        return step()
    except Exception as error:
        [*_, last] = traceback.extract_tb(error.__traceback__)
        return {"raised": f"{type(error).__name__}: {error}"[:500], "in": f"{last.name}: {last.line}"}


def raised(step: Step) -> list[Any]:
    """[class, status, code] of what a call raises."""
    try:
        value = step()
    except Exception as error:
        body = getattr(error, "body", None)
        inner = body.get("error", body) if isinstance(body, dict) else {}
        status = getattr(error, "status_code", None)
        return [type(error).__name__, status, inner.get("code") if isinstance(inner, dict) else None]
    return ["nothing", value, None]


def conversation(steps: Callable[[str], dict[str, Step]]) -> dict[str, Any]:
    """The steps of each model."""
    return {model: {name: attempt(step) for name, step in steps(model).items()} for model in CASE.models}


def failures(call: Callable[[str, str], Any], raised: Callable[[Step], list[Any]] = raised) -> dict[str, Any]:
    """What `call(key, model)` raises for a wrong key, an unknown model, an empty account, a paused provider."""
    first = CASE.models[0]
    cases = {
        "401": ("sk-gw-wrong", first),
        "404": (CASE.key, "no-such-model"),
        "402": (CASE.poor_key, first),
        "429": (CASE.key, CASE.paused_model),
    }
    return {name: attempt(lambda case=case: raised(lambda: call(*case))) for name, case in cases.items()}


def report(surfaces: dict[str, Any]) -> None:
    print(json.dumps(surfaces))
