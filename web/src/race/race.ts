import { Store } from "../app/store";
import { EloquentClient, type EloquentStream, isLast, RefusedError } from "../eloquent";
import { STALL_MS } from "../chat/types";
import type { Link } from "../network/link";
import { type LinkName, openLink } from "../network/links";
import { linkClock, ShapedNetwork } from "../network/shaped";
import { readPiece } from "../openai/chat-stream";
import { failureFromResponse, failureFromThrown } from "../openai/failure";
import type { Failure } from "../openai/types";

/** A moment of the race; what arrived in it, and whether the link was up. */
export interface Slot {
  readonly sse: boolean;
  readonly datachannel: boolean;
  readonly up: boolean;
}

/** One of the two ways. */
export interface Lane {
  readonly text: string;
  readonly done: boolean;
  /** Waits of more than STALL_MS, and the sum of their lengths. */
  readonly stalls: number;
  readonly waitedMs: number;
  readonly longestMs: number;
}

export interface RaceState {
  readonly stage: "ready" | "connecting" | "running" | "over";
  readonly sse: Lane;
  readonly datachannel: Lane;
  readonly slots: readonly Slot[];
  /** Why there was or is no race. */
  readonly failure: Failure | null;
}

export const SLOT_MS = 100;
const MOST_SLOTS = 400;
const TOKENS = 400;

const AT_START: Lane = { text: "", done: false, stalls: 0, waitedMs: 0, longestMs: 0 };
const READY: RaceState = { stage: "ready", sse: AT_START, datachannel: AT_START, slots: [], failure: null };

type Headers = () => Readonly<Record<string, string>>;

/**
 * One answer, read twice at the same time: as server-sent events alone, and over a data channel, through two
 * copies of the same link with the same outages.
 */
export class Race {
  readonly state = new Store<RaceState>(READY);
  readonly #headers: Headers;
  #stop: () => void = () => undefined;

  constructor(headers: Headers) {
    this.#headers = headers;
  }

  /** Runs one race; ends the one before it. */
  async start(model: string, question: string, linkName: LinkName): Promise<void> {
    this.stop();
    const abort = new AbortController();
    const networks = { sse: new ShapedNetwork(), datachannel: new ShapedNetwork() };
    const clients = {
      sse: new EloquentClient({ headers: this.#headers, network: networks.sse, useChannel: () => false }),
      datachannel: new EloquentClient({ headers: this.#headers, network: networks.datachannel }),
    };
    const streams: EloquentStream[] = [];
    this.#stop = () => {
      abort.abort();
      streams[0]?.cancel();
      streams[1]?.close();
      clients.datachannel.reset();
    };
    this.state.set({ ...READY, stage: "connecting" });
    try {
      if (!(await clients.datachannel.connect())) throw new NoChannelError(clients.datachannel);
      const startedAt = linkClock();
      networks.sse.use(openLink(linkName, startedAt));
      networks.datachannel.use(openLink(linkName, startedAt));
      const body = { model, messages: [{ role: "user", content: question }], stream: true };
      const request = { ...body, max_tokens: TOKENS, ignore_eos: true };
      const first = await clients.datachannel.post("/v1/chat/completions", request, abort.signal);
      streams.push(first);
      const second = await clients.sse.resume(first.id ?? "", 0, abort.signal);
      streams.push(second);
      await this.#run(first, second, networks.sse.link, abort.signal);
    } catch (error) {
      if (abort.signal.aborted) return;
      this.state.set({ ...this.state.get(), stage: "over", failure: await failureOf(error) });
    } finally {
      if (!abort.signal.aborted) this.stop();
    }
  }

  /** Ends the race where it is. */
  stop(): void {
    this.#stop();
    this.#stop = () => undefined;
    const state = this.state.get();
    if (state.stage !== "ready") this.state.set({ ...state, stage: "over" });
  }

  async #run(channel: EloquentStream, sse: EloquentStream, link: Link | undefined, signal: AbortSignal): Promise<void> {
    const lanes = { datachannel: new LaneRunner(), sse: new LaneRunner() };
    const show = (): void => {
      const slot = {
        sse: lanes.sse.takeArrived(),
        datachannel: lanes.datachannel.takeArrived(),
        up: link?.isUp(linkClock()) ?? true,
      };
      const { slots } = this.state.get();
      this.state.set({
        stage: "running",
        sse: lanes.sse.lane,
        datachannel: lanes.datachannel.lane,
        slots: [...slots, slot].slice(-MOST_SLOTS),
        failure: null,
      });
    };
    const timer = setInterval(show, SLOT_MS);
    signal.addEventListener("abort", () => {
      clearInterval(timer);
    });
    try {
      await Promise.all([lanes.datachannel.follow(channel), lanes.sse.follow(sse)]);
      if (!signal.aborted) show();
    } finally {
      clearInterval(timer);
    }
  }
}

class LaneRunner {
  lane: Lane = AT_START;
  #lastAt: number | undefined;
  #arrived = false;

  async follow({ events }: EloquentStream): Promise<void> {
    for await (const { data } of events) {
      const piece = readPiece(data);
      if (piece !== "") this.#take(piece, linkClock());
      if (isLast(data)) this.lane = { ...this.lane, done: true };
    }
  }

  /** Whether something arrived since the last time this was asked. */
  takeArrived(): boolean {
    const arrived = this.#arrived;
    this.#arrived = false;
    return arrived;
  }

  #take(piece: string, at: number): void {
    const gap = this.#lastAt === undefined ? 0 : at - this.#lastAt;
    const { text, stalls, waitedMs, longestMs } = this.lane;
    const stalled = gap > STALL_MS;
    this.#lastAt = at;
    this.#arrived = true;
    this.lane = {
      text: text + piece,
      done: false,
      stalls: stalls + (stalled ? 1 : 0),
      waitedMs: waitedMs + (stalled ? gap : 0),
      longestMs: Math.max(longestMs, stalled ? gap : 0),
    };
  }
}

class NoChannelError extends Error {
  constructor({ channel }: EloquentClient) {
    super("reason" in channel ? channel.reason : "The data channel could not be opened.");
  }
}

async function failureOf(error: unknown): Promise<Failure> {
  if (error instanceof NoChannelError) {
    return { kind: "refused", title: "There is no data channel to compare with", detail: error.message };
  }
  if (!(error instanceof RefusedError)) return failureFromThrown(error);
  const { status, headers } = error.response;
  const text = await error.response.text().catch(() => "");
  return failureFromResponse(status, text, headers.get("retry-after"), Date.now());
}
