import type { Link } from "./link";
import { TcpReceiver } from "./tcp";

type Bytes = Uint8Array<ArrayBuffer>;

/** Milliseconds of the clock that the link of this page runs by. */
export function linkClock(): number {
  return performance.now();
}

/**
 * The network of this page, made as bad as a chosen link. Answers are then carried as that link would carry
 * them, by whatever transport; the link can be chosen and left in mid-answer.
 */
export class ShapedNetwork {
  #link: Link | undefined;

  /** The link in use; undefined for the network as it is. */
  get link(): Link | undefined {
    return this.#link;
  }

  use(link: Link | undefined): void {
    this.#link = link;
  }

  /** A request costs the round trips of a new connection, and the body comes as TCP would bring it. */
  readonly fetch: typeof fetch = async (input, init) => {
    await this.#trips(1.5, init?.signal);
    const response = await fetch(input, init);
    await this.#trips(0.5, init?.signal);
    if (!response.body) return response;
    const { status, statusText, headers } = response;
    return new Response(this.#body(response.body), { status, statusText, headers });
  };

  readonly datagrams =
    <T>(arrive: (datagram: T) => void) =>
    (datagram: T): void => {
      const link = this.#link;
      if (!link) arrive(datagram);
      else if (link.delivers(linkClock())) setTimeout(arrive, link.delayMs, datagram);
    };

  /** Reliable and in order: what meets an outage waits until it is over. */
  readonly messages = <T>(arrive: (message: T) => void): ((message: T) => void) => {
    let lastAt = 0;
    return (message) => {
      const at = linkClock();
      const arrivesAt = this.#link ? this.#link.upFrom(at) + this.#link.delayMs : at;
      lastAt = Math.max(lastAt, arrivesAt);
      if (lastAt <= at) arrive(message);
      else setTimeout(arrive, lastAt - at, message);
    };
  };

  async #trips(count: number, signal: AbortSignal | null | undefined): Promise<void> {
    const link = this.#link;
    if (!link) return;
    const at = linkClock();
    await wait(link.upFrom(at) - at + count * link.settings.roundTripMs, signal);
  }

  #body(body: ReadableStream<Bytes>): ReadableStream<Bytes> {
    const reader = body.getReader();
    const delivery = new TcpDelivery(() => this.#link);
    return new ReadableStream<Bytes>({
      start(controller) {
        delivery.into = controller;
        const pump = async (): Promise<void> => {
          for (;;) {
            const { done, value } = await reader.read();
            if (done) break;
            delivery.send(value);
          }
          delivery.end();
        };
        pump().catch((error: unknown) => {
          delivery.stop();
          controller.error(error);
        });
      },
      async cancel(reason) {
        delivery.stop();
        await reader.cancel(reason);
      },
    });
  }
}

/** Runs a TcpReceiver by the clock, and another one when the link is changed. */
class TcpDelivery {
  into: ReadableStreamDefaultController<Bytes> | undefined;
  readonly #link: () => Link | undefined;
  #tcp: { readonly link: Link; readonly receiver: TcpReceiver } | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #ended = false;

  constructor(link: () => Link | undefined) {
    this.#link = link;
  }

  /** A chunk of the real connection counts as one segment. */
  send(bytes: Bytes): void {
    const link = this.#link();
    if (this.#tcp?.link !== link) {
      this.#flush();
      this.#tcp = link && { link, receiver: new TcpReceiver(link) };
    }
    if (!this.#tcp) {
      this.into?.enqueue(bytes);
      return;
    }
    this.#tcp.receiver.send(linkClock(), bytes);
    this.#deliver();
  }

  end(): void {
    this.#ended = true;
    this.#deliver();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.into = undefined;
  }

  #deliver(): void {
    clearTimeout(this.#timer);
    const receiver = this.#tcp?.receiver;
    for (const bytes of receiver?.receive(linkClock()) ?? []) this.into?.enqueue(bytes);
    const next = receiver?.nextAt;
    if (next !== undefined) {
      this.#timer = setTimeout(
        () => {
          this.#deliver();
        },
        Math.max(0, next - linkClock()),
      );
    } else if (this.#ended) this.into?.close();
  }

  /** The link was left: what was under way is there. */
  #flush(): void {
    clearTimeout(this.#timer);
    for (const bytes of this.#tcp?.receiver.receive(Infinity) ?? []) this.into?.enqueue(bytes);
  }
}

function wait(ms: number, signal: AbortSignal | null | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    const fail = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    if (signal?.aborted) fail();
    else signal?.addEventListener("abort", fail, { once: true });
  });
}
