import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Link, type LinkSettings } from "../src/network/link";
import { type LinkName, LINKS, openLink } from "../src/network/links";
import { linkClock, ShapedNetwork } from "../src/network/shaped";
import { TcpReceiver } from "../src/network/tcp";

const CALM: LinkSettings = { roundTripMs: 100, loss: 0, outageEveryMs: 1e12, outageMs: 1 };

/** A link that loses exactly the packets with the given numbers, counted from 1 in the order of sending. */
class ScriptedLink extends Link {
  #sent = 0;

  constructor(readonly lost: readonly number[]) {
    super(CALM, 1);
  }

  override delivers(): boolean {
    this.#sent += 1;
    return !this.lost.includes(this.#sent);
  }
}

const letter = (name: string): Uint8Array<ArrayBuffer> => Uint8Array.of(name.charCodeAt(0));

/** When each segment can be read: one is sent every `gapMs`, named a, b, c, … */
function arrivals(link: Link, count: number, gapMs: number): Record<string, number> {
  const tcp = new TcpReceiver(link);
  const at: Record<string, number> = {};
  for (let now = 0; now < 60_000 && Object.keys(at).length < count; now++) {
    const index = now / gapMs;
    if (Number.isInteger(index) && index < count) tcp.send(now, letter(String.fromCharCode(97 + index)));
    for (const bytes of tcp.receive(now)) at[String.fromCharCode(...bytes)] = now;
  }
  return at;
}

describe("Link", () => {
  it("is up and down by the clock alone, for the asked share of the time", () => {
    const settings = { roundTripMs: 0, loss: 0, outageEveryMs: 900, outageMs: 100 };
    const [one, other] = [new Link(settings, 7), new Link(settings, 7)];
    let down = 0;
    for (let at = 0; at < 1_000_000; at += 10) {
      const up = one.isUp(at);
      if (at % 70 === 0) expect(other.isUp(at)).toBe(up);
      if (!up) down += 1;
    }
    expect(down / 100_000).toBeGreaterThan(0.08);
    expect(down / 100_000).toBeLessThan(0.12);
  });

  it("tells from when on it is up again", () => {
    const link = new Link({ roundTripMs: 0, loss: 0, outageEveryMs: 100, outageMs: 100 }, 3);
    for (let at = 0; at < 5000; at += 7) {
      const up = link.upFrom(at);
      expect(link.isUp(up)).toBe(true);
      if (link.isUp(at)) expect(up).toBe(at);
      else expect(link.isUp(up - 0.001)).toBe(false);
    }
  });

  it("loses the asked share of the packets", () => {
    const link = new Link({ ...CALM, loss: 0.08 }, 5);
    const lost = Array.from({ length: 20_000 }, (_, at) => link.delivers(at)).filter((arrived) => !arrived).length;
    expect(lost / 20_000).toBeCloseTo(0.08, 1);
  });
});

describe("TcpReceiver", () => {
  it("brings everything half a round trip later where nothing is lost", () => {
    expect(arrivals(new ScriptedLink([]), 3, 20)).toEqual({ a: 50, b: 70, c: 90 });
  });

  it("holds back what comes after a lost segment until that was sent again", () => {
    // b is lost; c arrives at 90, its acknowledgement at 140, and 25 ms later b is sent again.
    expect(arrivals(new ScriptedLink([2]), 5, 20)).toEqual({ a: 50, b: 215, c: 215, d: 215, e: 215 });
  });

  it("sends a last segment again at its timeout, which doubles", () => {
    expect(arrivals(new ScriptedLink([2]), 2, 20)).toEqual({ a: 50, b: 20 + 300 + 50 });
    expect(arrivals(new ScriptedLink([2, 3]), 2, 20)).toEqual({ a: 50, b: 20 + 300 + 600 + 50 });
  });

  it("delivers every byte once and in order, whatever the link does", () => {
    for (const { settings } of LINKS) {
      const tcp = new TcpReceiver(new Link(settings, 11));
      const got: number[] = [];
      for (let now = 0; now < 200 * 20 || tcp.nextAt !== undefined; now++) {
        if (now % 20 === 0 && now < 200 * 20) tcp.send(now, Uint8Array.of(now / 20));
        for (const bytes of tcp.receive(now)) got.push(...bytes);
      }
      expect(got).toEqual(Array.from({ length: 200 }, (_, index) => index));
    }
  });
});

const link = (name: LinkName): Link => openLink(name, linkClock());

describe("ShapedNetwork", () => {
  beforeEach(() => {
    vi.useFakeTimers();
    vi.stubGlobal("fetch", () => Promise.resolve(new Response("whole", { headers: { "x-sluice-worker": "w0" } })));
  });
  afterEach(() => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  it("lets everything through untouched while no link is chosen", async () => {
    const network = new ShapedNetwork();
    const got: string[] = [];
    network.datagrams((datagram: string) => got.push(datagram))("a");
    network.messages((message: string) => got.push(message))("b");
    expect(got).toEqual(["a", "b"]);
    await expect((await network.fetch("/")).text()).resolves.toBe("whole");
  });

  it("brings a response late but whole, with its head", async () => {
    const network = new ShapedNetwork();
    network.use(link("train"));
    const read = network
      .fetch("/")
      .then(async (response) => [response.headers.get("x-sluice-worker"), await response.text()]);
    await vi.advanceTimersByTimeAsync(60_000);
    await expect(read).resolves.toEqual(["w0", "whole"]);
  });

  it("loses datagrams but keeps messages, in their order", async () => {
    const network = new ShapedNetwork();
    network.use(link("crowd"));
    const datagrams: number[] = [];
    const messages: number[] = [];
    const sendDatagram = network.datagrams((datagram: number) => datagrams.push(datagram));
    const sendMessage = network.messages((message: number) => messages.push(message));
    for (let number = 0; number < 300; number++) {
      sendDatagram(number);
      sendMessage(number);
      await vi.advanceTimersByTimeAsync(20);
    }
    await vi.advanceTimersByTimeAsync(10_000);
    expect(messages).toEqual(Array.from({ length: 300 }, (_, number) => number));
    expect(datagrams.length).toBeGreaterThan(200);
    expect(datagrams.length).toBeLessThan(300);
  });

  it("gives what was under way when the link is left in mid-answer", async () => {
    const pieces = new TransformStream<Uint8Array, Uint8Array>(undefined, { highWaterMark: 9 }, { highWaterMark: 9 });
    vi.stubGlobal("fetch", () => Promise.resolve(new Response(pieces.readable)));
    const network = new ShapedNetwork();
    network.use(link("train"));
    const text = network.fetch("/").then((response) => response.text());
    await vi.advanceTimersByTimeAsync(5000);
    const writer = pieces.writable.getWriter();
    await writer.write(letter("a"));
    network.use(undefined);
    await writer.write(letter("b"));
    await writer.close();
    await vi.advanceTimersByTimeAsync(5000);
    await expect(text).resolves.toBe("ab");
  });
});
