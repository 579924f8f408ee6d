import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Channel, ChannelSource } from "../src/eloquent/channel-path";
import { RefusedError, StreamLostError } from "../src/eloquent/errors";
import type { ChannelListener } from "../src/eloquent/follower";
import type { NumberedEvent } from "../src/eloquent/reassembler";
import { StreamReader } from "../src/eloquent/stream";

const event = (number: number): NumberedEvent => ({ number, data: `e${number}` });
const done = (number: number): NumberedEvent => ({ number, data: "[DONE]" });

/** One connection of server-sent events, played by hand. */
class Connection implements AsyncIterable<NumberedEvent> {
  readonly #pieces = new TransformStream<NumberedEvent, NumberedEvent>(
    undefined,
    { highWaterMark: 100 },
    { highWaterMark: 100 },
  );
  readonly #writer = this.#pieces.writable.getWriter();

  constructor(
    readonly after: number,
    readonly signal: AbortSignal,
  ) {}

  send(...events: NumberedEvent[]): Promise<unknown> {
    // Who has let go of a connection reads no more of it.
    return Promise.allSettled(events.map((one) => this.#writer.write(one)));
  }

  end(): Promise<void> {
    return this.#writer.close();
  }

  reset(): Promise<void> {
    return this.#writer.abort(new TypeError("network error"));
  }

  [Symbol.asyncIterator](): AsyncIterator<NumberedEvent> {
    return this.#pieces.readable[Symbol.asyncIterator]();
  }
}

/** A data channel, played by hand. */
class HandChannel implements Channel, ChannelSource {
  readonly follows: { readonly streamId: string; readonly after: number; readonly listener: ChannelListener }[] = [];
  unfollowed = 0;
  available = true;

  follow(streamId: string, after: number, listener: ChannelListener): () => void {
    this.follows.push({ streamId, after, listener });
    return () => (this.unfollowed += 1);
  }

  connect(): Promise<Channel | undefined> {
    return Promise.resolve(this.available ? this : undefined);
  }

  pauseMs(): number | undefined {
    return this.available ? 0 : undefined;
  }

  get listener(): ChannelListener {
    const last = this.follows.at(-1);
    if (!last) throw new Error("Nobody follows.");
    return last.listener;
  }

  deliver(...events: NumberedEvent[]): void {
    this.listener.heard();
    this.listener.events(events);
  }
}

interface Play {
  readonly reader: StreamReader;
  readonly connections: Connection[];
  readonly channel: HandChannel;
  readonly got: string[];
  readonly transports: string[];
  readonly whole: Promise<void>;
  /** What `open` throws from now on. */
  refusal: Error | undefined;
}

function start({ kept = true, withChannel = true } = {}): Play {
  const connections: Connection[] = [];
  const channel = new HandChannel();
  channel.available = withChannel;
  const got: string[] = [];
  const transports: string[] = [];
  const play: { refusal: Error | undefined } = { refusal: undefined };
  const reader = new StreamReader({
    streamId: kept ? "st" : undefined,
    after: 0,
    channels: channel,
    open: (after, signal) => {
      if (play.refusal) return Promise.reject(play.refusal);
      const connection = new Connection(after, signal);
      connections.push(connection);
      return Promise.resolve(connection);
    },
  });
  const whole = (async () => {
    for await (const { number, data, transport } of reader.events()) {
      got.push(`${number}:${data}`);
      transports.push(transport);
    }
  })();
  whole.catch(() => undefined);
  return Object.assign(play, { reader, connections, channel, got, transports, whole });
}

/** Lets everything happen that needs no time. */
async function settle(ms = 0): Promise<void> {
  await vi.advanceTimersByTimeAsync(ms);
  for (let i = 0; i < 30; i++) await Promise.resolve();
  await vi.advanceTimersByTimeAsync(0);
}

function first({ connections }: Play): Connection {
  const [connection] = connections;
  if (!connection) throw new Error("Nothing was opened.");
  return connection;
}

function latest({ connections }: Play): Connection {
  const connection = connections.at(-1);
  if (!connection) throw new Error("Nothing was opened.");
  return connection;
}

describe("StreamReader", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it("reads server-sent events to the end where there is no data channel", async () => {
    const play = start({ withChannel: false });
    await settle();
    await first(play).send(event(1), event(2), done(3));
    await play.whole;
    expect(play.got).toEqual(["1:e1", "2:e2", "3:[DONE]"]);
    expect(first(play).signal.aborted).toBe(false);
  });

  it("moves to the data channel as soon as it delivers, without a gap and without a repeat", async () => {
    const play = start();
    await settle();
    await first(play).send(event(1), event(2));
    await settle();
    expect(play.channel.follows).toMatchObject([{ streamId: "st", after: 0 }]);
    play.channel.deliver(event(1), event(2), event(3));
    expect(first(play).signal.aborted).toBe(true);
    await first(play).send(event(3), event(4));
    play.channel.deliver(event(4), done(5));
    await play.whole;
    expect(play.got).toEqual(["1:e1", "2:e2", "3:e3", "4:e4", "5:[DONE]"]);
    expect(play.transports).toEqual(["sse", "sse", "datachannel", "datachannel", "datachannel"]);
    expect(play.channel.unfollowed).toBe(1);
    expect(play.connections).toHaveLength(1);
  });

  it("goes back to server-sent events after the last number when the channel falls silent", async () => {
    const play = start();
    await settle();
    play.channel.deliver(event(1), event(2));
    await settle(2000);
    expect(latest(play)).toMatchObject({ after: 2 });
    await latest(play).send(event(3));
    await settle();
    expect(play.channel.unfollowed).toBe(1);
    await latest(play).send(done(4));
    await play.whole;
    expect(play.transports).toEqual(["datachannel", "datachannel", "sse", "sse"]);
  });

  it("stays on a channel that is only late: whichever comes first goes on", async () => {
    const play = start();
    await settle();
    play.channel.deliver(event(1));
    await settle(2000);
    expect(play.connections).toHaveLength(2);
    play.channel.deliver(event(2));
    expect(latest(play).signal.aborted).toBe(true);
    expect(play.channel.unfollowed).toBe(0);
    play.channel.deliver(done(3));
    await play.whole;
    expect(play.got).toHaveLength(3);
  });

  it("does not take a pause of the model for a dead channel", async () => {
    const play = start();
    await settle();
    play.channel.deliver(event(1));
    for (let i = 0; i < 20; i++) {
      await settle(400);
      play.channel.listener.heard();
    }
    expect(play.connections).toHaveLength(1);
    play.channel.deliver(done(2));
    await play.whole;
  });

  it("goes on at once when the channel fails, and tries it again later", async () => {
    const play = start();
    await settle();
    play.channel.deliver(event(1));
    play.channel.listener.failed("overdue");
    await settle();
    expect(latest(play)).toMatchObject({ after: 1 });
    await latest(play).send(event(2));
    await settle(2500);
    expect(play.channel.follows.at(-1)).toMatchObject({ after: 2 });
    play.channel.deliver(event(3), done(4));
    await play.whole;
    expect(play.transports).toEqual(["datachannel", "sse", "datachannel", "datachannel"]);
  });

  it("opens a broken connection again after the last number", async () => {
    const play = start({ withChannel: false });
    await settle();
    await first(play).send(event(1));
    await settle();
    await first(play).reset();
    await settle(500);
    expect(latest(play)).toMatchObject({ after: 1 });
    await latest(play).send(event(2), done(3));
    await play.whole;
    expect(play.got).toEqual(["1:e1", "2:e2", "3:[DONE]"]);
  });

  it("asks again when a body ends without the stream's end, and believes the gateway then", async () => {
    const play = start({ withChannel: false });
    await settle();
    await first(play).send(event(1));
    await first(play).end();
    await settle();
    expect(latest(play)).toMatchObject({ after: 1 });
    await latest(play).end();
    await play.whole;
    expect(play.got).toEqual(["1:e1"]);
  });

  it("ends with the error event of a stream", async () => {
    const play = start();
    await settle();
    play.channel.deliver(event(1), { number: 2, data: '{"error":{"message":"gone"}}' });
    await play.whole;
    expect(play.got).toHaveLength(2);
  });

  it("ends when the gateway says that the stream has ended", async () => {
    const play = start();
    await settle();
    play.channel.deliver(event(1));
    play.channel.listener.ended(1);
    await play.whole;
    expect(play.got).toEqual(["1:e1"]);
  });

  it("gives up when the gateway has not kept the rest", async () => {
    const play = start({ withChannel: false });
    await settle();
    await first(play).send(event(1));
    await settle();
    play.refusal = new RefusedError(new Response(null, { status: 410 }));
    await first(play).reset();
    await settle(500);
    await expect(play.whole).rejects.toBe(play.refusal);
    expect(play.got).toEqual(["1:e1"]);
  });

  it("gives up half a minute after the connection broke", async () => {
    const play = start({ withChannel: false });
    await settle();
    await first(play).send(event(1));
    await settle();
    play.refusal = new TypeError("Failed to fetch");
    await first(play).reset();
    await settle(20_000);
    const early = await Promise.race([play.whole, Promise.resolve("waiting")]).catch(() => "failed");
    expect(early).toBe("waiting");
    await settle(15_000);
    await expect(play.whole).rejects.toBeInstanceOf(StreamLostError);
  });

  it("has one connection for a stream that is not kept", async () => {
    const play = start({ kept: false });
    await settle();
    await first(play).send(event(1));
    await settle();
    await first(play).reset();
    await settle(5000);
    await expect(play.whole).rejects.toThrow("network error");
    expect(play.connections).toHaveLength(1);
    expect(play.channel.follows).toHaveLength(0);
  });

  it("lets go of everything when it is closed", async () => {
    const play = start();
    await settle();
    play.channel.deliver(event(1));
    play.reader.close();
    await play.whole;
    expect(play.channel.unfollowed).toBe(1);
    await settle(60_000);
    expect(play.connections).toHaveLength(1);
    expect(vi.getTimerCount()).toBe(0);
  });
});
