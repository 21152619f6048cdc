// The Vercel AI SDK with its providers for OpenAI (responses, chat), OpenAI-compatible hosts, Anthropic and Google.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogle } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { Output, embedMany, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { BREAK_OFF, CASE, HELLO, OVERLOAD, SUM, SYSTEM, add, attempt, conversation, failures, report } from "./steps.mjs";

const v1 = `${CASE.url}/v1`;
const compatible = (apiKey) =>
  createOpenAICompatible({ name: "gateway", baseURL: v1, apiKey, includeUsage: true, supportsStructuredOutputs: true });
const openai = (apiKey) => createOpenAI({ baseURL: v1, apiKey });
const google = (apiKey) => createGoogle({ baseURL: `${CASE.url}/v1beta`, apiKey });
const surfaces = {
  "openai responses": (model, key) => openai(key)(model),
  "openai chat": (model, key) => openai(key).chat(model),
  "openai compatible": (model, key) => compatible(key)(model),
  anthropic: (model, key) => createAnthropic({ baseURL: v1, apiKey: key })(model),
  google: (model, key) => google(key)(model),
};
const once = { maxRetries: 0 };

function said(error) {
  const inner = error.lastError ?? error;
  return [inner.name ?? inner.constructor.name, inner.statusCode ?? null];
}

async function raised(step) {
  try {
    return ["nothing", await step()];
  } catch (error) {
    return said(error);
  }
}

const stepsOf = (make) => (name) => {
  const model = make(name, CASE.key);
  const tools = { add: tool({ description: "Adds.", inputSchema: z.object({ a: z.int(), b: z.int() }), execute: add }) };
  const counts = (usage) => [usage.inputTokens, usage.outputTokens];
  const used = async (result) => {
    const [call] = (await result.steps)[0].toolCalls;
    return [call.toolName, call.input, await result.text];
  };
  const broken = (prompt) =>
    raised(async () => {
      for await (const part of streamText({ model, prompt, ...once, onError() {} }).fullStream) {
        if (part.type === "error") throw part.error;
      }
      return "an end";
    });
  return {
    plain: async () => {
      const reply = await generateText({ model, system: SYSTEM, prompt: HELLO, ...once });
      return [reply.text, reply.finishReason, counts(reply.usage)];
    },
    stream: async () => {
      const reply = streamText({ model, system: SYSTEM, prompt: HELLO, ...once });
      let text = "";
      for await (const piece of reply.textStream) text += piece;
      return [text, await reply.finishReason, counts(await reply.usage)];
    },
    tool: async () => used(await generateText({ model, prompt: SUM, tools, stopWhen: stepCountIs(3), ...once })),
    "streamed tool": async () => used(streamText({ model, prompt: SUM, tools, stopWhen: stepCountIs(3), ...once })),
    structured: async () => {
      const output = Output.object({ schema: z.object({ answer: z.int() }) });
      return (await generateText({ model, prompt: HELLO, output, ...once })).output.answer;
    },
    "broken off": () => broken(BREAK_OFF),
    overloaded: () => broken(OVERLOAD),
  };
};

async function embeddings(model) {
  return (await embedMany({ model, values: ["one", "two"], ...once })).embeddings;
}

const found = {
  "one shot": {
    "openai embedding": await attempt(() => embeddings(openai(CASE.key).embedding(CASE.embedding_model))),
    "compatible embedding": await attempt(() => embeddings(compatible(CASE.key).embeddingModel(CASE.embedding_model))),
  },
};
for (const [name, make] of Object.entries(surfaces)) {
  const call = async (key, model) => (await generateText({ model: make(model, key), prompt: HELLO, ...once })).text;
  found[name] = { models: await conversation(stepsOf(make)), failures: await failures(call, raised) };
}
report(found);
