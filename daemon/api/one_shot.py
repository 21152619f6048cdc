"""How bodies for endpoints that are no conversation are read: as their dialect has it, and for what changes the price."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from daemon.domain.admission import Ask
from daemon.domain.errors import ApiError
from daemon.protocols import asks, dialects, forms, openai_audio, openai_chat, openai_images
from daemon.protocols.bounds import hosted, stored, unbounded
from daemon.protocols.forms import FormReader
from daemon.protocols.tiers import asked_tier

Reading = Callable[[dict[str, Any], int], Ask]  # a body and its bytes; ApiError 400
ReadingForm = Callable[[FormReader, int], Ask]  # a form that has come whole, and all its bytes; ApiError 400

FIELDS = openai_chat.PRICED_FIELDS | asks.FIELDS
FORM_FIELDS = FIELDS | forms.FIELDS.keys()


# Fields that elsewhere are another price, and here part of the endpoint's own work: a picture's background, speed of speech.
OWN: Final[dict[str, frozenset[str]]] = {
    dialects.OPENAI_IMAGES: frozenset({"background"}),
    dialects.OPENAI_SPEECH: frozenset({"speed"}),
}


def reading(dialect: str, read: Reading) -> Reading:
    """Reads a JSON body, and refuses what would be priced as something else."""

    def checked(body: dict[str, Any], size: int) -> Ask:
        openai_chat.refuse_lookalikes(body, FIELDS)
        return _with_others(read(body, size), without_own(dialect, body))

    return checked


def without_own(dialect: str, body: dict[str, Any]) -> dict[str, Any]:
    """A body without its endpoint's own fields: what else a host might do for it."""
    own = OWN.get(dialect)
    return {name: value for name, value in body.items() if name not in own} if own else body


def _with_others(found: Ask, others: dict[str, Any]) -> Ask:
    return replace(
        found,
        unbounded=(*found.unbounded, *unbounded(others)),
        tier=asked_tier(others)[0],
        hosted=hosted(others),
        stored=stored(others),
    )


def _reading_form(dialect: str, read: ReadingForm) -> ReadingForm:
    def checked(form: FormReader, size: int) -> Ask:
        present = {**dict.fromkeys(form.names, True), **form.fields}
        openai_chat.refuse_lookalikes(present, FORM_FIELDS)
        return _with_others(read(form, size), without_own(dialect, present))

    return checked


def _edit(form: FormReader, size: int) -> Ask:
    return openai_images.read_edit(form.fields, size - form.file_bytes, max(form.images, form.files))


def _transcription(form: FormReader, size: int) -> Ask:
    if form.files == 0 and not any(name in form.fields for name in openai_audio.UNBOUNDED):
        raise asks.missing("file")
    return openai_audio.read_transcription(form.fields, size)


def no_form(body: dict[str, Any], size: int) -> Ask:
    """A JSON body where only a form is read."""
    raise ApiError.of("invalid_value", param="file", reason="the request must be a form (multipart/form-data) with a file")


EDIT_FORM = _reading_form(dialects.OPENAI_IMAGES, _edit)
TRANSCRIPTION_FORM = _reading_form(dialects.OPENAI_TRANSCRIPTION, _transcription)
