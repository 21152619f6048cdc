"""`explain`: a dry run of one request; nothing is sent, held or charged."""

from __future__ import annotations

from typing import Any

import typer

from gatewayctl import context, output
from gatewayctl.context import state


def command(
    key: str = typer.Option(..., "--key", metavar="ID", help="The key that would call: its id or prefix."),
    model: str = typer.Option(..., "--model", metavar="M", help="As the client would write it: id, alias, Provider#Model."),
    max_tokens: int | None = typer.Option(None, "--max-tokens", metavar="N", min=1, help="As the request would say."),
    prompt_tokens: int = typer.Option(1000, "--prompt-tokens", metavar="N", min=0, help="Length of the prompt."),
    n: int = typer.Option(1, "--n", metavar="N", min=1, max=128, help="Answers asked for."),
    stream: bool = typer.Option(False, "--stream", help="As a stream."),
) -> None:
    """Dry run: which deployment would serve a request, at which price, what it would hold; admitted or refused, and why.

    Example: gatewayctl explain --key 1 --model gpt-4o-mini --max-tokens 500
    """
    from gatewayctl.explanation import Question, explain

    context.open_database()
    question = Question(key, model, prompt_tokens=prompt_tokens, max_tokens=max_tokens, n=n, stream=stream)
    found = explain(question, context.settings(), context.master_keys())
    if key.startswith("sk-gw-") and len(key) > 14:
        output.warn("A whole key in arguments is visible to others on this machine: its id is enough")
    if state.json or state.quiet:
        return output.record(found, id="admitted")
    return _print(found)


def _print(found: dict[str, Any]) -> None:
    refusal = found["refusal"]
    if refusal is None:
        output.text("Admitted.")
    else:
        output.text(f"Refused: {refusal['http_status']} {refusal['code']}")
        output.text(f"  {refusal['message']}")
        for reason in _reasons(found) or [refusal["cause"]]:
            output.text(f"  {reason}")
    for title in ("key", "user", "model", "hold", "funds"):
        if found[title] is not None:
            output.text(f"\n{title.capitalize()}")
            output.record(found[title])
    if found["deployments"]:
        output.text("\nDeployments")
        output.rows(found["deployments"], ("try", "provider", "upstream", "state", "priority", "weight", "why"))
    if found["fallbacks"]:
        output.text("\nFallbacks")
        output.rows(found["fallbacks"], ("model", "refusal"))
        if found["served_by"] not in (None, found["model"]["id"]):
            output.text(f"{found['served_by']} stands in: nobody can serve {found['model']['id']} now.")
    if found["prices"]:
        output.text("\nPrices, USD")
        columns = ("meter", "unit", "price", "user", "group", "model", "effective")
        output.rows(found["prices"], columns, right=columns[2:])


def _reasons(found: dict[str, Any]) -> list[str]:
    """Why a model that exists looks to this caller as if it did not, or why a key is not accepted."""
    model, key, user = found["model"], found["key"], found["user"]
    code = found["refusal"]["code"]
    reasons = []
    if code == "invalid_api_key":
        reasons.append(f"The key is {key['status']}.")
    if code == "model_not_found":
        if model is None:
            return ["No model, alias or Provider#Model has this name. See: gatewayctl models list"]
        if not model["enabled"]:
            reasons.append(f"The model is disabled. Run: gatewayctl models enable {model['id']}")
        if not model["granted_by"]:
            groups = ", ".join(user["groups"]) or "no group"
            reasons.append(f"None of the user's groups ({groups}) grants it. Run: gatewayctl groups allow GROUP {model['id']}")
        if not model["on_allow_list"]:
            reasons.append(f"The key's allow-list lacks it. See: gatewayctl keys update {key['id']} --help")
    return reasons
