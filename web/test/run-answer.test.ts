import { describe, expect, it } from "vitest";
import type { ChatAction } from "../src/chat/reducer";
import { type Asking, runAnswer } from "../src/chat/run-answer";
import type { ChatAnswer } from "../src/openai/client";
import { GatewayError } from "../src/openai/failure";
import type { ChatEvent, Failure } from "../src/openai/types";

const BUSY: Failure = { kind: "busy", title: "Too many requests", detail: "Wait.", retryAfterS: 3 };

interface Script {
  readonly prepare?: (signal: AbortSignal) => Promise<Asking>;
  readonly resumed?: boolean;
  readonly open?: () => Promise<ChatAnswer>;
  readonly events?: () => AsyncIterable<ChatEvent>;
  readonly abort?: AbortController;
}

/** Runs one answer by hand: `soon` callbacks wait until `flush`, the clock ticks 10 ms at every look. */
function start(script: Script) {
  const actions: ChatAction[] = [];
  const waiting: (() => void)[] = [];
  let now = 0;
  const answer = (): Promise<ChatAnswer> =>
    Promise.resolve({ source: { worker: "w1" }, events: script.events?.() ?? steps() });
  const done = runAnswer({
    conversationId: "c",
    answerId: "a",
    prepare: script.prepare ?? (() => Promise.resolve({ model: "m", open: script.open ?? answer })),
    ...(script.resumed && { resumed: true }),
    signal: (script.abort ?? new AbortController()).signal,
    dispatch: (action) => actions.push(action),
    clock: () => (now += 10),
    wallClock: () => 77,
    soon: (callback) => waiting.push(callback),
  });
  const flush = (): void => {
    for (const callback of waiting.splice(0)) callback();
  };
  return { actions, done, flush };
}

async function* steps(...events: ChatEvent[]): AsyncGenerator<ChatEvent> {
  for (const event of events) {
    await Promise.resolve();
    yield event;
  }
}

const text = (value: string): ChatEvent => ({ type: "text", text: value });

function ending(actions: readonly ChatAction[]) {
  const ended = actions.filter((action) => action.type === "ended");
  expect(ended).toHaveLength(1);
  expect(actions.at(-1)?.type).toBe("ended");
  return ended[0]?.ending;
}

describe("runAnswer", () => {
  it("tells beginning, text and end, with the figures", async () => {
    const usage = { promptTokens: 4, completionTokens: 2, cachedTokens: 0 };
    const events = () => steps(text("a"), text("b"), { type: "usage", usage }, { type: "end", finishReason: "stop" });
    const { actions, done } = start({ events });
    await done;
    expect(actions.map(({ type }) => type)).toEqual(["began", "grew", "ended"]);
    expect(actions[0]).toMatchObject({ model: "m", source: { worker: "w1" } });
    expect(actions[1]).toMatchObject({ text: "ab" });
    expect(ending(actions)).toMatchObject({
      status: "complete",
      finishReason: "stop",
      stats: { tokens: 2, ttftMs: 10 },
    });
  });

  it("gathers pieces until the next frame", async () => {
    const pieces = new TransformStream<ChatEvent, ChatEvent>();
    const writer = pieces.writable.getWriter();
    const { actions, done, flush } = start({ events: () => pieces.readable });
    for (const value of ["a", "b"]) await writer.write(text(value));
    await Promise.resolve();
    flush();
    await writer.write(text("c"));
    await writer.write({ type: "end", finishReason: undefined });
    await writer.close();
    await done;
    expect(actions.flatMap((action) => (action.type === "grew" ? [action.text] : []))).toEqual(["ab", "c"]);
  });

  it("shows a refusal as a failure", async () => {
    const { actions, done } = start({ open: () => Promise.reject(new GatewayError(BUSY)) });
    await done;
    expect(actions.map(({ type }) => type)).toEqual(["ended"]);
    expect(ending(actions)).toMatchObject({ status: "failed", failure: BUSY });
  });

  it("shows a network fault before the answer as a failure, in its middle as an interruption", async () => {
    const before = start({ open: () => Promise.reject(new TypeError("Failed to fetch")) });
    await before.done;
    expect(ending(before.actions)).toMatchObject({ status: "failed", failure: { kind: "network" } });

    async function* reset(): AsyncGenerator<ChatEvent> {
      yield* steps(text("half"));
      throw new TypeError("network error");
    }
    const middle = start({ events: reset });
    await middle.done;
    expect(middle.actions).toContainEqual(expect.objectContaining({ type: "grew", text: "half" }));
    expect(ending(middle.actions)?.status).toBe("interrupted");
  });

  it("tells with the text which step it comes from, and what carried it", async () => {
    const events = () =>
      steps(
        { type: "transport", transport: "sse" },
        { type: "text", text: "a", seq: 2 },
        { type: "transport", transport: "datachannel" },
        { type: "text", text: "b", seq: 3 },
        { type: "end", finishReason: "stop" },
      );
    const { actions, done } = start({ events });
    await done;
    expect(actions[1]).toMatchObject({ type: "grew", text: "ab", after: 3 });
    expect(ending(actions)?.stats.transports).toEqual(["sse", "datachannel"]);
  });

  it("counts an answer that cannot be taken up again as interrupted, with no figures of its beginning", async () => {
    const refused = start({ resumed: true, open: () => Promise.reject(new GatewayError(BUSY)) });
    await refused.done;
    expect(ending(refused.actions)?.status).toBe("interrupted");
    const events = () => steps(text("a"), text("b"), { type: "end", finishReason: "stop" });
    const taken = start({ resumed: true, events });
    await taken.done;
    expect(ending(taken.actions)?.stats).toMatchObject({ ttftMs: null, tokensPerSecond: null, resumed: true });
  });

  it("keeps what arrived when it is stopped, and takes nothing after that", async () => {
    const abort = new AbortController();
    async function* stopped(): AsyncGenerator<ChatEvent> {
      yield text("kept");
      await Promise.resolve();
      abort.abort();
      yield text(" lost");
      throw new DOMException("aborted", "AbortError");
    }
    const { actions, done, flush } = start({ events: stopped, abort });
    await done;
    flush();
    expect(actions.flatMap((action) => (action.type === "grew" ? [action.text] : []))).toEqual(["kept"]);
    expect(ending(actions)?.status).toBe("stopped");
  });

  it("can be stopped while it waits for a worker", async () => {
    const abort = new AbortController();
    const prepare = (signal: AbortSignal): Promise<Asking> =>
      new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => {
          reject(signal.reason as Error);
        });
      });
    const { actions, done } = start({ prepare, abort });
    abort.abort();
    await done;
    expect(ending(actions)?.status).toBe("stopped");
  });
});
