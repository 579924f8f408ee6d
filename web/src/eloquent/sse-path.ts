import { StreamLostError, RefusedError } from "./errors";
import type { NumberedEvent } from "./reassembler";
import { isLast } from "./records";

/** Opens a connection that yields the events above `after`. @throws RefusedError when there are none to be had. */
export type OpenEvents = (after: number, signal: AbortSignal) => Promise<AsyncIterable<NumberedEvent>>;

export interface SseListener {
  /** Number of the last event that is known, whoever brought it. */
  last(): number;
  event(event: NumberedEvent): void;
  /** The stream has come to its end. */
  ended(): void;
  /** There is no going on this way. */
  failed(error: Error): void;
}

/** Without an event for so long a stream is lost: the gateway keeps one without readers for 30 s. */
const LOST_MS = 30_000;
const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 3_000;

/** A stream over server-sent events: a connection that breaks is opened again after the last number. */
export class SsePath {
  readonly #open: OpenEvents;
  readonly #kept: boolean;
  readonly #listener: SseListener;
  #abort: AbortController | undefined;
  #failures = 0;
  #brokenSince: number | undefined;

  /** @param kept the gateway keeps the stream, so that it can be read again; else one connection is all. */
  constructor(open: OpenEvents, kept: boolean, listener: SseListener) {
    this.#open = open;
    this.#kept = kept;
    this.#listener = listener;
  }

  /** Begins to read, unless it does already. */
  start(): void {
    if (this.#abort) return;
    this.#abort = new AbortController();
    this.#failures = 0;
    this.#brokenSince = undefined;
    void this.#run(this.#abort.signal);
  }

  stop(): void {
    this.#abort?.abort();
    this.#abort = undefined;
  }

  async #run(signal: AbortSignal): Promise<void> {
    const stopped = (): boolean => signal.aborted;
    while (!stopped()) {
      try {
        const ended = await this.#readOnce(signal);
        if (stopped()) return;
        if (ended) {
          this.#listener.ended();
          return;
        }
      } catch (error) {
        if (stopped()) return;
        const final = this.#verdict(error);
        if (final) {
          this.#abort = undefined;
          this.#listener.failed(final);
          return;
        }
        await pause(Math.min(FIRST_RETRY_MS * 2 ** this.#failures, LONGEST_RETRY_MS), signal);
        this.#failures += 1;
      }
    }
  }

  /** Reads one connection to its end; whether that is the stream's end too. */
  async #readOnce(signal: AbortSignal): Promise<boolean> {
    const events = await this.#open(this.#listener.last(), signal);
    let data: string | undefined;
    for await (const event of events) {
      if (signal.aborted) return false;
      data = event.data;
      this.#brokenSince = undefined;
      this.#failures = 0;
      this.#listener.event(event);
    }
    // A proxy may end a body in the middle of a stream. Asked again, the gateway has nothing more or goes on.
    return !this.#kept || data === undefined || isLast(data);
  }

  #verdict(error: unknown): Error | undefined {
    if (error instanceof RefusedError) return error;
    if (!this.#kept) return error instanceof Error ? error : new Error(String(error));
    this.#brokenSince ??= performance.now();
    if (performance.now() - this.#brokenSince < LOST_MS) return undefined;
    return new StreamLostError("The connection broke and could not be taken up again.");
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const over = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", over);
      resolve();
    };
    const timer = setTimeout(over, ms);
    signal.addEventListener("abort", over);
  });
}
