// OpenAI's Node SDK and kept streams. BASE_URL and MODEL are set by test_node_sdk.py.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

const { BASE_URL, MODEL } = process.env;
const client = new OpenAI({ baseURL: `${BASE_URL}/v1`, apiKey: "unused", maxRetries: 0, timeout: 300_000 });
const fields = {
  model: MODEL,
  messages: [{ role: "user", content: "Tell me about the fox and the river." }],
  max_tokens: 12,
  temperature: 0,
  stream: true,
};

async function textOf(stream) {
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  return text;
}

for (const [name, extra, options] of [
  ["a header", {}, { headers: { "x-sluice-stream": "resumable" } }],
  ["a header, with ids", {}, { headers: { "x-sluice-stream": "detached; ids" } }],
  ["the body", { sluice: { stream: "resumable" } }, {}],
  ["the body, with ids", { sluice: { stream: "detached", ids: true } }, {}],
]) {
  test(`a kept stream asked for by ${name}`, async () => {
    const plain = await textOf(await client.chat.completions.create(fields));
    assert.ok(plain);
    const { data, response } = await client.chat.completions.create({ ...fields, ...extra }, options).withResponse();
    assert.equal(await textOf(data), plain);
    const id = response.headers.get("x-sluice-stream-id");
    const again = await client.get(`/streams/${id}`, { stream: true });
    assert.equal(await textOf(again), plain);
  });
}
