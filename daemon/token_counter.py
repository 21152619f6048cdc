"""Counting tokens for the requests of one worker: off the event loop, and never late where somebody waits for an end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from daemon.domain.admission import counted_bound
from daemon.domain.countable import Countable
from daemon.protocols.dialects import OPENAI_CHAT, as_chat_completion


class TokenCounter:
    """The tokeniser and its thread. Its vocabulary is loaded when it is first needed: most workers never need it."""

    def __init__(self) -> None:
        self._patient = ThreadPoolExecutor(1, thread_name_prefix="count-tokens")
        self._urgent = ThreadPoolExecutor(1, thread_name_prefix="count-tokens-at-once")  # never behind a vocabulary's load
        self._loading = False

    async def prompt_bound(self, body: dict[str, Any], dialect: str = OPENAI_CHAT) -> int:
        """The most prompt tokens of a conversation by a real tokeniser, with room for other vocabularies."""
        return counted_bound(await self._run(partial(_count_bound, body, dialect), at_once=False))

    async def estimate_prompt(self, body: dict[str, Any], dialect: str = OPENAI_CHAT, *, at_once: bool) -> int:
        """Prompt tokens as counted, for usage that the upstream did not report.

        `at_once`: somebody waits for an end (a deadline, a cut, a stop), so nobody waits for the vocabulary.
        """
        return await self._run(partial(_count_prompt, body, dialect), at_once)

    async def estimate_text(self, text: str, *, at_once: bool) -> int:
        """Tokens of a text as counted."""
        return await self._run(partial(_count_text, text), at_once)

    async def count_parts(self, found: Countable) -> int:
        """Prompt tokens of a request that was taken apart already; for who asks for nothing else."""
        return await self._run(partial(_count_parts, found), at_once=False)

    def load_no_more(self) -> None:
        """The worker is about to end: what is counted at once from now on is not worth the vocabulary."""
        self._loading = True

    def close(self) -> None:
        """At the end of the worker; what still waits for its turn is dropped."""
        self._patient.shutdown(wait=False, cancel_futures=True)
        self._urgent.shutdown(wait=False, cancel_futures=True)

    async def _run(self, count: Callable[..., int], at_once: bool) -> int:
        if at_once:
            self._load()
        threads = self._urgent if at_once else self._patient
        return await asyncio.get_running_loop().run_in_executor(threads, partial(count, at_once=at_once))

    def _load(self) -> None:
        """Beside what is counted `at_once`: the first such counts of a worker are approximations, the next ones exact."""
        if not self._loading:
            self._loading = True
            self._patient.submit(_load_vocabulary)


def _load_vocabulary() -> None:
    from daemon.domain.estimate import load_vocabulary

    load_vocabulary()


def _count_prompt(body: dict[str, Any], dialect: str, *, at_once: bool) -> int:
    from daemon.domain.estimate import count_everything, count_prompt

    chat = as_chat_completion(dialect, body)
    if chat is body and dialect != OPENAI_CHAT:  # one that only its own dialect can carry
        return count_everything(body, at_once=at_once)
    return count_prompt(chat, at_once=at_once)


def _count_bound(body: dict[str, Any], dialect: str, *, at_once: bool) -> int:
    from daemon.domain.estimate import count_everything

    return max(_count_prompt(body, dialect, at_once=at_once), count_everything(body, at_once=at_once))


def _count_text(text: str, *, at_once: bool) -> int:
    from daemon.domain.estimate import count_tokens

    return count_tokens(text, at_once=at_once)


def _count_parts(found: Countable, *, at_once: bool) -> int:
    from daemon.domain.estimate import count_parts

    return count_parts(found)
