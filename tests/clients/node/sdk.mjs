// The official SDK against a gateway. Prints one JSON document of what the SDK made of the replies.
import OpenAI from "openai";

const { BASE_URL, API_KEY, POOR_KEY, MODEL, PAUSED_MODEL, DEAD_MODEL } = process.env;
const client = (apiKey) => new OpenAI({ baseURL: BASE_URL, apiKey, maxRetries: 0 });
const sdk = client(API_KEY);
const messages = [{ role: "user", content: "hi" }];
const tool = { type: "function", function: { name: "add", parameters: { type: "object", properties: {} } } };

const models = [];
for await (const model of sdk.models.list()) models.push(model.id);

const chat = await sdk.chat.completions.create({ model: MODEL, messages });

let streamed = "";
for await (const chunk of await sdk.chat.completions.create({ model: MODEL, messages, stream: true })) {
  streamed += chunk.choices[0].delta.content ?? "";
}
let usage = null;
const counted = { model: MODEL, messages, stream: true, stream_options: { include_usage: true } };
for await (const chunk of await sdk.chat.completions.create(counted)) usage = chunk.usage ?? usage;

const called = await sdk.chat.completions.create({ model: MODEL, messages, tools: [tool] });
let argumentsText = "";
for await (const chunk of await sdk.chat.completions.create({ model: MODEL, messages, tools: [tool], stream: true })) {
  argumentsText += chunk.choices[0].delta.tool_calls?.[0]?.function?.arguments ?? "";
}
const json = await sdk.chat.completions.create({ model: MODEL, messages, response_format: { type: "json_object" } });

async function failure(apiKey, body) {
  try {
    await client(apiKey).chat.completions.create({ model: MODEL, messages, ...body });
  } catch (error) {
    const kinds = ["BadRequestError", "AuthenticationError", "NotFoundError", "RateLimitError", "InternalServerError", "APIError"];
    return [kinds.find((kind) => error instanceof OpenAI[kind]), error.status, error.code, error.requestID !== undefined];
  }
  return null;
}

console.log(
  JSON.stringify({
    models,
    retrieved: (await sdk.models.retrieve(MODEL)).id,
    retrieved_hash: (await sdk.models.retrieve(`OpenAI#${MODEL}`)).id,
    text: chat.choices[0].message.content,
    streamed,
    usage,
    tool: called.choices[0].message.tool_calls[0].function,
    finish: called.choices[0].finish_reason,
    streamed_arguments: argumentsText,
    json: JSON.parse(json.choices[0].message.content),
    failures: [
      await failure(API_KEY, { temperature: 3 }),
      await failure("sk-gw-wrong", {}),
      await failure(POOR_KEY, {}),
      await failure(API_KEY, { model: "nope" }),
      await failure(API_KEY, { model: PAUSED_MODEL }),
      await failure(API_KEY, { model: DEAD_MODEL }),
    ],
  }),
);
