// What the scripts share, as tests/clients/python/steps.py has it: the case, the words, and the report.
export const CASE = JSON.parse(process.env.CLIENT_CASE ?? "{}");
export const [SYSTEM, HELLO, SUM] = ["Be brief.", "Say hello.", "What is 1 + 2?"];
export const [BREAK_OFF, OVERLOAD] = ["Please break off.", "Please overload."];
export const SCHEMA = {
  type: "object",
  properties: { a: { type: "integer" }, b: { type: "integer" } },
  required: ["a", "b"],
  additionalProperties: false,
};
export const add = ({ a, b }) => String(a + b);

// Whether an official SDK found the id by which the operator finds the request.
export const identified = (reply) => `${reply._request_id}`.startsWith("req_");

export async function attempt(step) {
  try {
    return await step();
  } catch (error) {
    return { raised: `${error}`.slice(0, 500), in: `${error.stack}`.split("\n").slice(1, 4).join("|") };
  }
}

// [class, status, code] of what a call throws.
export async function raised(step) {
  try {
    return ["nothing", await step(), null];
  } catch (error) {
    return told(error);
  }
}

export function told(error) {
  const body = error.data ?? error.error ?? {};
  return [error.constructor.name, error.status ?? error.statusCode ?? null, (body.error ?? body).code ?? null];
}

// The steps of each model.
export async function conversation(stepsOf) {
  const models = {};
  for (const model of CASE.models) {
    models[model] = {};
    for (const [name, step] of Object.entries(stepsOf(model))) models[model][name] = await attempt(step);
  }
  return models;
}

// What `call(key, model)` throws for a wrong key, an unknown model, an empty account, a paused provider.
export async function failures(call, how = raised) {
  const [first] = CASE.models;
  return {
    401: await how(() => call("sk-gw-wrong", first)),
    404: await how(() => call(CASE.key, "no-such-model")),
    402: await how(() => call(CASE.poor_key, first)),
    429: await how(() => call(CASE.key, CASE.paused_model)),
  };
}

export const report = (surfaces) => console.log(JSON.stringify(surfaces));
