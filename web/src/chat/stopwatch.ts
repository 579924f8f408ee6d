import type { TransportName, Usage } from "../openai/types";
import { type AnswerStats, STALL_MS } from "./types";

/** An answer that took less time than this came in a piece or two: its rate would tell of buffers, not of the model. */
const LEAST_SPAN_MS = 50;

/** Times one answer. All times are arguments, in milliseconds of any monotonic clock. */
export class Stopwatch {
  readonly #askedAt: number;
  readonly #resumed: boolean;
  #firstAt: number | null = null;
  #lastAt = 0;
  #pieces = 0;
  #usage: Usage | null = null;
  #stalls = 0;
  #longestStallMs = 0;
  readonly #transports: TransportName[] = [];

  /** @param resumed the beginning of the answer went by unseen, so neither its delay nor its speed is known. */
  constructor(askedAt: number, resumed = false) {
    this.#askedAt = askedAt;
    this.#resumed = resumed;
  }

  /** Notes that a piece of the answer (text or reasoning) arrived. */
  piece(now: number): void {
    if (this.#firstAt === null) this.#firstAt = now;
    else this.#gap(now - this.#lastAt);
    this.#lastAt = now;
    this.#pieces += 1;
  }

  usage(usage: Usage): void {
    this.#usage = usage;
  }

  transport(transport: TransportName): void {
    if (this.#transports.at(-1) !== transport) this.#transports.push(transport);
  }

  /** Tokens per second counts the gaps after the first token, so it does not include the time to it. */
  stats(): AnswerStats {
    const tokens = this.#usage?.completionTokens ?? this.#pieces;
    const spanMs = this.#firstAt === null ? 0 : this.#lastAt - this.#firstAt;
    const hasRate = tokens > 1 && spanMs >= LEAST_SPAN_MS && !this.#resumed;
    return {
      ttftMs: this.#firstAt === null || this.#resumed ? null : this.#firstAt - this.#askedAt,
      tokensPerSecond: hasRate ? ((tokens - 1) * 1000) / spanMs : null,
      tokens,
      counted: this.#usage !== null,
      promptTokens: this.#usage?.promptTokens ?? null,
      cachedTokens: this.#usage?.cachedTokens ?? null,
      ...(this.#usage?.sources && { sources: this.#usage.sources }),
      stalls: { count: this.#stalls, longestMs: this.#longestStallMs },
      transports: [...this.#transports],
      ...(this.#resumed && { resumed: true }),
    };
  }

  #gap(ms: number): void {
    if (ms <= STALL_MS) return;
    this.#stalls += 1;
    this.#longestStallMs = Math.max(this.#longestStallMs, ms);
  }
}
