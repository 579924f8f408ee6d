// OpenAI's Node SDK against a running gateway. BASE_URL and MODEL are set by test_node_sdk.py.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

const { BASE_URL, MODEL, ALIAS } = process.env;
const client = new OpenAI({ baseURL: `${BASE_URL}/v1`, apiKey: "unused", maxRetries: 0, timeout: 300_000 });
const messages = [{ role: "user", content: "Tell me about the fox and the river." }];
const weather = {
  type: "object",
  properties: { city: { type: "string", enum: ["Paris", "Oslo"] } },
  required: ["city"],
  additionalProperties: false,
};

test("a chat answer, and the request's id", async () => {
  const { data, response, request_id } = await client.chat.completions
    .create({ model: MODEL, messages, max_tokens: 6 })
    .withResponse();
  assert.equal(data.model, MODEL);
  assert.ok(data.choices[0].message.content);
  assert.ok(data.usage.completion_tokens > 0);
  assert.equal(data.id, `chatcmpl-${request_id}`);
  assert.ok(response.headers.get("x-sluice-worker"));
});

test("a chat stream with usage says what the whole answer says", async () => {
  const fields = { model: MODEL, messages, max_tokens: 10, temperature: 0 };
  const whole = await client.chat.completions.create(fields);
  const stream = await client.chat.completions.create({
    ...fields,
    stream: true,
    stream_options: { include_usage: true },
  });
  let text = "";
  let usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
});

test("a stream that the client ends early", async () => {
  const stream = await client.chat.completions.create({
    model: MODEL,
    messages,
    max_tokens: 2000,
    ignore_eos: true,
    stream: true,
  });
  let chunks = 0;
  for await (const chunk of stream) {
    assert.equal(chunk.object, "chat.completion.chunk");
    chunks += 1;
    if (chunks === 3) break;
  }
  assert.equal(chunks, 3);
  assert.ok(stream.controller.signal.aborted);
});

test("a forced tool", async () => {
  const answer = await client.chat.completions.create({
    model: MODEL,
    messages,
    max_tokens: 150,
    seed: 1,
    logit_bias: JSON.parse(process.env.LOGIT_BIAS),
    tools: [{ type: "function", function: { name: "get_weather", parameters: weather, strict: true } }],
    tool_choice: { type: "function", function: { name: "get_weather" } },
  });
  const [call] = answer.choices[0].message.tool_calls;
  assert.equal(call.function.name, "get_weather");
  assert.ok(["Paris", "Oslo"].includes(JSON.parse(call.function.arguments).city));
});

test("structured output", async () => {
  const answer = await client.chat.completions.create({
    model: MODEL,
    messages,
    max_tokens: 200,
    seed: 1,
    response_format: { type: "json_schema", json_schema: { name: "weather", schema: weather, strict: true } },
  });
  assert.ok(["Paris", "Oslo"].includes(JSON.parse(answer.choices[0].message.content).city));
});

test("a completion and its stream", async () => {
  const fields = { model: MODEL, prompt: "The fox went", max_tokens: 6, temperature: 0 };
  const whole = await client.completions.create(fields);
  let text = "";
  for await (const chunk of await client.completions.create({ ...fields, stream: true })) {
    text += chunk.choices[0]?.text ?? "";
  }
  assert.equal(text, whole.choices[0].text);
});

test("a response and its stream", async () => {
  const fields = { model: MODEL, input: "Who lives in the river?", max_output_tokens: 6, temperature: 0 };
  const whole = await client.responses.create(fields);
  assert.ok(whole.output_text);
  const types = [];
  let text = "";
  for await (const event of await client.responses.create({ ...fields, stream: true })) {
    types.push(event.type);
    if (event.type === "response.output_text.delta") text += event.delta;
  }
  assert.equal(types[0], "response.created");
  assert.match(types.at(-1), /^response\.(completed|incomplete)$/);
  assert.equal(text, whole.output_text);
});

test("models and their alias", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.deepEqual(names.sort(), [MODEL, ALIAS].sort());
  assert.equal((await client.models.retrieve(ALIAS)).id, ALIAS);
});

test("errors have the client's own classes", async () => {
  await assert.rejects(client.chat.completions.create({ model: "no-such-model", messages }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    assert.ok(error.requestID);
    return true;
  });
  await assert.rejects(
    client.chat.completions.create({ model: MODEL, messages, max_tokens: "many" }),
    OpenAI.BadRequestError,
  );
});
