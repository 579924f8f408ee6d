import { type DataPacket, encodeAck, type Form, MAX_RANGES, type Record } from "./packets";
import { expand, isFinal } from "./records";

export interface ReassemblerSettings {
  /** Packets for one acknowledgement. */
  readonly ackEvery: number;
  /** Milliseconds that a packet waits at most for its acknowledgement. */
  readonly ackDelayMs: number;
  /** Most records, and characters in them, that are held back behind a gap. */
  readonly aheadRecords: number;
  readonly aheadSize: number;
}

const DEFAULTS: ReassemblerSettings = { ackEvery: 4, ackDelayMs: 80, aheadRecords: 4096, aheadSize: 1024 * 1024 };

/** Packet numbers below the highest that are still told apart from repeats by the network. */
const WINDOW = 64n;

/** An event of a stream: its number in the gateway's log, and the data behind `data: `. */
export interface NumberedEvent {
  readonly number: number;
  readonly data: string;
}

/**
 * The receiving half of Eloquent: events in order as soon as possible, and few acknowledgements, in time.
 *
 * Packets may come late, twice, in any order, or never. Without I/O: time is an argument, in milliseconds of any
 * monotonic clock.
 */
export class Reassembler {
  readonly stream: number;
  readonly #settings: ReassemblerSettings;
  readonly #forms: Form[] = [];
  readonly #held = new Map<number, Record>();
  #heldSize = 0;
  #next: number;
  #done = false;
  #echo = 0;
  #echoAt = 0;
  #received = 0;
  /** Bit i: packet `#echo - i` was received. */
  #seen = 0n;
  /** Packets since the last acknowledgement. */
  #owed = 0;
  #ackAt: number | undefined;

  /** @param after number of the last event that is known already. */
  constructor(stream: number, after = 0, settings: Partial<ReassemblerSettings> = {}) {
    this.stream = stream;
    this.#next = after + 1;
    this.#settings = { ...DEFAULTS, ...settings };
  }

  /** Number of the next event to deliver. */
  get next(): number {
    return this.#next;
  }

  /** Whether the last event was delivered. */
  get done(): boolean {
    return this.#done;
  }

  /** When `nextAck` has something to send, if no packet comes before; undefined: never. */
  get nextTime(): number | undefined {
    return this.#ackAt;
  }

  /** Takes one packet, as `decodeData` gave it, and returns the events that it completes, in order. */
  receive(data: DataPacket, now: number): NumberedEvent[] {
    if (data.stream !== this.stream) return [];
    this.#count(data.number, now);
    if (data.firstForm <= this.#forms.length) {
      this.#forms.push(...data.forms.slice(this.#forms.length - data.firstForm));
    }
    for (const { first, records } of data.runs) {
      records.forEach((record, index) => {
        this.#take(first + index, record);
      });
    }
    const ready = this.#deliver();
    this.#owed += 1;
    const urgent = data.ackNow || this.#done || this.#held.size > 0 || this.#owed >= this.#settings.ackEvery;
    if (urgent) this.#ackAt = now;
    else this.#ackAt ??= now + this.#settings.ackDelayMs;
    return ready;
  }

  /** The acknowledgement to send now, or undefined. */
  nextAck(now: number): Uint8Array<ArrayBuffer> | undefined {
    if (this.#ackAt === undefined || now < this.#ackAt) return undefined;
    this.#ackAt = undefined;
    this.#owed = 0;
    return encodeAck({
      stream: this.stream,
      echo: this.#echo,
      delayMs: Math.round(now - this.#echoAt),
      received: this.#received,
      forms: this.#forms.length,
      next: this.#next,
      ranges: this.#ranges(),
    });
  }

  /** Events below `following` came another way; returns those that this makes deliverable. */
  skipTo(following: number): NumberedEvent[] {
    while (this.#next < following && !this.#done) {
      this.#release(this.#next);
      this.#next += 1;
    }
    return this.#deliver();
  }

  #count(number: number, now: number): void {
    const ahead = BigInt(number) - BigInt(this.#echo);
    if (ahead > 0n) {
      const shift = ahead < WINDOW ? ahead : WINDOW;
      this.#seen = BigInt.asUintN(Number(WINDOW), (this.#seen << shift) | 1n);
      this.#echo = number;
      this.#echoAt = now;
    } else if (-ahead < WINDOW && ((this.#seen >> -ahead) & 1n) === 0n) {
      this.#seen |= 1n << -ahead;
    } else return;
    this.#received += 1;
  }

  #take(number: number, record: Record): void {
    if (number < this.#next || this.#held.has(number) || this.#done) return;
    const { aheadRecords, aheadSize } = this.#settings;
    const size = sizeOf(record);
    const isTooFar = number - this.#next > aheadRecords || this.#heldSize + size > aheadSize;
    const isUnreadable = record.kind === "text" && record.form >= this.#forms.length;
    // What is not taken is not acknowledged either: it comes again.
    if (isTooFar || isUnreadable) return;
    this.#held.set(number, record);
    this.#heldSize += size;
  }

  #release(number: number): Record | undefined {
    const record = this.#held.get(number);
    if (record && this.#held.delete(number)) this.#heldSize -= sizeOf(record);
    return record;
  }

  #deliver(): NumberedEvent[] {
    const ready: NumberedEvent[] = [];
    while (!this.#done) {
      const record = this.#release(this.#next);
      if (!record) break;
      ready.push({ number: this.#next, data: expand(record, this.#forms) });
      this.#next += 1;
      this.#done = isFinal(record);
    }
    return ready;
  }

  #ranges(): [number, number][] {
    const ranges: [number, number][] = [];
    for (const number of [...this.#held.keys()].sort((a, b) => a - b)) {
      const last = ranges.at(-1);
      if (last?.[1] === number) last[1] = number + 1;
      else if (ranges.length === MAX_RANGES) break;
      else ranges.push([number, number + 1]);
    }
    return ranges;
  }
}

function sizeOf(record: Record): number {
  return record.kind === "end" ? 0 : record.payload.length;
}
