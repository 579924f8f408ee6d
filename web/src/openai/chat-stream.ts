import { DONE, type StreamEvent, type Transport } from "../eloquent";
import { failureFromEvent } from "./failure";
import { asCount, asText, isObject, parseJson } from "./json";
import type { CacheSources, ChatEvent, Usage } from "./types";

/** Finish reasons with which an engine says that it gave the answer up. */
const GIVEN_UP: ReadonlySet<string> = new Set(["abort", "error"]);

function readUsage(value: unknown): Usage | undefined {
  if (!isObject(value)) return undefined;
  const promptTokens = asCount(value.prompt_tokens);
  const completionTokens = asCount(value.completion_tokens);
  if (promptTokens === undefined || completionTokens === undefined) return undefined;
  const details = value.prompt_tokens_details;
  const cachedTokens = isObject(details) ? asCount(details.cached_tokens) : undefined;
  const sources = readSources(value.sluice);
  return {
    promptTokens,
    completionTokens,
    ...(cachedTokens !== undefined && { cachedTokens }),
    ...(sources && { sources }),
  };
}

/** Reads the gateway's `"sluice": {"kv": {"engine": 512, …, "computed": 40}}`, prompt tokens by tier. */
function readSources(value: unknown): CacheSources | undefined {
  const kv = isObject(value) ? value.kv : undefined;
  if (!isObject(kv)) return undefined;
  const counts = Object.entries(kv).flatMap(([tier, tokens]) => {
    const count = asCount(tokens);
    return count === undefined ? [] : [[tier, count] as const];
  });
  const computed = asCount(kv.computed);
  return {
    ...(computed !== undefined && { computed }),
    tiers: counts.filter(([tier, count]) => tier !== "computed" && count > 0),
  };
}

interface Chunk {
  readonly events: readonly ChatEvent[];
  readonly finishReason?: string;
}

function readChunk(value: unknown, seq: number): Chunk {
  if (!isObject(value)) return { events: [] };
  const events: ChatEvent[] = [];
  const choices: unknown = value.choices;
  const choice: unknown = Array.isArray(choices) ? choices[0] : undefined;
  const delta = isObject(choice) ? choice.delta : undefined;
  if (isObject(delta)) {
    const reasoning = asText(delta.reasoning_content) ?? asText(delta.reasoning);
    if (reasoning !== undefined) events.push({ type: "reasoning", text: reasoning, seq });
    const text = asText(delta.content) ?? asText(delta.refusal);
    if (text !== undefined) events.push({ type: "text", text, seq });
  }
  const usage = readUsage(value.usage);
  if (usage) events.push({ type: "usage", usage });
  const finishReason = isObject(choice) ? asText(choice.finish_reason) : undefined;
  return { events, ...(finishReason !== undefined && { finishReason }) };
}

function readData({ data, number }: StreamEvent): Chunk {
  const value = parseJson(data);
  if (value === undefined) {
    const failure = {
      kind: "stream",
      title: "The answer could not be read",
      detail: "The server sent an event that is not JSON.",
    } as const;
    return { events: [{ type: "error", failure }] };
  }
  const failure = failureFromEvent(value);
  return failure ? { events: [{ type: "error", failure }] } : readChunk(value, number);
}

/** The text in one event of a chat completion stream, reasoning included; "" for one without. */
export function readPiece(data: string): string {
  const { events } = readChunk(parseJson(data), 0);
  return events.map((event) => (event.type === "text" || event.type === "reasoning" ? event.text : "")).join("");
}

/**
 * Turns the events of a chat completion stream into the steps of an answer.
 *
 * A stream is complete when it said `[DONE]` or a finish reason; one that merely closes is `interrupted`.
 * After the last step the rest of the stream is read and ignored, so that the server sees its response
 * taken whole and not a reader that hangs up.
 */
export async function* readChat(events: AsyncIterable<StreamEvent>): AsyncGenerator<ChatEvent, void, undefined> {
  let finishReason: string | undefined;
  let transport: Transport | undefined;
  let settled = false;
  for await (const event of events) {
    if (settled) continue;
    if (event.transport !== transport) {
      transport = event.transport;
      yield { type: "transport", transport };
    }
    if (event.data === DONE) {
      settled = true;
      yield last(finishReason);
      continue;
    }
    const chunk = readData(event);
    finishReason = chunk.finishReason ?? finishReason;
    for (const step of chunk.events) {
      yield step;
      settled ||= step.type === "error";
    }
  }
  if (!settled) yield finishReason === undefined ? { type: "interrupted" } : last(finishReason);
}

function last(finishReason: string | undefined): ChatEvent {
  if (finishReason !== undefined && GIVEN_UP.has(finishReason)) return { type: "interrupted" };
  return { type: "end", finishReason };
}
