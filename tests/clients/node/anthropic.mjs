// Anthropic's SDK: messages, counts of tokens, lists of models.
import Anthropic from "@anthropic-ai/sdk";
import {
  BREAK_OFF,
  CASE,
  HELLO,
  OVERLOAD,
  SCHEMA,
  SUM,
  SYSTEM,
  add,
  attempt,
  conversation,
  failures,
  identified,
  raised,
  report,
} from "./steps.mjs";

const client = (apiKey = CASE.key) => new Anthropic({ baseURL: CASE.url, apiKey, maxRetries: 0, timeout: 20_000 });
const sdk = client();
const tools = [{ name: "add", description: "Adds.", input_schema: SCHEMA }];
const answerSchema = {
  type: "object",
  properties: { answer: { type: "integer" } },
  required: ["answer"],
  additionalProperties: false,
};

function messageSteps(model) {
  const ask = (text = HELLO, more = {}) => ({ model, max_tokens: 100, messages: [{ role: "user", content: text }], ...more });
  const said = (reply) => [reply.content[0].text, reply.stop_reason, [reply.usage.input_tokens, reply.usage.output_tokens]];
  const answered = async (reply) => {
    const [call] = reply.content.filter((block) => block.type === "tool_use");
    const body = ask(SUM, { tools });
    body.messages.push({ role: "assistant", content: reply.content });
    body.messages.push({ role: "user", content: [{ type: "tool_result", tool_use_id: call.id, content: add(call.input) }] });
    return [call.name, call.input, (await sdk.messages.create(body)).content[0].text];
  };
  const broken = (text) =>
    raised(async () => {
      for await (const event of await sdk.messages.create(ask(text, { stream: true }))) event;
    });
  return {
    plain: async () => {
      const reply = await sdk.messages.create(ask(HELLO, { system: SYSTEM }));
      return [reply.model, ...said(reply)];
    },
    "request id": async () => identified(await sdk.messages.create(ask())),
    stream: async () => {
      let text = "";
      const stream = sdk.messages.stream(ask(HELLO, { system: SYSTEM })).on("text", (piece) => (text += piece));
      const [, ...rest] = said(await stream.finalMessage());
      return [text, ...rest];
    },
    "version of 2023": async () => {
      const options = { headers: { "anthropic-version": "2023-06-01" } };
      return (await sdk.messages.create(ask(HELLO, { temperature: 0.5 }), options)).content[0].text;
    },
    tool: async () => answered(await sdk.messages.create(ask(SUM, { tools }))),
    "streamed tool": async () => answered(await sdk.messages.stream(ask(SUM, { tools })).finalMessage()),
    structured: async () => {
      const wanted = { output_config: { format: { type: "json_schema", schema: answerSchema } } };
      return JSON.parse((await sdk.messages.create(ask(HELLO, wanted))).content[0].text).answer;
    },
    count: async () => (await sdk.messages.countTokens({ model, messages: ask().messages })).input_tokens > 0,
    "broken off": () => broken(BREAK_OFF),
    overloaded: () => broken(OVERLOAD),
  };
}

const messageFailure = (key, model) =>
  client(key).messages.create({ model, max_tokens: 100, messages: [{ role: "user", content: HELLO }] });

async function listed() {
  const ids = [];
  for await (const model of sdk.models.list({ limit: 3 })) ids.push(model.id); // several pages
  return ids;
}

report({
  lists: {
    models: await attempt(listed),
    one: await attempt(async () => Promise.all(CASE.names.map(async (name) => (await sdk.models.retrieve(name)).id))),
    unknown: await raised(() => sdk.models.retrieve("no-such-model")),
  },
  messages: { models: await conversation(messageSteps), failures: await failures(messageFailure) },
});
