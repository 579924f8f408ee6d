import { ChannelPath, type ChannelSource } from "./channel-path";
import type { NumberedEvent } from "./reassembler";
import { isLast } from "./records";
import { type OpenEvents, SsePath } from "./sse-path";

export type Transport = "sse" | "datachannel";

/** An event of an answer, and what brought it. */
export interface StreamEvent extends NumberedEvent {
  readonly transport: Transport;
}

export interface StreamOptions {
  /** Undefined for a stream that the gateway does not keep: one connection carries it or nothing does. */
  readonly streamId: string | undefined;
  /** Number of the last event that is known already. */
  readonly after: number;
  readonly open: OpenEvents;
  /** Undefined: server-sent events alone. */
  readonly channels: ChannelSource | undefined;
}

/**
 * One answer, in order and without gaps, over whatever path works.
 *
 * Server-sent events carry it from the start. A data channel is opened beside them; as soon as it delivers it
 * takes over and the connection is closed. When it falls silent the events are read from the last number on, and
 * whichever comes first goes on. Events that come twice are told by their number.
 */
export class StreamReader {
  readonly #sse: SsePath;
  readonly #channel: ChannelPath | undefined;
  readonly #queue: StreamEvent[] = [];
  #wake: (() => void) | undefined;
  #last: number;
  #ended = false;
  #error: Error | undefined;

  constructor({ streamId, after, open, channels }: StreamOptions) {
    this.#last = after;
    this.#sse = new SsePath(open, streamId !== undefined, {
      last: () => this.#last,
      event: (event) => {
        this.#take([event], "sse");
        this.#channel?.overtaken();
      },
      ended: () => {
        this.#finish();
      },
      failed: (error) => {
        if (!this.#channel?.alive) this.#finish(error);
      },
    });
    if (streamId !== undefined && channels) {
      this.#channel = new ChannelPath(streamId, channels, {
        last: () => this.#last,
        events: (events) => {
          this.#take(events, "datachannel");
          this.#sse.stop();
        },
        ended: (last) => {
          if (this.#last >= last) this.#finish();
          else this.#sse.start();
        },
        silent: () => {
          if (!this.#ended) this.#sse.start();
        },
      });
    }
    this.#sse.start();
    this.#channel?.start();
  }

  /** Number of the last event that was received. */
  get last(): number {
    return this.#last;
  }

  /** The events as they come; ends when the stream does. @throws StreamLostError, RefusedError. */
  async *events(): AsyncGenerator<StreamEvent, void, undefined> {
    try {
      for (;;) {
        const event = this.#queue.shift();
        if (event) yield event;
        else if (this.#error) throw this.#error;
        else if (this.#ended) return;
        else await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      // Whoever leaves the loop early has read enough.
      if (!this.#ended) this.close();
    }
  }

  /** Stops reading; `events` ends. The gateway is not told to stop the answer. */
  close(): void {
    this.#finish();
    this.#sse.stop();
  }

  #take(events: readonly NumberedEvent[], transport: Transport): void {
    for (const { number, data } of events) {
      if (number !== this.#last + 1 || this.#ended) continue;
      this.#last = number;
      this.#queue.push({ number, data, transport });
      if (isLast(data)) this.#finish(undefined, transport);
    }
    this.#wake?.();
  }

  /** A connection that brought the end is read to its own end, so that the gateway sees its answer taken whole. */
  #finish(error?: Error, broughtBy?: Transport): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    if (broughtBy !== "sse") this.#sse.stop();
    this.#channel?.stop();
    this.#wake?.();
  }
}
