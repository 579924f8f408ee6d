import { RefusedError } from "./errors";
import { type Network, PLAIN_NETWORK } from "./network";
import type { NumberedEvent } from "./reassembler";
import type { GatewayAddress } from "./signalling";
import { readEvents } from "./sse";
import { type StreamEvent, StreamReader } from "./stream";
import { type ChannelState, Switchboard } from "./switchboard";

export interface EloquentOptions {
  /** Origin of the gateway; default: the page's own. */
  readonly baseUrl?: string;
  /** Headers of every request, asked anew each time; e.g. `{ authorization: "Bearer …" }`. */
  readonly headers?: () => Readonly<Record<string, string>>;
  /** Asked for every stream: may a data channel carry it? Default: yes. */
  readonly useChannel?: () => boolean;
  readonly network?: Network;
  /** Called after every change of `channel`. */
  readonly onChange?: () => void;
}

/** An answer that is being given. */
export interface EloquentStream {
  /** The id under which the gateway keeps it; undefined when it does not. */
  readonly id: string | undefined;
  /** Of the response that began it, or took it up again. */
  readonly headers: Headers;
  /** Its server-sent events in order, to the end. @throws StreamLostError, RefusedError. */
  readonly events: AsyncIterable<StreamEvent>;
  /** Stops the answer at the gateway too. */
  cancel(): void;
  /** Stops reading. The gateway goes on for a while, and `resume` can take the answer up again. */
  close(): void;
}

const STREAM_ID = "x-sluice-stream-id";

/** Answers from a Sluice gateway that survive bad networks, and reloads of the page. */
export class EloquentClient {
  readonly #gateway: GatewayAddress;
  readonly #useChannel: () => boolean;
  readonly #switchboard: Switchboard;

  constructor({ baseUrl, headers, useChannel, network, onChange }: EloquentOptions = {}) {
    this.#gateway = {
      baseUrl: baseUrl ?? "",
      headers: headers ?? (() => ({})),
      network: network ?? PLAIN_NETWORK,
    };
    this.#useChannel = useChannel ?? (() => true);
    this.#switchboard = new Switchboard(this.#gateway, onChange ?? (() => undefined));
  }

  /** The data channel beside server-sent events. */
  get channel(): ChannelState {
    return this.#switchboard.state;
  }

  /** Round trip of the data channel in milliseconds; undefined while there is none. */
  channelRoundTripMs(): Promise<number | undefined> {
    return this.#switchboard.roundTripMs();
  }

  /** Opens the data channel before the first stream needs it; whether there is one then. */
  async connect(): Promise<boolean> {
    return this.#useChannel() && (await this.#switchboard.connect()) !== undefined;
  }

  /** Hangs up, e.g. because another API key is used from now on. */
  reset(): void {
    this.#switchboard.reset();
  }

  /**
   * Posts a request whose answer is a stream (`"stream": true`), and resolves when it begins. Aborting `signal`
   * before that cancels the request; afterwards `cancel` does.
   *
   * @throws RefusedError when the answer is no event stream; TypeError when the gateway cannot be reached.
   */
  async post(path: string, body: object, signal: AbortSignal): Promise<EloquentStream> {
    const connection = new AbortController();
    const abort = (): void => {
      connection.abort(signal.reason);
    };
    signal.addEventListener("abort", abort);
    const response = await this.#gateway.network.fetch(this.#gateway.baseUrl + path, {
      method: "POST",
      headers: {
        ...this.#gateway.headers(),
        "content-type": "application/json",
        accept: "text/event-stream",
        "x-sluice-stream": "resumable",
      },
      body: JSON.stringify(body),
      signal: connection.signal,
    });
    const events = counted(bodyOf(response));
    signal.removeEventListener("abort", abort);
    const id = response.headers.get(STREAM_ID) ?? undefined;
    return this.#stream(id, 0, { headers: response.headers, events, connection });
  }

  /**
   * Takes up an answer that was begun before, e.g. by a page that was reloaded since.
   *
   * @param after number of the last event that is known.
   * @throws RefusedError when the gateway does not have it any more; TypeError when it cannot be reached.
   */
  async resume(id: string, after: number, signal: AbortSignal): Promise<EloquentStream> {
    const connection = new AbortController();
    const abort = (): void => {
      connection.abort(signal.reason);
    };
    signal.addEventListener("abort", abort);
    const response = await this.#read(id, after, connection.signal);
    signal.removeEventListener("abort", abort);
    const events = identified(bodyOf(response));
    return this.#stream(id, after, { headers: response.headers, events, connection });
  }

  #stream(id: string | undefined, after: number, begun: Begun): EloquentStream {
    let first: Begun | undefined = begun;
    const reader = new StreamReader({
      streamId: id,
      after,
      channels: this.#useChannel() ? this.#switchboard : undefined,
      open: async (from, stop) => {
        if (!first) return identified(bodyOf(await this.#read(id ?? "", from, stop)));
        const { connection, events } = first;
        first = undefined;
        stop.addEventListener("abort", () => {
          connection.abort();
        });
        return events;
      },
    });
    return {
      id,
      headers: begun.headers,
      events: reader.events(),
      cancel: () => {
        reader.close();
        if (id !== undefined) this.#cancel(id);
      },
      close: () => {
        reader.close();
      },
    };
  }

  #read(id: string, after: number, signal: AbortSignal): Promise<Response> {
    return this.#gateway.network.fetch(`${this.#urlOf(id)}?starting_after=${after}`, {
      headers: { ...this.#gateway.headers(), accept: "text/event-stream" },
      cache: "no-store",
      signal,
    });
  }

  #cancel(id: string): void {
    const init = { method: "DELETE", headers: this.#gateway.headers(), keepalive: true };
    void this.#gateway.network.fetch(this.#urlOf(id), init).catch(() => undefined);
  }

  #urlOf(id: string): string {
    return `${this.#gateway.baseUrl}/v1/streams/${encodeURIComponent(id)}`;
  }
}

/** The connection with which a stream begins. */
interface Begun {
  readonly headers: Headers;
  readonly events: AsyncIterable<NumberedEvent>;
  readonly connection: AbortController;
}

function bodyOf(response: Response): ReadableStream<Uint8Array> {
  const type = response.headers.get("content-type") ?? "";
  if (!response.ok || !response.body || !type.startsWith("text/event-stream")) throw new RefusedError(response);
  return response.body;
}

/** The connection that asked: its events count from 1. */
async function* counted(body: ReadableStream<Uint8Array>): AsyncGenerator<NumberedEvent> {
  let number = 0;
  for await (const { data } of readEvents(body)) yield { number: (number += 1), data };
}

/** A connection that reads again: every event has its number as its id. */
async function* identified(body: ReadableStream<Uint8Array>): AsyncGenerator<NumberedEvent> {
  for await (const { data, lastEventId } of readEvents(body)) yield { number: Number(lastEventId), data };
}
