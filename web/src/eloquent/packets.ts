/**
 * The Eloquent packets, version 1: what is on the wire. docs/eloquent.md has the byte table; the vectors of
 * tests/golden/eloquent hold for this file and for the gateway's.
 */

const VERSION = 1;
const DATA = 0;
const ACK = 1;
const FORMS_FOLLOW = 1;
const ACK_NOW = 2;
const CHOICE_FOLLOWS = 0x20;
const MAX_NUMBER = 2 ** 32 - 1;
const MAX_FORMS = 4;
const MAX_TEMPLATE_BYTES = 480;
const MAX_PACKET_BYTES = 60_000;
const MAX_CHOICE = 0xffff;
export const MAX_RANGES = 32;

/** What is constant in the chunks of a stream: what stands before, between and behind choice index and text. */
export interface Form {
  readonly prefix: string;
  readonly middle: string;
  readonly suffix: string;
}

/** One event of a stream in its compact form. */
export type Record =
  | { readonly kind: "text"; readonly payload: string; readonly form: number; readonly choice: number }
  | { readonly kind: "json"; readonly payload: string }
  /** An error object; nothing follows. */
  | { readonly kind: "error"; readonly payload: string }
  /** The answer is complete; nothing follows. */
  | { readonly kind: "end" };

/** Records with consecutive numbers. */
export interface Run {
  readonly first: number;
  readonly records: readonly Record[];
}

export interface DataPacket {
  readonly stream: number;
  /** Counts packets, not records. */
  readonly number: number;
  /** The sender wants to hear at once. */
  readonly ackNow: boolean;
  readonly firstForm: number;
  readonly forms: readonly Form[];
  readonly runs: readonly Run[];
}

export interface Ack {
  readonly stream: number;
  /** Highest packet number received, 0 if none. */
  readonly echo: number;
  /** Milliseconds since it was received. */
  readonly delayMs: number;
  /** Different packets received. */
  readonly received: number;
  /** Forms known. */
  readonly forms: number;
  /** The first record missing. */
  readonly next: number;
  /** What arrived above it: first, end exclusive; ascending, not touching. */
  readonly ranges: readonly (readonly [first: number, end: number])[];
}

/** The peer's packet is malformed: it changes nothing. */
export class PacketError extends Error {
  override readonly name = "PacketError";
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Reads one data packet. @throws PacketError, and nothing else, whatever the bytes. */
export function decodeData(packet: Uint8Array): DataPacket {
  const head = packet[0];
  if (head === undefined) throw new PacketError("the packet is empty");
  if (head >> 4 !== VERSION) throw new PacketError(`packet version ${head >> 4} is not ${VERSION}`);
  if (packet.length > MAX_PACKET_BYTES) {
    throw new PacketError(`the packet has ${packet.length} bytes, more than ${MAX_PACKET_BYTES}`);
  }
  if ((head & 15) !== DATA) throw new PacketError(`packet type ${head & 15} is not one that a sender sends`);
  const reader = new Reader(packet, 1);
  const flags = reader.byte();
  if ((flags & ~(FORMS_FOLLOW | ACK_NOW)) !== 0) throw new PacketError(`flags ${flags} are unknown`);
  const stream = reader.number();
  const number = reader.number();
  const { first: firstForm, forms } = flags & FORMS_FOLLOW ? readForms(reader) : { first: 0, forms: [] };
  return { stream, number, ackNow: (flags & ACK_NOW) !== 0, firstForm, forms, runs: readRuns(reader) };
}

function readForms(reader: Reader): { readonly first: number; readonly forms: readonly Form[] } {
  const first = reader.number();
  const count = reader.number();
  if (count === 0 || first + count > MAX_FORMS) {
    throw new PacketError(`${count} forms from ${first} on: a stream has up to ${MAX_FORMS}`);
  }
  let size = 0;
  const part = (): string => {
    const bytes = reader.bytes();
    size += bytes.length;
    return textOf(bytes);
  };
  const forms = Array.from({ length: count }, () => ({ prefix: part(), middle: part(), suffix: part() }));
  if (size > MAX_TEMPLATE_BYTES) throw new PacketError(`the forms are longer than ${MAX_TEMPLATE_BYTES} bytes`);
  return { first, forms };
}

function readRuns(reader: Reader): Run[] {
  const runs: Run[] = [];
  let above = 0;
  while (reader.left > 0) {
    const first = reader.number();
    const count = reader.number();
    if (first <= above || count === 0 || first + count > MAX_NUMBER) {
      throw new PacketError(`records ${first}, ${count} of them, do not follow ${above}`);
    }
    // Every record has a byte at least: a lie about the count costs no memory.
    if (count > reader.left) throw new PacketError("the packet is cut off");
    runs.push({ first, records: Array.from({ length: count }, () => readRecord(reader)) });
    above = first + count;
  }
  return runs;
}

const KINDS = ["text", "json", "error", "end"] as const;

function readRecord(reader: Reader): Record {
  const head = reader.byte();
  const kind = KINDS[head & 7];
  if (kind === undefined || (head & 0xc0) !== 0 || (kind !== "text" && (head & 0xf8) !== 0)) {
    throw new PacketError(`record kind ${head} is unknown`);
  }
  const choice = head & CHOICE_FOLLOWS ? reader.number() : 0;
  if (head & CHOICE_FOLLOWS && (choice === 0 || choice > MAX_CHOICE)) {
    throw new PacketError(`choice index ${choice} is not between 1 and ${MAX_CHOICE}`);
  }
  const bytes = reader.bytes();
  switch (kind) {
    case "text":
      return { kind, payload: textOf(bytes), form: (head >> 3) & 3, choice };
    case "json":
    case "error":
      return { kind, payload: textOf(bytes) };
    case "end":
      if (bytes.length > 0) throw new PacketError("an end record has a payload");
      return { kind };
  }
}

function textOf(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new PacketError("a text is not UTF-8");
  }
}

class Reader {
  readonly #packet: Uint8Array;
  #at: number;

  constructor(packet: Uint8Array, at: number) {
    this.#packet = packet;
    this.#at = at;
  }

  get left(): number {
    return this.#packet.length - this.#at;
  }

  byte(): number {
    const byte = this.#packet[this.#at];
    if (byte === undefined) throw new PacketError("the packet is cut off");
    this.#at += 1;
    return byte;
  }

  /** An unsigned LEB128 in its shortest form below 2**32; by multiplication, since `<<` ends at 31 bits. */
  number(): number {
    let value = 0;
    for (let factor = 1; factor <= 2 ** 28; factor *= 128) {
      const byte = this.byte();
      value += (byte & 0x7f) * factor;
      if (byte >= 0x80) continue;
      if (value > MAX_NUMBER || (byte === 0 && factor > 1)) break;
      return value;
    }
    throw new PacketError("a number is not in its shortest form below 2**32");
  }

  bytes(): Uint8Array {
    const length = this.number();
    if (length > this.left) throw new PacketError("the packet is cut off");
    this.#at += length;
    return this.#packet.subarray(this.#at - length, this.#at);
  }
}

/** The bytes of an acknowledgement. */
export function encodeAck(ack: Ack): Uint8Array<ArrayBuffer> {
  const out = [(VERSION << 4) | ACK];
  for (const value of [ack.stream, ack.echo, ack.delayMs, ack.received, ack.forms, ack.next]) put(out, value);
  let above = ack.next;
  for (const [first, end] of ack.ranges) {
    put(out, first - above);
    put(out, end - first);
    above = end;
  }
  return Uint8Array.from(out);
}

function put(out: number[], value: number): void {
  let rest = value;
  while (rest > 0x7f) {
    out.push((rest % 128) | 0x80);
    rest = Math.floor(rest / 128);
  }
  out.push(rest);
}
