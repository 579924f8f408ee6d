import type { Link } from "./link";

interface Segment {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** When its latest copy was sent. */
  sentAt: number;
  copies: number;
  /** When its latest copy arrives; Infinity when that copy is lost. */
  arrivesAt: number;
  /** When it is sent again, should the latest copy be lost. */
  againAt: number;
  arrived: boolean;
}

/** Linux: the retransmission timeout is the round trip and at least 200 ms more; it doubles with every copy. */
const TIMEOUT_MARGIN_MS = 200;
const LONGEST_TIMEOUT_MS = 10_000;

/**
 * What TCP makes of a link: bytes arrive in order, or not at all until what is missing was sent again.
 *
 * The sender notices a loss as Linux does: by the acknowledgement of something sent later (RACK, after a quarter
 * of a round trip for reordering), else by its timeout. Without I/O: time is an argument, in the link's clock.
 */
export class TcpReceiver {
  readonly #link: Link;
  readonly #segments: Segment[] = [];

  constructor(link: Link) {
    this.#link = link;
  }

  /** The other side sends `bytes` as one segment at `at`. Times must not go back. */
  send(at: number, bytes: Uint8Array<ArrayBuffer>): void {
    const segment = { bytes, sentAt: at, copies: 0, arrivesAt: Infinity, againAt: Infinity, arrived: false };
    this.#transmit(segment, at);
    this.#segments.push(segment);
  }

  /** The next time at which `receive` may return something; undefined when nothing is under way. */
  get nextAt(): number | undefined {
    const first = this.#segments[0];
    if (!first) return undefined;
    return Math.min(...this.#segments.filter(({ arrived }) => !arrived).map(nextEvent));
  }

  /** What the application can read at `at`. */
  receive(at: number): Uint8Array<ArrayBuffer>[] {
    for (let due = this.#earliest(at); due; due = this.#earliest(at)) this.#step(due);
    const ready = this.#segments.findIndex(({ arrived }) => !arrived);
    return this.#segments.splice(0, ready < 0 ? this.#segments.length : ready).map(({ bytes }) => bytes);
  }

  #earliest(at: number): Segment | undefined {
    let found: Segment | undefined;
    for (const segment of this.#segments) {
      if (segment.arrived || nextEvent(segment) > at) continue;
      if (!found || nextEvent(segment) < nextEvent(found)) found = segment;
    }
    return found;
  }

  #step(segment: Segment): void {
    if (segment.arrivesAt > segment.againAt) {
      this.#transmit(segment, segment.againAt);
      return;
    }
    segment.arrived = true;
    const { roundTripMs } = this.#link.settings;
    const noticedAt = segment.arrivesAt + this.#link.delayMs + roundTripMs / 4;
    for (const other of this.#segments) {
      if (other.arrived || other.arrivesAt !== Infinity || other.sentAt > segment.sentAt) continue;
      other.againAt = Math.min(other.againAt, noticedAt);
    }
  }

  #transmit(segment: Segment, at: number): void {
    const { roundTripMs } = this.#link.settings;
    segment.sentAt = at;
    if (this.#link.delivers(at)) {
      // A jittered delay would reorder; TCP would put it in order again.
      segment.arrivesAt = at + this.#link.delayMs;
      segment.againAt = Infinity;
    } else {
      const timeout = Math.min((roundTripMs + TIMEOUT_MARGIN_MS) * 2 ** segment.copies, LONGEST_TIMEOUT_MS);
      segment.arrivesAt = Infinity;
      segment.againAt = at + timeout;
    }
    segment.copies += 1;
  }
}

function nextEvent({ arrivesAt, againAt }: Segment): number {
  return Math.min(arrivesAt, againAt);
}
