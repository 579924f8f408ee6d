import type { Usage } from "../openai/types";
import type { AnswerStats } from "./types";

/** Times one answer. All times are arguments, in milliseconds of any monotonic clock. */
export class Stopwatch {
  readonly #askedAt: number;
  #firstAt: number | null = null;
  #lastAt = 0;
  #pieces = 0;
  #usage: Usage | null = null;

  constructor(askedAt: number) {
    this.#askedAt = askedAt;
  }

  /** Notes that a piece of the answer (text or reasoning) arrived. */
  piece(now: number): void {
    this.#firstAt ??= now;
    this.#lastAt = now;
    this.#pieces += 1;
  }

  usage(usage: Usage): void {
    this.#usage = usage;
  }

  /** Tokens per second counts the gaps after the first token, so it does not include the time to it. */
  stats(): AnswerStats {
    const tokens = this.#usage?.completionTokens ?? this.#pieces;
    const spanMs = this.#firstAt === null ? 0 : this.#lastAt - this.#firstAt;
    return {
      ttftMs: this.#firstAt === null ? null : this.#firstAt - this.#askedAt,
      tokensPerSecond: tokens > 1 && spanMs > 0 ? ((tokens - 1) * 1000) / spanMs : null,
      tokens,
      counted: this.#usage !== null,
      promptTokens: this.#usage?.promptTokens ?? null,
      cachedTokens: this.#usage?.cachedTokens ?? null,
    };
  }
}
