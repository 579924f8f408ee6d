import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { type Ack, decodeData, encodeAck, type Form, PacketError, type Record } from "../src/eloquent/packets";
import { Reassembler } from "../src/eloquent/reassembler";
import { expand } from "../src/eloquent/records";

/** The vectors that hold for the gateway's implementation too; see docs/eloquent.md. */
function golden(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`../../tests/golden/eloquent/${name}.json`, import.meta.url), "utf8"));
}

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, "hex"));
const hexOf = (packet: Uint8Array | undefined): string | null =>
  packet === undefined ? null : Buffer.from(packet).toString("hex");

interface GoldenRecord {
  readonly kind: Record["kind"];
  readonly payload: string;
  readonly form?: number;
  readonly choice?: number;
}

interface GoldenData {
  readonly type: "data";
  readonly stream: number;
  readonly number: number;
  readonly ack_now: boolean;
  readonly first_form: number;
  readonly forms: readonly Form[];
  readonly runs: readonly { readonly first: number; readonly records: readonly GoldenRecord[] }[];
}

interface GoldenAck {
  readonly type: "ack";
  readonly stream: number;
  readonly echo: number;
  readonly delay_ms: number;
  readonly received: number;
  readonly forms: number;
  readonly next: number;
  readonly ranges: Ack["ranges"];
}

const packets = golden("packets") as {
  readonly valid: readonly {
    readonly name: string;
    readonly hex: string;
    readonly packet: GoldenData | GoldenAck;
  }[];
  readonly malformed: readonly { readonly name: string; readonly hex: string }[];
};

function recordOf(record: GoldenRecord): Record {
  const { kind, payload, form = 0, choice = 0 } = record;
  if (kind === "text") return { kind, payload, form, choice };
  return kind === "end" ? { kind } : { kind, payload };
}

describe("packets", () => {
  for (const { name, hex, packet } of packets.valid) {
    if (packet.type === "data") {
      it(`reads: ${name}`, () => {
        expect(decodeData(bytes(hex))).toEqual({
          stream: packet.stream,
          number: packet.number,
          ackNow: packet.ack_now,
          firstForm: packet.first_form,
          forms: packet.forms,
          runs: packet.runs.map(({ first, records }) => ({ first, records: records.map(recordOf) })),
        });
      });
    } else {
      it(`writes: ${name}`, () => {
        const { type, delay_ms: delayMs, ...ack } = packet;
        expect(hexOf(encodeAck({ ...ack, delayMs }))).toBe(hex);
      });
    }
  }

  it.each(packets.malformed)("refuses: $name", ({ hex }) => {
    expect(() => decodeData(bytes(hex))).toThrow(PacketError);
  });

  it("refuses an acknowledgement: a sender sends data only", () => {
    const ack = packets.valid.find(({ packet }) => packet.type === "ack");
    expect(() => decodeData(bytes(ack?.hex ?? ""))).toThrow(PacketError);
  });
});

interface GoldenStream {
  readonly name: string;
  readonly forms: readonly Form[];
  readonly events: readonly { readonly chunk: string; readonly record: GoldenRecord }[];
}

describe("records", () => {
  it.each(golden("records") as GoldenStream[])("become the events they stand for: $name", ({ forms, events }) => {
    for (const { chunk, record } of events) expect(expand(recordOf(record), forms)).toBe(chunk);
  });

  it("of a form that was never sent are refused", () => {
    expect(() => expand({ kind: "text", payload: "a", form: 0, choice: 0 }, [])).toThrow(/form 0/);
  });
});

interface Step {
  readonly at_ms: number;
  readonly receive?: string;
  readonly deliver?: readonly string[];
  readonly ack: string | null;
  readonly next_ack_at_ms: number | null;
}

interface Sequence {
  readonly name: string;
  readonly stream: number;
  readonly after: number;
  readonly ack_every: number;
  readonly ack_delay_ms: number;
  readonly steps: readonly Step[];
}

describe("reassembler", () => {
  it.each(golden("sequences") as Sequence[])("delivers and acknowledges: $name", (sequence) => {
    const { stream, after, ack_every: ackEvery, ack_delay_ms: ackDelayMs } = sequence;
    const reassembler = new Reassembler(stream, after, { ackEvery, ackDelayMs });
    let expected = after + 1;
    let due: number | null = null;
    for (const step of sequence.steps) {
      const events = step.receive === undefined ? [] : reassembler.receive(decodeData(bytes(step.receive)), step.at_ms);
      expect(events.map(({ data }) => data)).toEqual(step.deliver ?? []);
      for (const { number } of events) expect(number).toBe(expected++);
      // In floating-point seconds, as the vectors were made, the very millisecond may come before the due time.
      if (step.ack !== null || due !== step.at_ms) {
        expect(hexOf(reassembler.nextAck(step.at_ms))).toBe(step.ack);
      }
      expect(reassembler.nextTime ?? null).toBe(step.next_ack_at_ms);
      due = step.next_ack_at_ms;
    }
  });

  it("holds back a bounded number of records behind a gap, and never acknowledges what it dropped", () => {
    const reassembler = new Reassembler(1, 0, { aheadRecords: 2 });
    // Records 2, 3 and 9, each the text chunk {"x":…} kept whole.
    reassembler.receive(decodeData(bytes("10020101" + "0202" + "01027b7d" + "01027b7d" + "0901" + "01027b7d")), 0);
    expect(hexOf(reassembler.nextAck(0))).toBe("1101010001000101" + "02");
  });
});
