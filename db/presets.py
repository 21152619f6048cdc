"""Providers whose address is well known: `providers add groq` needs nothing else.

To add one: a line in PRESETS. `prices` is the provider's id in the price data (db.known_models), None when it has none.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """What is known of a provider. `base_url` is what stands before '/chat/completions' ('/messages' for anthropic).

    `chat_api`: 'both' where the provider's documentation says that it serves '/responses' too, 'chat' where it does not.
    """

    slug: str
    name: str
    protocol: str
    base_url: str
    prices: str | None = None
    no_auth: bool = False
    chat_api: str = "chat"


PRESETS: dict[str, Preset] = {
    preset.slug: preset
    for preset in (
        Preset("openai", "OpenAI", "openai", "https://api.openai.com/v1", "openai", chat_api="both"),
        Preset("anthropic", "Claude", "anthropic", "https://api.anthropic.com/v1", "anthropic"),
        Preset("gemini", "Gemini", "gemini", "https://generativelanguage.googleapis.com/v1beta", "google"),
        Preset(
            "gemini-openai", "Gemini-OpenAI", "openai",
            "https://generativelanguage.googleapis.com/v1beta/openai", "google",
        ),
        Preset("groq", "Groq", "openai", "https://api.groq.com/openai/v1", "groq", chat_api="both"),
        Preset("mistral", "Mistral", "openai", "https://api.mistral.ai/v1", "mistral"),
        Preset("deepseek", "DeepSeek", "openai", "https://api.deepseek.com/v1", "deepseek"),
        Preset("openrouter", "OpenRouter", "openai", "https://openrouter.ai/api/v1", "openrouter", chat_api="both"),
        Preset("together", "Together", "openai", "https://api.together.xyz/v1", "together"),
        Preset("fireworks", "Fireworks", "openai", "https://api.fireworks.ai/inference/v1", "fireworks", chat_api="both"),
        Preset("xai", "xAI", "openai", "https://api.x.ai/v1", "x-ai", chat_api="both"),
        Preset("perplexity", "Perplexity", "openai", "https://api.perplexity.ai", "perplexity"),
        Preset("cerebras", "Cerebras", "openai", "https://api.cerebras.ai/v1", "cerebras"),
        Preset("moonshot", "Moonshot", "openai", "https://api.moonshot.ai/v1", "moonshotai"),
        Preset("zai", "Z.ai", "openai", "https://api.z.ai/api/paas/v4", "zai"),
        Preset("minimax", "MiniMax", "openai", "https://api.minimax.io/v1", "minimax"),
        Preset("novita", "Novita", "openai", "https://api.novita.ai/v3/openai", "novita"),
        Preset("nvidia", "NVIDIA", "openai", "https://integrate.api.nvidia.com/v1"),
        Preset("sambanova", "SambaNova", "openai", "https://api.sambanova.ai/v1"),
        Preset("deepinfra", "DeepInfra", "openai", "https://api.deepinfra.com/v1/openai"),
        Preset("hyperbolic", "Hyperbolic", "openai", "https://api.hyperbolic.xyz/v1"),
        Preset("cohere", "Cohere", "openai", "https://api.cohere.ai/compatibility/v1", "cohere"),
        Preset("ollama", "Ollama", "openai", "http://127.0.0.1:11434/v1", no_auth=True, chat_api="both"),
        Preset("vllm", "vLLM", "openai", "http://127.0.0.1:8000/v1", no_auth=True, chat_api="both"),
        Preset("lmstudio", "LM Studio", "openai", "http://127.0.0.1:1234/v1", no_auth=True, chat_api="both"),
        Preset("llamacpp", "llama.cpp", "openai", "http://127.0.0.1:8080/v1", no_auth=True),
        Preset("demo", "Demo", "demo", "", no_auth=True),
    )
}  # fmt: skip
ALIASES = {"google": "gemini", "claude": "anthropic", "x-ai": "xai", "moonshotai": "moonshot"}


def preset(slug: str) -> Preset | None:
    """The preset of that slug, or of another usual name of it."""
    return PRESETS.get(ALIASES.get(slug, slug))


def display_name(slug: str) -> str:
    """The name shown for a provider that was given none, as in Provider#Model."""
    known = preset(slug)
    if known is not None:
        return known.name
    return slug.replace("-", " ").title().replace(" ", "-")
