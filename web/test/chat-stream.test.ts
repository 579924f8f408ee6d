import { describe, expect, it } from "vitest";
import { readChat } from "../src/openai/chat-stream";
import type { ChatEvent } from "../src/openai/types";
import type { StreamEvent } from "../src/eloquent";

async function* events(...data: (string | object)[]): AsyncGenerator<StreamEvent> {
  let number = 0;
  for (const item of data) {
    await Promise.resolve();
    number += 1;
    yield { number, transport: "sse", data: typeof item === "string" ? item : JSON.stringify(item) };
  }
}

async function read(...data: (string | object)[]): Promise<ChatEvent[]> {
  const steps: ChatEvent[] = [];
  for await (const step of readChat(events(...data))) steps.push(step);
  return steps.flatMap((step) => {
    if (step.type === "transport") return [];
    // Where the steps are in the stream has a test of its own.
    const { seq, ...rest } = step as ChatEvent & { seq?: number };
    return [rest];
  });
}

const piece = (content: string, finish: string | null = null) => ({
  choices: [{ index: 0, delta: { content }, finish_reason: finish }],
});

describe("readChat", () => {
  it("reads role, text, finish reason, usage with cached tokens, and [DONE]", async () => {
    const usage = { prompt_tokens: 20, completion_tokens: 2, prompt_tokens_details: { cached_tokens: 16 } };
    const steps = await read(
      { choices: [{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }] },
      piece("Hel"),
      piece("lo", "stop"),
      { choices: [], usage },
      "[DONE]",
    );
    expect(steps).toEqual([
      { type: "text", text: "Hel" },
      { type: "text", text: "lo" },
      { type: "usage", usage: { promptTokens: 20, completionTokens: 2, cachedTokens: 16 } },
      { type: "end", finishReason: "stop" },
    ]);
  });

  it("leaves cached tokens out when the server does not tell them", async () => {
    const usage = { prompt_tokens: 3, completion_tokens: 1, prompt_tokens_details: null };
    expect(await read({ choices: [], usage }, "[DONE]")).toContainEqual({
      type: "usage",
      usage: { promptTokens: 3, completionTokens: 1 },
    });
  });

  it("keeps reasoning apart from text", async () => {
    const steps = await read({ choices: [{ delta: { reasoning_content: "hm" } }] }, piece("yes", "stop"));
    expect(steps).toEqual([
      { type: "reasoning", text: "hm" },
      { type: "text", text: "yes" },
      { type: "end", finishReason: "stop" },
    ]);
  });

  it("calls a stream that merely closes interrupted", async () => {
    expect((await read(piece("half an ans"))).at(-1)).toEqual({ type: "interrupted" });
    expect(await read()).toEqual([{ type: "interrupted" }]);
  });

  it("calls a stream complete with a finish reason but no [DONE], and the other way round", async () => {
    expect((await read(piece("a", "length"))).at(-1)).toEqual({ type: "end", finishReason: "length" });
    expect((await read(piece("a"), "[DONE]")).at(-1)).toEqual({ type: "end", finishReason: undefined });
  });

  it("calls an answer that the engine aborted interrupted, [DONE] or not", async () => {
    expect((await read(piece("a", "abort"), "[DONE]")).at(-1)).toEqual({ type: "interrupted" });
  });

  it("recognises an error event and ends with it, whatever follows", async () => {
    const error = { message: "worker w0 died", type: "server_error", code: "worker_lost" };
    const steps = await read(piece("a"), { error }, piece("b"), "[DONE]");
    expect(steps).toEqual([
      { type: "text", text: "a" },
      {
        type: "error",
        failure: {
          kind: "stream",
          title: "The answer was cut off by an error",
          detail: "worker w0 died",
          code: "worker_lost",
        },
      },
    ]);
  });

  it("does not take `error: null` for an error", async () => {
    expect(await read({ ...piece("a", "stop"), error: null })).toEqual([
      { type: "text", text: "a" },
      { type: "end", finishReason: "stop" },
    ]);
  });

  it("ends with an error at an event that is not JSON", async () => {
    const steps = await read(piece("a"), "{not json", "[DONE]");
    expect(steps).toHaveLength(2);
    expect(steps[1]).toMatchObject({
      type: "error",
      failure: { detail: "The server sent an event that is not JSON." },
    });
  });

  it("ignores chunks without choices and values of the wrong kind", async () => {
    const steps = await read("null", "7", { choices: "?" }, { choices: [{ delta: { content: 5 } }] }, "[DONE]");
    expect(steps).toEqual([{ type: "end", finishReason: undefined }]);
  });

  it("tells of every text which event it came from, and when another transport takes over", async () => {
    async function* moved(): AsyncGenerator<StreamEvent> {
      await Promise.resolve();
      yield { number: 4, transport: "sse", data: JSON.stringify(piece("a")) };
      yield { number: 5, transport: "datachannel", data: JSON.stringify(piece("b")) };
      yield { number: 6, transport: "datachannel", data: "[DONE]" };
    }
    const steps: ChatEvent[] = [];
    for await (const step of readChat(moved())) steps.push(step);
    expect(steps).toEqual([
      { type: "transport", transport: "sse" },
      { type: "text", text: "a", seq: 4 },
      { type: "transport", transport: "datachannel" },
      { type: "text", text: "b", seq: 5 },
      { type: "end", finishReason: undefined },
    ]);
  });

  it("reads where the cached tokens came from", async () => {
    const kv = { engine: 64, memory: 0, valkey: 32, computed: 24 };
    const usage = { prompt_tokens: 120, completion_tokens: 1, sluice: { kv } };
    expect(await read({ choices: [], usage }, "[DONE]")).toContainEqual({
      type: "usage",
      usage: {
        promptTokens: 120,
        completionTokens: 1,
        sources: {
          computed: 24,
          tiers: [
            ["engine", 64],
            ["valkey", 32],
          ],
        },
      },
    });
  });
});
