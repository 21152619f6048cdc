// OpenAI's SDK: chat completions, responses, and the one-shot endpoints.
import OpenAI, { toFile } from "openai";
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

const client = (apiKey = CASE.key) => new OpenAI({ baseURL: `${CASE.url}/v1`, apiKey, maxRetries: 0, timeout: 20_000 });
const sdk = client();
const ADD = { name: "add", description: "Adds.", parameters: SCHEMA, strict: true };
const ANSWER = {
  name: "answer",
  strict: true,
  schema: { type: "object", properties: { answer: { type: "integer" } }, required: ["answer"], additionalProperties: false },
};

async function collected(stream, last = null) {
  for await (const event of stream) last = event;
  return last?.type ?? null;
}

// ------------------------------------------------------------------------------------ chat completions

function chatSteps(model) {
  const tools = [{ type: "function", function: ADD }];
  const ask = (text = HELLO) => [
    { role: "system", content: SYSTEM },
    { role: "user", content: text },
  ];
  const counts = (usage) => [usage.prompt_tokens, usage.completion_tokens];
  const answered = async (message) => {
    const [call] = message.tool_calls;
    const given = JSON.parse(call.function.arguments);
    const messages = [...ask(SUM), message, { role: "tool", tool_call_id: call.id, content: add(given) }];
    const reply = await sdk.chat.completions.create({ model, messages, tools });
    return [call.function.name, given, reply.choices[0].message.content];
  };
  return {
    plain: async () => {
      const reply = await sdk.chat.completions.create({ model, messages: ask() });
      return [reply.model, reply.choices[0].message.content, reply.choices[0].finish_reason, counts(reply.usage)];
    },
    "request id": async () => identified(await sdk.chat.completions.create({ model, messages: ask() })),
    stream: async () => {
      let [text, finish, usage] = ["", null, null];
      const wanted = { model, messages: ask(), stream: true, stream_options: { include_usage: true } };
      for await (const chunk of await sdk.chat.completions.create(wanted)) {
        for (const { delta, finish_reason } of chunk.choices) {
          [text, finish] = [text + (delta.content ?? ""), finish_reason ?? finish];
        }
        usage = chunk.usage ?? usage;
      }
      return [text, finish, counts(usage)];
    },
    "stream without usage": async () => {
      let text = "";
      const stream = await sdk.chat.completions.create({ model, messages: ask(), stream: true });
      for await (const chunk of stream) text += chunk.choices[0].delta.content ?? "";
      return text;
    },
    tool: async () => answered((await sdk.chat.completions.create({ model, messages: ask(SUM), tools })).choices[0].message),
    "streamed tool": async () => {
      const message = await sdk.chat.completions.stream({ model, messages: ask(SUM), tools }).finalMessage();
      return answered({ role: "assistant", content: null, tool_calls: message.tool_calls });
    },
    structured: async () => {
      const format = { type: "json_schema", json_schema: ANSWER };
      const reply = await sdk.chat.completions.create({ model, messages: ask(), response_format: format });
      return JSON.parse(reply.choices[0].message.content).answer;
    },
    "broken off": () =>
      raised(async () => collected(await sdk.chat.completions.create({ model, messages: ask(BREAK_OFF), stream: true }))),
    overloaded: () =>
      raised(async () => collected(await sdk.chat.completions.create({ model, messages: ask(OVERLOAD), stream: true }))),
  };
}

const chatFailure = (key, model) =>
  client(key).chat.completions.create({ model, messages: [{ role: "user", content: HELLO }] });

// ------------------------------------------------------------------------------------------- responses

function responsesSteps(model) {
  const tools = [{ type: "function", ...ADD }];
  const counts = (usage) => [usage.input_tokens, usage.output_tokens];
  const answered = async (reply) => {
    const [call] = reply.output.filter((item) => item.type === "function_call");
    const given = JSON.parse(call.arguments);
    const output = reply.output.map(({ parsed_arguments, ...item }) => item);
    const result = { type: "function_call_output", call_id: call.call_id, output: add(given) };
    const input = [{ role: "user", content: SUM }, ...output, result];
    return [call.name, given, (await sdk.responses.create({ model, input, tools, store: false })).output_text];
  };
  return {
    plain: async () => {
      const reply = await sdk.responses.create({ model, instructions: SYSTEM, input: HELLO });
      return [reply.model, reply.output_text, reply.status, counts(reply.usage)];
    },
    "request id": async () => identified(await sdk.responses.create({ model, input: HELLO })),
    stream: async () => {
      const stream = sdk.responses.stream({ model, instructions: SYSTEM, input: HELLO });
      let text = "";
      for await (const event of stream) if (event.type === "response.output_text.delta") text += event.delta;
      const reply = await stream.finalResponse();
      return [text, reply.status, counts(reply.usage)];
    },
    tool: async () => answered(await sdk.responses.create({ model, input: SUM, tools, store: false })),
    "streamed tool": async () => {
      const stream = sdk.responses.stream({ model, input: SUM, tools, store: false });
      return answered(await stream.finalResponse());
    },
    structured: async () => {
      const text = { format: { type: "json_schema", ...ANSWER } };
      return JSON.parse((await sdk.responses.create({ model, input: HELLO, text })).output_text).answer;
    },
    "broken off": () => raised(async () => collected(await sdk.responses.create({ model, input: BREAK_OFF, stream: true }))),
    overloaded: () => raised(async () => collected(await sdk.responses.create({ model, input: OVERLOAD, stream: true }))),
  };
}

const responsesFailure = (key, model) => client(key).responses.create({ model, input: HELLO });

// -------------------------------------------------------------------------------------- everything else

async function embedding() {
  const reply = await sdk.embeddings.create({ model: CASE.embedding_model, input: ["one", "two"] }); // base64 on the wire
  return [reply.data.map((one) => one.embedding), reply.usage.prompt_tokens];
}

async function plainEmbedding() {
  const reply = await sdk.embeddings.create({ model: CASE.embedding_model, input: "one", encoding_format: "float" });
  return reply.data[0].embedding;
}

async function speech() {
  const reply = await sdk.audio.speech.create({ model: CASE.speech_model, voice: "alloy", input: "Hello." });
  return Buffer.from(await reply.arrayBuffer()).toString("base64");
}

async function transcription(client) {
  const file = await toFile(Buffer.alloc(300_000, "ID3"), "a.mp3");
  return (await client.audio.transcriptions.create({ model: CASE.transcription_model, file })).text;
}

async function editedImage() {
  const image = await toFile(Buffer.from("PNG"), "a.png", { type: "image/png" });
  return (await sdk.images.edit({ model: CASE.image_model, image, prompt: "a hat", n: 1 })).data[0].b64_json;
}

async function listed() {
  const ids = [];
  for await (const model of sdk.models.list()) ids.push(model.id);
  return ids;
}

report({
  lists: {
    models: await attempt(listed),
    one: await attempt(async () => Promise.all(CASE.names.map(async (name) => (await sdk.models.retrieve(name)).id))),
    unknown: await raised(() => sdk.models.retrieve("no-such-model")),
  },
  chat: { models: await conversation(chatSteps), failures: await failures(chatFailure) },
  responses: { models: await conversation(responsesSteps), failures: await failures(responsesFailure) },
  "one shot": {
    embedding: await attempt(embedding),
    "plain embedding": await attempt(plainEmbedding),
    image: await attempt(
      async () => (await sdk.images.generate({ model: CASE.image_model, prompt: "a cat", n: 1 })).data[0].b64_json,
    ),
    speech: await attempt(speech),
    "edited image": await attempt(editedImage),
    transcription: await attempt(() => transcription(sdk)),
    "refused upload": await raised(() => transcription(client("sk-gw-wrong"))),
  },
});
