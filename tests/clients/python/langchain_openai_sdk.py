"""LangChain's package for OpenAI: chat completions, responses and embeddings."""

from __future__ import annotations

from functools import partial
from typing import Any

from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_steps import chat_failures, chat_steps
from steps import CASE, attempt, conversation, report


def chat(model: str, key: str = CASE.key, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(base_url=f"{CASE.url}/v1", api_key=key, model=model, max_retries=0, timeout=20, **options)


def embeddings() -> OpenAIEmbeddings:
    # Without the check of lengths it does not ask for a vocabulary from the network.
    return OpenAIEmbeddings(
        base_url=f"{CASE.url}/v1", api_key=CASE.key, model=CASE.embedding_model, check_embedding_ctx_length=False
    )


surfaces = {"chat": chat, "responses": partial(chat, use_responses_api=True, output_version="responses/v1")}
report(
    {
        "one shot": {"embedding": attempt(lambda: embeddings().embed_documents(["one", "two"]))},
        **{
            name: {"models": conversation(chat_steps(make)), "failures": chat_failures(make)} for name, make in surfaces.items()
        },
    }
)
