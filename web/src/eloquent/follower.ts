import { splitHandle, type ServerMessage, withHandle } from "./control";
import { PacketError } from "./packets";
import { type NumberedEvent, Reassembler } from "./reassembler";

/** Who follows a stream over a data channel. */
export interface ChannelListener {
  /** Something of the stream arrived, perhaps nothing new: the path lives. */
  heard(): void;
  /** In order, without gaps. */
  events(events: readonly NumberedEvent[]): void;
  /** The data channel cannot carry the stream any more; it has to go on another way. */
  failed(reason: string): void;
}

interface Following {
  readonly streamId: string;
  readonly after: number;
  readonly listener: ChannelListener;
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
  readonly #byHandle = new Map<number, Following>();
  readonly #early: Uint8Array<ArrayBuffer>[] = [];

  /** @param clock monotonic, in milliseconds. */
  constructor(send: (datagram: Uint8Array<ArrayBuffer>) => void, clock: () => number) {
    this.#send = send;
    this.#clock = clock;
  }

  /** How many streams are followed. */
  get size(): number {
    return this.#asked.size + this.#byHandle.size;
  }

  /** Notes that the message `eventId` asks for the events of a stream above `after`. */
  add(eventId: string, streamId: string, after: number, listener: ChannelListener): void {
    this.#asked.set(eventId, { streamId, after, listener });
  }

  /** Forgets the listener: it is told nothing more. */
  remove(listener: ChannelListener): void {
    for (const [eventId, following] of this.#asked) if (following.listener === listener) this.#asked.delete(eventId);
    for (const [handle, following] of this.#byHandle) {
      if (following.listener !== listener) continue;
      clearTimeout(following.timer);
      this.#byHandle.delete(handle);
    }
  }

  /** The channel is gone. */
  failAll(reason: string): void {
    const listeners = new Set([...this.#asked.values(), ...this.#byHandle.values()].map(({ listener }) => listener));
    for (const listener of listeners) this.#fail(listener, reason);
  }

  message(message: ServerMessage): void {
    switch (message.type) {
      case "stream.following":
        this.#follow(message.client_event_id ?? "", message.handle);
        break;
      case "stream.fallback":
        for (const { streamId, listener } of [...this.#byHandle.values()]) {
          if (streamId === message.stream_id) this.#fail(listener, message.reason);
        }
        break;
      case "error": {
        const asked = this.#asked.get(message.client_event_id ?? "");
        if (asked) this.#fail(asked.listener, message.error.code ?? message.error.message);
        break;
      }
      case "stream.event":
      case "response.done":
        // Streams are followed as packets, whose last record says that they are done.
        break;
    }
  }

  datagram(message: Uint8Array<ArrayBuffer>): void {
    const split = splitHandle(message);
    if (!split) return;
    const following = this.#byHandle.get(split.handle);
    if (following) this.#receive(split.handle, following, split.packet);
    else if (this.#asked.size > 0 && this.#early.length < MOST_EARLY_PACKETS) this.#early.push(message);
  }

  #follow(eventId: string, handle: number | undefined): void {
    const following = this.#asked.get(eventId);
    if (!following) return;
    this.#asked.delete(eventId);
    if (handle === undefined) {
      this.#fail(following.listener, "unavailable");
      return;
    }
    following.reassembler = new Reassembler(handle, following.after);
    this.#byHandle.set(handle, following);
    for (const message of this.#early.splice(0)) this.datagram(message);
  }

  #receive(handle: number, following: Following, packet: Uint8Array): void {
    const { reassembler, listener } = following;
    if (!reassembler) return;
    let events: NumberedEvent[];
    try {
      events = reassembler.receive(packet, this.#clock());
    } catch (error) {
      // What is damaged counts as lost.
      if (error instanceof PacketError) return;
      throw error;
    }
    listener.heard();
    this.#acknowledge(handle, following);
    if (events.length > 0) listener.events(events);
  }

  #acknowledge(handle: number, following: Following): void {
    clearTimeout(following.timer);
    const { reassembler } = following;
    const ack = reassembler?.nextAck(this.#clock());
    if (ack) this.#send(withHandle(handle, ack));
    const next = reassembler?.nextTime;
    if (next === undefined) return;
    following.timer = setTimeout(
      () => {
        this.#acknowledge(handle, following);
      },
      Math.max(0, next - this.#clock()),
    );
  }

  #fail(listener: ChannelListener, reason: string): void {
    this.remove(listener);
    listener.failed(reason);
  }
}
