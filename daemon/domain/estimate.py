"""Count tokens when an upstream said nothing. Import this module only when needed and call it in a thread.

Where the package bpe-openai is installed (Linux on the usual processors) text is counted with the o200k vocabulary, which
the package carries; without it, by the weights below. Measured on recorded replies whose text is whole (most are short),
the first is off by 1 % in the median and the second by 10 %; over 700 longer texts (prose, code, JSON) the second differs
from the first by 3.4 % in the median and 9 % at the 90th percentile. Models with another vocabulary add their difference.
"""

from __future__ import annotations

import functools
import importlib
import json
import re
from collections.abc import Callable
from typing import Any, Final

from daemon.domain.countable import Countable

__all__ = [
    *(
        "approximate_tokens",
        "count_everything",
        "count_output",
        "count_parts",
        "count_prompt",
        "count_tokens",
        "load_vocabulary",
    ),
    "vocabulary_is_loaded",
]

LONGEST: Final = 4_000_000  # characters of a prompt that are counted; what is beyond weighs the same
PIECE: Final = 64 * 1024  # characters counted at a time, so that no single call holds the interpreter for long
PER_MESSAGE: Final = 4  # the marks around a message, and its role
PER_REPLY: Final = 3  # the marks that open the answer
PER_NAME: Final = 1
PER_TOOL: Final = 8  # a tool is shown to the model as a declaration, not as its JSON
PER_MEDIA: Final = 765  # an image of 1024 x 1024 at high detail; what it really takes depends on host and size
PER_CALL: Final = 8  # the marks around a tool call; several in one answer are wrapped once more
PER_PARALLEL_CALL: Final = 14

# What a piece of text weighs in tokens of o200k: least squares over half of those texts, the alphabets from samples. A
# word comes with the one character before it, as the vocabulary has it.
WORD: Final = {" ": 0.91, "": 0.15}  # after a space; with nothing before it (the rest of a camelCase word)
WORD_AFTER_MARK: Final = 1.41
LONG: Final = 0.165  # each letter from the 8th to the 12th
LETTER: Final = 0.27  # other alphabets, per letter
IDEOGRAPH: Final = 0.75  # Chinese, Japanese, Korean
DIGITS: Final = 1.4  # up to three digits
MARKS: Final = 1.31
MORE_MARKS: Final = 0.21  # each mark in a row after the first
NEWLINE: Final = 2.1
SPACES: Final = 0.63
_PIECES: Final = re.compile(
    r"([^\w\r\n]|_)?([A-Za-z\u00aa-\u024f][a-z\u00aa-\u024f]*|[A-Z]+(?![a-z]))"
    r"| ?([^\W\d_]+)|(\d{1,3})|( ?(?:[^\w\s]|_)+)[\r\n]*|(\s*[\r\n]+)|\s+"
)


def count_tokens(text: str, *, at_once: bool = False) -> int:
    """How many tokens a text is, as near as can be told; at least 1 when it is not empty.

    The first count of a process loads the vocabulary, most of a second. Who can not wait for that asks for a count
    `at_once` and gets the approximation until the vocabulary is there.
    """
    count = approximate_tokens if at_once and not vocabulary_is_loaded() else _counter()
    return sum(count(text[at : at + PIECE]) for at in range(0, len(text), PIECE))


def count_output(text: str, tool_calls: int = 0, characters: int = 0) -> int:
    """The tokens of what was generated. `characters` is its length when `text` holds only a first part of it."""
    tokens = count_tokens(text)
    if characters > len(text) > 0:
        tokens = -(-tokens * characters // len(text))
    return tokens + tool_calls * (PER_CALL if tool_calls == 1 else PER_PARALLEL_CALL)


def count_prompt(body: dict[str, Any], *, at_once: bool = False) -> int:
    """The prompt tokens of a chat request: messages with their marks, tools, schemas, a fixed number per media part.

    `at_once` as in `count_tokens`.
    """
    tokens = PER_REPLY
    texts: list[str] = []
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else []:
        if not isinstance(message, dict):
            continue
        tokens += PER_MESSAGE + (PER_NAME if message.get("name") else 0)
        content = message.get("content")
        for part in content if isinstance(content, list) else [content]:
            text = part.get("text") if isinstance(part, dict) else part
            if isinstance(text, str):
                texts.append(text)
            elif part is not None:
                tokens += PER_MEDIA
        for name in ("name", "tool_calls", "function_call"):
            if value := message.get(name):
                texts.append(value if isinstance(value, str) else json.dumps(value))
    for name in ("tools", "functions"):
        tools = body.get(name)
        if isinstance(tools, list):
            tokens += PER_TOOL * len(tools)
            texts.extend(_declaration(tool) for tool in tools)
    if isinstance(shape := body.get("response_format"), dict) and "json_schema" in shape:
        texts.append(json.dumps(shape["json_schema"]))
    return tokens + sum(count_tokens(text, at_once=at_once) for text in texts)


def count_everything(body: object, *, at_once: bool = False) -> int:
    """The tokens of all texts, names and numbers of a request, wherever they stand: for a bound, as hosts may read fields
    that nobody here knows. Media count as text.
    """
    texts: list[str] = []
    waiting = [body]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            texts.extend(value)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        elif value is not None:
            texts.append(value if isinstance(value, str) else str(value))
    return count_tokens("\n".join(texts), at_once=at_once)


def count_parts(found: Countable) -> int:
    """The prompt tokens of a request that was taken apart already."""
    counted, left, rest = 0, LONGEST, 0
    for text in found.texts:
        counted += count_tokens(text[:left])
        rest += max(0, len(text) - left)
        left = max(0, left - len(text))
    if rest:
        counted += counted * rest // LONGEST
    marks = PER_REPLY + PER_MESSAGE * found.messages + PER_TOOL * found.tools + PER_MEDIA * found.media
    return marks + counted


def _declaration(tool: object) -> str:
    """The part of a tool that a model sees, roughly: names, types and descriptions without the quotes of JSON."""
    function = tool.get("function", tool) if isinstance(tool, dict) else tool
    return re.sub(r'["{}\[\]]', "", json.dumps(function, ensure_ascii=False))


def load_vocabulary() -> None:
    """Most of a second and 123 MB, once in a process. Other threads run on meanwhile."""
    _counter()


def vocabulary_is_loaded() -> bool:
    """Whether counting need not wait."""
    return _counter.cache_info().currsize > 0


@functools.cache
def _counter() -> Callable[[str], int]:
    try:
        bindings = importlib.import_module("bpe_openai._bindings")
        # The package's public Encoding only encodes, and refuses long runs of one character; its binding counts both.
        count: Callable[[str], int] = bindings.tokenizer_for_encoding("o200k_base").count
    except (ImportError, AttributeError):
        return approximate_tokens
    return count


def approximate_tokens(text: str) -> int:
    """The tokens of a text without a vocabulary; at least 1 when it is not empty."""
    total = 0.0
    for before, word, letters, digits, marks, lines in _PIECES.findall(text):
        if word:
            total += WORD.get(before, WORD_AFTER_MARK)
            if len(word) > 7:
                total += (min(len(word), 12) - 7) * LONG
            if len(word) > 40:
                total += (len(word) - 40) / 8
        elif letters:
            total += len(letters) * (IDEOGRAPH if letters[0] >= "\u2e80" else LETTER)
        elif digits:
            total += DIGITS
        elif marks:
            total += MARKS + (len(marks) - 1) * MORE_MARKS
        else:
            total += NEWLINE if lines else SPACES
    return max(1, int(total + 0.5)) if text else 0
