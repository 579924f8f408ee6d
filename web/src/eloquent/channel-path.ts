import type { ChannelListener } from "./follower";
import type { NumberedEvent } from "./reassembler";

/** What a stream needs of a connection; `Call` is one. */
export interface Channel {
  follow(streamId: string, after: number, listener: ChannelListener): () => void;
}

/** Where channels come from; `Switchboard` is one. */
export interface ChannelSource {
  /** A channel, or undefined when there is none to be had now. Never throws. */
  connect(): Promise<Channel | undefined>;
  /** Milliseconds until `connect` is worth another try; undefined: for ever. */
  pauseMs(now: number): number | undefined;
}

export interface ChannelPathListener {
  /** Number of the last event that is known, whoever brought it. */
  last(): number;
  events(events: readonly NumberedEvent[]): void;
  /** The stream is over; `last` was its last event. */
  ended(last: number): void;
  /** The channel is silent or gone: the stream has to go on another way. */
  silent(): void;
}

/**
 * A channel that is silent for so long, or for five of its usual gaps, is taken for dead. With nothing to send a
 * gateway still speaks more than twice a second.
 */
const SILENCE_MS = 1_000;
const SILENT_GAPS = 5;
/** Until the first packet: the wish to follow has to get there, and the gateway to act on it. */
const FIRST_SILENCE_MS = 3_000;
const FIRST_PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 30_000;

/** A stream over a data channel: found when there is one, watched, given up, and tried again later. */
export class ChannelPath {
  readonly #streamId: string;
  readonly #source: ChannelSource;
  readonly #listener: ChannelPathListener;
  #unfollow: (() => void) | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #stopped = false;
  #failures = 0;
  #silent = false;
  #heardAt = 0;
  #gapMs = 0;

  constructor(streamId: string, source: ChannelSource, listener: ChannelPathListener) {
    this.#streamId = streamId;
    this.#source = source;
    this.#listener = listener;
  }

  /** Whether it is followed and alive. */
  get alive(): boolean {
    return this.#unfollow !== undefined && !this.#silent;
  }

  /** Looks for a channel and follows the stream over it. */
  start(): void {
    void this.#connect();
  }

  stop(): void {
    this.#stopped = true;
    this.#leave();
  }

  /** Another path has brought an event: a channel that is silent is left, and tried again later. */
  overtaken(): void {
    if (!this.#unfollow || !this.#silent) return;
    this.#leave();
    this.#connectLater();
  }

  async #connect(): Promise<void> {
    const channel = await this.#source.connect();
    if (this.#stopped || this.#unfollow) return;
    if (!channel) {
      const pause = this.#source.pauseMs(performance.now());
      if (pause !== undefined) this.#connectAfter(Math.max(pause, FIRST_PAUSE_MS));
      return;
    }
    this.#silent = false;
    this.#gapMs = 0;
    this.#unfollow = channel.follow(this.#streamId, this.#listener.last(), {
      heard: () => {
        this.#heard();
      },
      events: (events) => {
        this.#listener.events(events);
      },
      ended: (last) => {
        this.#unfollow = undefined;
        clearTimeout(this.#timer);
        this.#listener.ended(last);
      },
      failed: () => {
        this.#unfollow = undefined;
        this.#connectLater();
        this.#listener.silent();
      },
    });
    this.#heardAt = performance.now();
    this.#watch(FIRST_SILENCE_MS);
  }

  #connectLater(): void {
    this.#connectAfter(Math.min(FIRST_PAUSE_MS * 2 ** this.#failures, LONGEST_PAUSE_MS));
    this.#failures += 1;
  }

  #connectAfter(ms: number): void {
    clearTimeout(this.#timer);
    if (this.#stopped) return;
    this.#timer = setTimeout(() => void this.#connect(), ms);
  }

  #heard(): void {
    const now = performance.now();
    this.#gapMs += (now - this.#heardAt - this.#gapMs) / 8;
    this.#heardAt = now;
    this.#silent = false;
    this.#watch(Math.max(SILENCE_MS, SILENT_GAPS * this.#gapMs));
  }

  #watch(ms: number): void {
    clearTimeout(this.#timer);
    if (this.#stopped || !this.#unfollow) return;
    this.#timer = setTimeout(() => {
      this.#silent = true;
      this.#listener.silent();
    }, ms);
  }

  #leave(): void {
    clearTimeout(this.#timer);
    const unfollow = this.#unfollow;
    this.#unfollow = undefined;
    unfollow?.();
  }
}
