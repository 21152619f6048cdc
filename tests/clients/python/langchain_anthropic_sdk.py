"""LangChain's package for Anthropic: messages."""

from __future__ import annotations

from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_steps import chat_failures, chat_steps
from steps import CASE, conversation, report


def chat(model: str, key: str = CASE.key, **options: Any) -> ChatAnthropic:
    return ChatAnthropic(base_url=CASE.url, api_key=key, model=model, max_retries=0, timeout=20, **options)


report({"messages": {"models": conversation(chat_steps(chat)), "failures": chat_failures(chat)}})
