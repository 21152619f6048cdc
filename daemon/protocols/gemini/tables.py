"""What the Gemini API has, and what becomes of it in a translation. docs/protocols.md is made from these tables.

A row is name -> (fate, note). CARRIED: the canonical conversation holds it. DROPPED: left out, and named in Chat.dropped or
Losses when it was given. REFUSED: 400 unsupported_parameter, because leaving it out would change what the reply means.
Every field may also be written in snake_case, as the API itself accepts it.

To add a field: 1 a row here, 2 its line in decode and encode, 3 a case in the tests. What has no row is ignored.
"""

from __future__ import annotations

from typing import Final

from daemon.domain.chat import Finish

Table = dict[str, tuple[str, str]]

CARRIED: Final = "carried"
DROPPED: Final = "dropped"
REFUSED: Final = "refused"

NAME: Final = "gemini"

# -- a client's request (decode_request)

REQUEST: Final[Table] = {
    "contents": (CARRIED, "roles user, model, function; function responses become messages of their own"),
    "systemInstruction": (CARRIED, "a first message of role system; text only"),
    "tools": (CARRIED, "functionDeclarations; other tools are refused"),
    "toolConfig": (CARRIED, "functionCallingConfig: AUTO, ANY, NONE; VALIDATED is auto; some allowed names shorten the tools"),
    "generationConfig": (CARRIED, "as in the table of generationConfig"),
    "serviceTier": (CARRIED, "standard is default; flex, priority"),
    "labels": (CARRIED, "as metadata"),
    "safetySettings": (DROPPED, "other providers have filters of their own"),
    "store": (DROPPED, "nothing is stored"),
    "toolConfig.retrievalConfig": (DROPPED, "for hosted tools, and there are none"),
    "cachedContent": (REFUSED, "the prompt is stored at Google: send it in `contents`"),
    "modelArmorConfig": (REFUSED, "the reply would not be screened"),
}

CONFIG: Final[Table] = {
    "stopSequences": (CARRIED, ""),
    "maxOutputTokens": (CARRIED, ""),
    "temperature": (CARRIED, ""),
    "topP": (CARRIED, ""),
    "topK": (CARRIED, ""),
    "seed": (CARRIED, ""),
    "candidateCount": (CARRIED, ""),
    "presencePenalty": (CARRIED, ""),
    "frequencyPenalty": (CARRIED, ""),
    "responseLogprobs": (CARRIED, ""),
    "logprobs": (CARRIED, "the number of alternatives"),
    "responseMimeType": (CARRIED, "text/plain, application/json; others are refused"),
    "responseSchema": (CARRIED, "as JSON schema"),
    "responseJsonSchema": (CARRIED, "before responseSchema; also as _responseJsonSchema; enforced where every provider can"),
    "thinkingConfig": (CARRIED, "includeThoughts as summary; thinkingBudget, -1 is adaptive; thinkingLevel as effort"),
    "mediaResolution": (CARRIED, "LOW and HIGH as the detail of images; also on a part"),
    "responseModalities": (CARRIED, "TEXT; IMAGE and AUDIO are refused"),
    "speechConfig": (DROPPED, "has no effect on text"),
    "imageConfig": (DROPPED, "has no effect on text"),
    "audioTimestamp": (DROPPED, "a hint"),
    "enableEnhancedCivicAnswers": (DROPPED, ""),
    "enableAffectiveDialog": (DROPPED, "has no effect on text"),
    "audioTranscriptionConfig": (DROPPED, "has no effect on text"),
    "routingConfig": (REFUSED, "another provider's choice of models"),
    "modelSelectionConfig": (REFUSED, "another provider's choice of models"),
    "responseFormat": (REFUSED, "use responseMimeType and responseJsonSchema"),
    "translationConfig": (REFUSED, ""),
    "continuationToken": (REFUSED, "the reply to be continued is stored at Google"),
}

PARTS: Final[Table] = {
    "text": (CARRIED, "with thought: true a thought"),
    "thoughtSignature": (CARRIED, "on thoughts, calls, texts and media; a sealed proof of another protocol is opened"),
    "inlineData": (CARRIED, "image, audio, video or file by its type; displayName as its name"),
    "fileData": (CARRIED, "a URL, or the id of a file that Google stores"),
    "functionCall": (CARRIED, "args as JSON text; {_raw: text} as that text; without an id it gets one"),
    "functionResponse": (
        CARRIED,
        "output, result or error as text, any other object as JSON; parts; without an id the oldest call",
    ),
    "executableCode": (CARRIED, "as text, fenced"),
    "codeExecutionResult": (CARRIED, "as text, fenced"),
    "mediaResolution": (CARRIED, "as the detail of an image"),
    "partMetadata": (DROPPED, ""),
    "functionResponse.scheduling": (DROPPED, "for live sessions"),
    "functionResponse.willContinue": (DROPPED, "for live sessions"),
    "videoMetadata": (REFUSED, "only a part of the video is meant"),
    "toolCall": (REFUSED, "hosted tool"),
    "toolResponse": (REFUSED, "hosted tool"),
}

TOOLS: Final[Table] = {
    "functionDeclarations": (CARRIED, "name, description, parameters (as JSON schema) or parametersJsonSchema"),
    "functionDeclarations.response": (DROPPED, "what a function returns; also responseJsonSchema"),
    "functionDeclarations.behavior": (DROPPED, "for live sessions"),
    "everything else": (
        REFUSED,
        "tools that Google runs: googleSearch, codeExecution, urlContext, fileSearch, computerUse, ...",
    ),
}

# -- a provider's request (encode_request): fields of the canonical conversation

ENCODED: Final[Table] = {
    "messages": (CARRIED, "results of tools that follow each other become one content; empty texts are left out"),
    "max_output": (CARRIED, "maxOutputTokens"),
    "temperature": (CARRIED, ""),
    "top_p": (CARRIED, ""),
    "top_k": (CARRIED, ""),
    "stop": (CARRIED, ""),
    "n": (CARRIED, "candidateCount"),
    "seed": (CARRIED, ""),
    "presence_penalty": (CARRIED, ""),
    "frequency_penalty": (CARRIED, ""),
    "logprobs": (CARRIED, "responseLogprobs"),
    "top_logprobs": (CARRIED, "logprobs"),
    "tools": (CARRIED, "parametersJsonSchema: the whole JSON schema"),
    "tool_choice": (CARRIED, "required is ANY, a name ANY with allowedFunctionNames; nothing without tools"),
    "output_format": (CARRIED, "responseMimeType and responseJsonSchema; its name and description are of no use"),
    "reasoning": (
        CARRIED,
        "thinkingLevel or thinkingBudget by the model's generation: see models; a summary as includeThoughts",
    ),
    "service_tier": (CARRIED, "default: standard; flex, priority; nothing for auto"),
    "include_usage": (CARRIED, "always told"),
    "include_encrypted": (CARRIED, "always told"),
    "tool.custom": (CARRIED, "as a function with one string, `input`"),
    "tool_call.arguments": (CARRIED, "an object; what is none as {_raw: text}"),
    "tool_call.signature": (CARRIED, "Gemini 3 wants one on the first call of a turn: one that it skips stands in"),
    "tool_result": (CARRIED, "{output: text} or {error: text}; its media in parts since Gemini 3, before beside it"),
    "thinking.signature": (CARRIED, "of Gemini: with the thought, or on the part before it"),
    "refusal": (CARRIED, "as text"),
    "media": (CARRIED, "data inline; a URL or a file of Google's as fileData, its type guessed where it is not told"),
    "assistant.media": (CARRIED, ""),
    "tool.format": (DROPPED, "the grammar of a custom tool"),
    "tool.strict": (DROPPED, "when true: Gemini has no strict functions"),
    "parallel_tool_calls": (DROPPED, "when false: Gemini may call several"),
    "system.position": (DROPPED, "later system messages move to the top"),
    "system.media": (DROPPED, "system messages hold text only"),
    "output_format.tools": (DROPPED, "beside tools, before Gemini 3: asked for in words"),
    "reasoning.effort": (DROPPED, "none is the least where thinking cannot be switched off"),
    "reasoning.model": (DROPPED, "models that do not think"),
    "seed.range": (DROPPED, "a seed that does not fit 32 bits"),
    "metadata": (DROPPED, ""),
    "user": (DROPPED, ""),
    "verbosity": (DROPPED, ""),
    "service_tier.other": (DROPPED, "all but auto, default, flex, priority"),
    "cache_control": (DROPPED, "Gemini caches by itself"),
    "message.name": (DROPPED, ""),
    "media.detail": (DROPPED, "low, high"),
    "media.name": (DROPPED, ""),
    "citations": (DROPPED, "of an earlier reply"),
    "thinking": (DROPPED, "without a proof that Gemini's models can read"),
    "file_id": (REFUSED, "the id of a file that another provider stores"),
}

# -- a provider's reply (decode_reply, decoder): candidates and their parts

OUTPUT: Final[Table] = {
    "text": (CARRIED, "with thought: true a thought"),
    "thoughtSignature": (CARRIED, "of a call with it; of a text or medium as a thought without words after it"),
    "functionCall": (CARRIED, "partialArgs are put together; without an id it gets one made of the reply's id"),
    "inlineData": (CARRIED, "generated media"),
    "fileData": (CARRIED, "the same, by URL"),
    "executableCode": (CARRIED, "as text, fenced"),
    "codeExecutionResult": (CARRIED, "as text, fenced"),
    "groundingMetadata": (CARRIED, "chunks with a URL as citations, with the places in the text that they support"),
    "citationMetadata": (CARRIED, "as citations"),
    "logprobsResult": (CARRIED, "as OpenAI has them"),
    "finishReason": (CARRIED, "FINISH; STOP after calls is tool_calls; what is not known is error"),
    "finishMessage": (CARRIED, "of a filter, as refusal"),
    "promptFeedback": (CARRIED, "blockReason as content_filter, its message as refusal"),
    "usageMetadata": (CARRIED, "serviceTier not in a stream"),
    "createTime": (DROPPED, "when the request came"),
    "everything else": (DROPPED, "safetyRatings, urlContextMetadata, avgLogprobs, hosted tools at work"),
}

# -- a client's reply (encode_reply, encoder): parts of the canonical reply

ENCODED_REPLY: Final[Table] = {
    "text": (CARRIED, ""),
    "refusal": (CARRIED, "as text; the reason is SAFETY"),
    "thinking": (CARRIED, "proofs of other protocols travel sealed in thoughtSignature"),
    "tool_call": (CARRIED, "whole, also in a stream"),
    "citations": (CARRIED, "those with a URL, as groundingMetadata; in a stream at its end"),
    "choices": (CARRIED, "as candidates"),
    "logprobs": (CARRIED, ""),
    "media": (CARRIED, ""),
    "service_tier": (CARRIED, "in usageMetadata, not in a stream: default is standard"),
    "citations.url": (DROPPED, "those without a URL"),
    "stop_sequence": (DROPPED, "which one it was"),
    "thinking.encrypted": (DROPPED, "beside a signature"),
    "created": (DROPPED, "the API has no such field"),
    "pings": (DROPPED, "the official SDK takes a comment for broken JSON"),
}

# -- usage: field -> meter, and what the field includes. docs/usage.md is made from it.

USAGE: Final[Table] = {
    "promptTokenCount": ("input", "what is left of it without the cached and audio tokens, which it includes"),
    "toolUsePromptTokenCount": ("input", "beside promptTokenCount; without its audio tokens"),
    "cachedContentTokenCount": ("cached_input", "where it is missing the sum of cacheTokensDetails"),
    "promptTokensDetails AUDIO": (
        "audio_input",
        "without that of cacheTokensDetails; so is AUDIO of toolUsePromptTokensDetails",
    ),
    "candidatesTokenCount": ("output", "without audio and images, which it includes"),
    "thoughtsTokenCount": ("output", "beside candidatesTokenCount; reported as reasoning too"),
    "candidatesTokensDetails AUDIO": ("audio_output", ""),
    "candidatesTokensDetails IMAGE": ("image_output", ""),
    "totalTokenCount": ("output", "what it has beyond the prompt, where neither candidates nor thoughts are told"),
}

# Why a reply ended.
FINISH: Final[dict[str, Finish]] = {
    "FINISH_REASON_UNSPECIFIED": Finish.STOP,
    "STOP": Finish.STOP,
    "MAX_TOKENS": Finish.LENGTH,
    "CONTINUATION": Finish.LENGTH,
    "SAFETY": Finish.CONTENT_FILTER,
    "RECITATION": Finish.CONTENT_FILTER,
    "BLOCKLIST": Finish.CONTENT_FILTER,
    "PROHIBITED_CONTENT": Finish.CONTENT_FILTER,
    "SPII": Finish.CONTENT_FILTER,
    "IMAGE_SAFETY": Finish.CONTENT_FILTER,
    "IMAGE_PROHIBITED_CONTENT": Finish.CONTENT_FILTER,
    "IMAGE_RECITATION": Finish.CONTENT_FILTER,
    "ESCALATION": Finish.CONTENT_FILTER,
    "MODEL_ARMOR": Finish.CONTENT_FILTER,
    "LANGUAGE": Finish.ERROR,
    "OTHER": Finish.ERROR,
    "MALFORMED_FUNCTION_CALL": Finish.ERROR,
    "MALFORMED_RESPONSE": Finish.ERROR,
    "UNEXPECTED_TOOL_CALL": Finish.ERROR,
    "TOO_MANY_TOOL_CALLS": Finish.ERROR,
    "MISSING_THOUGHT_SIGNATURE": Finish.ERROR,
    "IMAGE_OTHER": Finish.ERROR,
    "NO_IMAGE": Finish.ERROR,
    "PUP_LIMITED_DISABLED": Finish.ERROR,
}
# Some clients ask for enums as numbers.
FINISH_NUMBERS: Final = (
    "FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT",
    "SPII", "MALFORMED_FUNCTION_CALL",
)  # fmt: skip
REASON: Final[dict[Finish | None, str]] = {
    None: "STOP",
    Finish.STOP: "STOP",
    Finish.STOP_SEQUENCE: "STOP",
    Finish.TOOL_CALLS: "STOP",
    Finish.LENGTH: "MAX_TOKENS",
    Finish.PAUSE: "MAX_TOKENS",
    Finish.REFUSAL: "SAFETY",
    Finish.CONTENT_FILTER: "SAFETY",
    Finish.ERROR: "OTHER",
}

EFFORTS: Final = {name.upper(): name for name in ("minimal", "low", "medium", "high", "xhigh")}
TIERS: Final = {"standard": "default", "unspecified": "auto"}
TIERS_ENCODED: Final = {"default": "standard", "standard": "standard", "flex": "flex", "priority": "priority"}
DETAILS: Final = {"MEDIA_RESOLUTION_LOW": "low", "MEDIA_RESOLUTION_HIGH": "high", "MEDIA_RESOLUTION_ULTRA_HIGH": "high"}
