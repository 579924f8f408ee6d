import { describe, expect, it } from "vitest";
import { readEvents, type SseEvent, SseOverflowError, SseParser } from "../src/eloquent/sse";

const encoder = new TextEncoder();

function parse(chunks: Uint8Array[]): SseEvent[] {
  const parser = new SseParser();
  return chunks.flatMap((chunk) => parser.push(chunk));
}

function dataOf(text: string): string[] {
  return parse([encoder.encode(text)]).map((event) => event.data);
}

const MIXED =
  "\uFEFF: welcome\r\n" +
  "retry: 250\r\n\r\n" +
  'data: {"choices":[{"delta":{"content":"Grüße 水門 🌊"}}]}\r\n\r\n' +
  ": ping\n" +
  "event: note\rid: 7\rdata: one\rdata:two\rdata\r\r" +
  "data:  two spaces keep one\n\n" +
  "unknown: field\n\n" +
  "data: [DONE]\n\n";

const EXPECTED: SseEvent[] = [
  { event: "message", data: '{"choices":[{"delta":{"content":"Grüße 水門 🌊"}}]}', lastEventId: "" },
  { event: "note", data: "one\ntwo\n", lastEventId: "7" },
  { event: "message", data: " two spaces keep one", lastEventId: "7" },
  { event: "message", data: "[DONE]", lastEventId: "7" },
];

describe("SseParser", () => {
  it("reads comments, every line ending, multi-line data, names and ids", () => {
    expect(parse([encoder.encode(MIXED)])).toEqual(EXPECTED);
  });

  it("gives the same events when the bytes are cut at any one point", () => {
    const bytes = encoder.encode(MIXED);
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(parse([bytes.subarray(0, cut), bytes.subarray(cut)]), `cut at ${cut}`).toEqual(EXPECTED);
    }
  });

  it("gives the same events byte by byte", () => {
    const bytes = encoder.encode(MIXED);
    expect(parse(Array.from(bytes, (_, i) => bytes.subarray(i, i + 1)))).toEqual(EXPECTED);
  });

  it("takes a ping with a single newline between two events", () => {
    expect(dataOf("data: a\n\n: ping\ndata: b\n\n")).toEqual(["a", "b"]);
  });

  it("takes a ping with a blank line, and between the lines of one event", () => {
    expect(dataOf("data: a\n\n: ping\n\ndata: b\n: ping\ndata: c\n\n")).toEqual(["a", "b\nc"]);
  });

  it("emits an empty data line as an event and a block without data not at all", () => {
    expect(dataOf("data\n\nid: 1\n\nevent: x\n\n")).toEqual([""]);
  });

  it("drops a block that the end of the stream cuts short", () => {
    expect(dataOf("data: whole\n\ndata: torn\n")).toEqual(["whole"]);
  });

  it("ignores an id that holds NUL and a retry that is no number", () => {
    const parser = new SseParser();
    const events = parser.push(encoder.encode("id: a\0b\nretry: soon\ndata: x\n\n"));
    expect(events).toEqual([{ event: "message", data: "x", lastEventId: "" }]);
    expect(parser.retry).toBeUndefined();
    parser.push(encoder.encode("retry: 1500\n"));
    expect(parser.retry).toBe(1500);
  });

  it("refuses an event that never ends, whether in one line or in many", () => {
    expect(() => new SseParser(64).push(encoder.encode("data: " + "x".repeat(80)))).toThrow(SseOverflowError);
    const parser = new SseParser(64);
    expect(() => parser.push(encoder.encode("data: 0123456789\n".repeat(8)))).toThrow(/more than 64/);
  });

  it("counts the limit for each event alone", () => {
    const parser = new SseParser(64);
    expect(parser.push(encoder.encode(`data: ${"x".repeat(40)}\n\n`.repeat(5)))).toHaveLength(5);
  });
});

describe("readEvents", () => {
  function bodyOf(chunks: string[], onCancel: () => void = () => undefined): ReadableStream<Uint8Array> {
    let next = 0;
    return new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          const chunk = chunks[next++];
          if (chunk === undefined) controller.close();
          else controller.enqueue(encoder.encode(chunk));
        },
        cancel: onCancel,
      },
      { highWaterMark: 0 },
    );
  }

  it("yields events across chunk borders and ends with the body", async () => {
    const seen: string[] = [];
    for await (const event of readEvents(bodyOf(["data: a\n", "\ndata: b\n\nda", "ta: c\n\n"]))) seen.push(event.data);
    expect(seen).toEqual(["a", "b", "c"]);
  });

  it("cancels the body when the reader leaves early", async () => {
    let cancelled = false;
    const body = bodyOf(["data: a\n\n", "data: b\n\n"], () => (cancelled = true));
    for await (const event of readEvents(body)) {
      expect(event.data).toBe("a");
      break;
    }
    expect(cancelled).toBe(true);
  });

  it("passes an error of the body on", async () => {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.error(new TypeError("connection reset"));
      },
    });
    await expect(readEvents(body).next()).rejects.toThrow("connection reset");
  });
});
