import type { ServerMessage } from "./control";
import { type DataPacket, decodeData, PacketError } from "./packets";
import { type NumberedEvent, Reassembler } from "./reassembler";
import { SseParser } from "./sse";

/** Who follows a stream over a data channel. */
export interface ChannelListener {
  /** Something of the stream arrived, perhaps nothing new: the path lives. */
  heard(): void;
  /** In order, without gaps. */
  events(events: readonly NumberedEvent[]): void;
  /** The stream is over; the event with the number `last` was its last. */
  ended(last: number): void;
  /** The data channel cannot carry the stream any more; it has to go on another way. */
  failed(reason: string): void;
}

interface Following {
  readonly streamId: string;
  readonly after: number;
  readonly listener: ChannelListener;
  /** Undefined while nothing is agreed, and for a stream whose events come on the control channel. */
  reassembler?: Reassembler;
  timer?: ReturnType<typeof setTimeout>;
}

/** Packets that overtook the message which tells whose they are. */
const MOST_EARLY_PACKETS = 64;

/**
 * The streams that come over one data channel: gives packets to the reassembler of their stream, and
 * acknowledgements back. Knows the channel by the function it sends datagrams with.
 */
export class Followers {
  readonly #send: (datagram: Uint8Array<ArrayBuffer>) => void;
  readonly #clock: () => number;
  /** By the id of the message that asked for it. */
  readonly #asked = new Map<string, Following>();
  /** By the handle that the gateway gave it. */
  readonly #followed = new Map<number, Following>();
  readonly #early: DataPacket[] = [];

  /** @param clock monotonic, in milliseconds. */
  constructor(send: (datagram: Uint8Array<ArrayBuffer>) => void, clock: () => number) {
    this.#send = send;
    this.#clock = clock;
  }

  /** How many streams are followed. */
  get size(): number {
    return this.#asked.size + this.#followed.size;
  }

  /** Notes that the message `eventId` asks for the events of a stream above `after`. */
  add(eventId: string, streamId: string, after: number, listener: ChannelListener): void {
    this.#asked.set(eventId, { streamId, after, listener });
  }

  /** Forgets the listener: it is told nothing more. */
  remove(listener: ChannelListener): void {
    for (const [eventId, following] of this.#asked) if (following.listener === listener) this.#asked.delete(eventId);
    for (const [handle, following] of this.#followed) {
      if (following.listener !== listener) continue;
      clearTimeout(following.timer);
      this.#followed.delete(handle);
    }
  }

  /** The channel is gone. */
  failAll(reason: string): void {
    const all = [...this.#asked.values(), ...this.#followed.values()];
    for (const listener of new Set(all.map((following) => following.listener))) this.#fail(listener, reason);
  }

  message(message: ServerMessage): void {
    switch (message.type) {
      case "stream.following":
        this.#begin(message.client_event_id ?? "", message.handle, message.transport === "eloquent");
        break;
      case "stream.event":
        for (const { listener } of this.#of(message.stream_id)) {
          listener.heard();
          listener.events([{ number: message.number, data: dataOf(message.event) }]);
        }
        break;
      case "response.done":
        for (const { listener } of this.#of(message.response.id)) {
          this.remove(listener);
          listener.ended(message.last);
        }
        break;
      case "stream.fallback":
        for (const { listener } of this.#of(message.stream_id)) this.#fail(listener, message.reason);
        break;
      case "error": {
        const asked = this.#asked.get(message.client_event_id ?? "");
        if (asked) this.#fail(asked.listener, message.error.code ?? message.error.message);
        break;
      }
    }
  }

  /** Takes one packet. What is damaged counts as lost. */
  datagram(bytes: Uint8Array): void {
    try {
      this.#packet(decodeData(bytes));
    } catch (error) {
      if (!(error instanceof PacketError)) throw error;
    }
  }

  #of(streamId: string): Following[] {
    return [...this.#followed.values()].filter((following) => following.streamId === streamId);
  }

  #begin(eventId: string, handle: number, asPackets: boolean): void {
    const following = this.#asked.get(eventId);
    if (!following) return;
    this.#asked.delete(eventId);
    if (asPackets) following.reassembler = new Reassembler(handle, following.after);
    this.#followed.set(handle, following);
    for (const packet of this.#early.splice(0)) this.#packet(packet);
  }

  #packet(packet: DataPacket): void {
    const following = this.#followed.get(packet.stream);
    if (!following) {
      if (this.#asked.size > 0 && this.#early.length < MOST_EARLY_PACKETS) this.#early.push(packet);
      return;
    }
    const { reassembler, listener } = following;
    if (!reassembler) return;
    const events = reassembler.receive(packet, this.#clock());
    listener.heard();
    this.#acknowledge(following, reassembler);
    if (events.length > 0) listener.events(events);
  }

  #acknowledge(following: Following, reassembler: Reassembler): void {
    clearTimeout(following.timer);
    const ack = reassembler.nextAck(this.#clock());
    if (ack) this.#send(ack);
    const next = reassembler.nextTime;
    if (next === undefined) return;
    following.timer = setTimeout(
      () => {
        this.#acknowledge(following, reassembler);
      },
      Math.max(0, next - this.#clock()),
    );
  }

  #fail(listener: ChannelListener, reason: string): void {
    this.remove(listener);
    listener.failed(reason);
  }
}

const utf8 = new TextEncoder();

/** The data of a server-sent event. */
function dataOf(event: string): string {
  return new SseParser().push(utf8.encode(event))[0]?.data ?? "";
}
