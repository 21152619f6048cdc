"""The official SDKs against a real daemon, each with models of all four dialects; which of them: see tests.clients.sdks."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

import pytest

from tests.clients.expected import SURFACES, UNKNOWN_MODEL, Surface
from tests.clients.openai_hosts import HEARD, PICTURE, SOUND, VECTOR
from tests.clients.persona import INPUT_TOKENS
from tests.clients.sdks import CHOSEN, report_of
from tests.clients.stage import ALIAS, CHAT, GEMINI, MODELS, Stage, raise_stage

Reports = Callable[[str], dict[str, Any]]
CHOSEN_SURFACES = [surface for surface in SURFACES if surface.sdk in CHOSEN]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ExitStack() as stack:
        made = raise_stage(stack, tmp_path_factory.mktemp("clients") / "home")
        yield made
        verified = made.home.json("ledger", "verify")  # after everything that the clients did
        assert verified["ok"], verified
        assert made.gateway.stop() == 0
        assert [event for event in made.gateway.events if "traceback" in event or "error" in event.get("level", "")] == []


@pytest.fixture(scope="module")
def reports(stage: Stage) -> Reports:
    """An SDK's report; its script runs when it is first asked for."""
    return cache(lambda name: report_of(name, stage))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("surface", CHOSEN_SURFACES, ids=str)
def test_a_conversation_is_the_same_whoever_serves_the_model(reports: Reports, surface: Surface, model: str) -> None:
    assert reports(surface.sdk)[surface.name]["models"][model] == surface.expected(model)


@pytest.mark.parametrize("surface", CHOSEN_SURFACES, ids=str)
def test_refusals_are_the_sdks_own_exceptions(reports: Reports, surface: Surface) -> None:
    assert reports(surface.sdk)[surface.name]["failures"] == surface.failures


@pytest.mark.parametrize("sdk", [name for name in CHOSEN if name in UNKNOWN_MODEL])
def test_models_are_listed_and_retrieved(reports: Reports, sdk: str) -> None:
    found = reports(sdk)["lists"]
    names, one = found["models"], found["one"]
    if sdk == "genai-python":  # its names are resources, and have no `#`
        names, one = ([name.removeprefix("models/").replace("/", "#") for name in listed] for listed in (names, one))
    assert {*MODELS, ALIAS, f"Chat-Host#{CHAT}"} <= set(names)
    assert len(names) == len(set(names))
    assert one == [CHAT, ALIAS, f"gemini-host#{GEMINI}"]
    assert found["unknown"] == UNKNOWN_MODEL[sdk]


@pytest.mark.parametrize("sdk", [name for name in CHOSEN if name.startswith("openai-")])
def test_openais_sdk_embeds_draws_speaks_and_listens(reports: Reports, sdk: str) -> None:
    assert reports(sdk)["one shot"] == {
        "embedding": [[list(VECTOR), list(VECTOR)], INPUT_TOKENS],
        "plain embedding": list(VECTOR),
        "image": PICTURE,
        "speech": base64.b64encode(SOUND).decode(),
        "edited image": PICTURE,
        "transcription": HEARD,
        "refused upload": ["AuthenticationError", 401, "invalid_api_key"],
    }


@pytest.mark.parametrize("sdk", [name for name in CHOSEN if name in ("ai", "langchain-openai")])
def test_other_clients_embed(reports: Reports, sdk: str) -> None:
    found = reports(sdk)["one shot"]
    assert found == {name: [list(VECTOR), list(VECTOR)] for name in found}
    assert found
