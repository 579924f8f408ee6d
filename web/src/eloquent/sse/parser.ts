/**
 * Server-sent events, from bytes to events, without I/O.
 *
 * Follows the "event stream" grammar of the WHATWG HTML standard: lines end in LF, CR or CRLF, `:` starts a
 * comment, several `data:` lines are joined with LF, and a block that the end of the stream cuts short is
 * dropped. Bytes may be split anywhere, inside a UTF-8 sequence or between CR and LF included.
 */

export interface SseEvent {
  /** The event's name; "message" when the server gave none. */
  readonly event: string;
  readonly data: string;
  /** The last event id seen on the stream so far, for resuming; "" when the server sent none. */
  readonly lastEventId: string;
}

export class SseOverflowError extends Error {
  override readonly name = "SseOverflowError";

  constructor(readonly limit: number) {
    super(`The server sent one event of more than ${limit} characters; the stream was given up.`);
  }
}

const LF = 0x0a;
const CR = 0x0d;
const DEFAULT_LIMIT = 8 * 1024 * 1024;

export class SseParser {
  readonly #decoder = new TextDecoder("utf-8");
  readonly #limit: number;
  #line = "";
  #afterCr = false;
  #data: string[] = [];
  #size = 0;
  #event = "";
  #lastEventId = "";
  #retry: number | undefined;

  /** @param limit most characters one event (and its unfinished line) may hold before SseOverflowError. */
  constructor(limit: number = DEFAULT_LIMIT) {
    this.#limit = limit;
  }

  /** Reconnection delay in milliseconds that the server asked for, if it did. */
  get retry(): number | undefined {
    return this.#retry;
  }

  /** Takes the next bytes of the stream and returns the events they complete, oldest first. */
  push(bytes: Uint8Array): SseEvent[] {
    const text = this.#decoder.decode(bytes, { stream: true });
    const events: SseEvent[] = [];
    let start = 0;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code === LF && this.#afterCr) {
        this.#afterCr = false;
        start = i + 1;
        continue;
      }
      this.#afterCr = code === CR;
      if (code !== LF && code !== CR) continue;
      this.#takeLine(this.#line + text.slice(start, i), events);
      this.#line = "";
      start = i + 1;
    }
    this.#line += text.slice(start);
    this.#checkSize(this.#size + this.#line.length);
    return events;
  }

  #takeLine(line: string, events: SseEvent[]): void {
    if (line === "") {
      this.#dispatch(events);
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const rest = colon < 0 ? "" : line.slice(colon + 1);
    this.#takeField(field, rest.startsWith(" ") ? rest.slice(1) : rest);
  }

  #takeField(field: string, value: string): void {
    switch (field) {
      case "data":
        this.#size += value.length + 1;
        this.#checkSize(this.#size);
        this.#data.push(value);
        break;
      case "event":
        this.#event = value;
        break;
      case "id":
        if (!value.includes("\0")) this.#lastEventId = value;
        break;
      case "retry":
        if (/^\d+$/.test(value)) this.#retry = Number(value);
        break;
      default:
        // The standard: unknown fields are ignored.
        break;
    }
  }

  #dispatch(events: SseEvent[]): void {
    if (this.#data.length > 0) {
      events.push({
        event: this.#event === "" ? "message" : this.#event,
        data: this.#data.join("\n"),
        lastEventId: this.#lastEventId,
      });
    }
    this.#data = [];
    this.#size = 0;
    this.#event = "";
  }

  #checkSize(size: number): void {
    if (size > this.#limit) throw new SseOverflowError(this.#limit);
  }
}
