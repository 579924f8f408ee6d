export interface LinkSettings {
  readonly roundTripMs: number;
  /** Share of packets lost at any time, 0 to 1. */
  readonly loss: number;
  /** Mean time between two outages, and mean length of one, both exponential. */
  readonly outageEveryMs: number;
  readonly outageMs: number;
}

/** A generator of numbers in [0, 1), the same for the same seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/**
 * A link that is up and down by the clock and loses single packets besides.
 *
 * Outages do not depend on what is sent: whoever uses the link at the same time meets the same ones, which makes
 * two ways of sending comparable. Times are milliseconds of any clock that starts at `startedAt`.
 */
export class Link {
  readonly settings: LinkSettings;
  readonly #random: () => number;
  readonly #packets: () => number;
  /** Times at which the link changes, ascending; it is up before the first. */
  readonly #changes: number[];

  constructor(settings: LinkSettings, seed: number, startedAt = 0) {
    this.settings = settings;
    this.#random = seeded(seed);
    this.#packets = seeded(seed ^ 0x9e3779b9);
    this.#changes = [startedAt + this.#exponential(settings.outageEveryMs)];
  }

  /** One way, in milliseconds. */
  get delayMs(): number {
    return this.settings.roundTripMs / 2;
  }

  isUp(at: number): boolean {
    return this.#indexAfter(at) % 2 === 0;
  }

  /** The first time from `at` on when the link is up. */
  upFrom(at: number): number {
    const index = this.#indexAfter(at);
    return index % 2 === 0 ? at : (this.#changes[index] ?? at);
  }

  /** Whether a packet sent at `at` arrives. Asking twice is sending twice. */
  delivers(at: number): boolean {
    return this.isUp(at) && this.#packets() >= this.settings.loss;
  }

  /** How many changes lie at or before `at`: even while it is up. */
  #indexAfter(at: number): number {
    let last = this.#changes.at(-1) ?? 0;
    while (last <= at) {
      const { outageEveryMs, outageMs } = this.settings;
      last += this.#exponential(this.#changes.length % 2 === 0 ? outageEveryMs : outageMs);
      this.#changes.push(last);
    }
    const index = this.#changes.findLastIndex((change) => change <= at);
    return index + 1;
  }

  #exponential(mean: number): number {
    return -mean * Math.log(1 - this.#random());
  }
}
