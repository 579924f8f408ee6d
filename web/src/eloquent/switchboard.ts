import { Call } from "./call";
import { type GatewayAddress, type Offer, readOffer } from "./signalling";

/** The data channel as a page may show it. */
export type ChannelState =
  | { readonly kind: "unknown" }
  | { readonly kind: "unavailable"; readonly reason: string }
  | { readonly kind: "connecting" }
  | { readonly kind: "open" }
  /** It was open, or could have been; it is tried again with the next stream. */
  | { readonly kind: "closed"; readonly reason: string };

const OFFER_MS = 5_000;
/** After a failure, so long until the next call; doubled each time. */
const FIRST_PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 60_000;

/** Keeps one call to the gateway for all streams, opened when it is first wanted. */
export class Switchboard {
  readonly #gateway: GatewayAddress;
  readonly #changed: () => void;
  #state: ChannelState = { kind: "unknown" };
  #call: Call | undefined;
  #opening: Promise<Call | undefined> | undefined;
  #failures = 0;
  #notBefore = 0;

  /** @param changed called after every change of `state`. */
  constructor(gateway: GatewayAddress, changed: () => void) {
    this.#gateway = gateway;
    this.#changed = changed;
  }

  get state(): ChannelState {
    return this.#state;
  }

  /** Milliseconds to wait before `connect` is worth another try; undefined: for ever. */
  pauseMs(now: number): number | undefined {
    return this.#state.kind === "unavailable" ? undefined : Math.max(0, this.#notBefore - now);
  }

  /** The call, once it is open; undefined when there is none to be had now. Never throws. */
  async connect(): Promise<Call | undefined> {
    if (this.#call) return this.#call;
    if (this.#state.kind === "unavailable" || performance.now() < this.#notBefore) return undefined;
    this.#opening ??= this.#open().finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  async roundTripMs(): Promise<number | undefined> {
    return this.#call?.roundTripMs();
  }

  /** Hangs up and forgets what is known, e.g. because another key is used from now on. */
  reset(): void {
    this.#call?.close();
    this.#failures = this.#notBefore = 0;
    this.#set({ kind: "unknown" });
  }

  async #open(): Promise<Call | undefined> {
    if (typeof RTCPeerConnection === "undefined") {
      this.#set({ kind: "unavailable", reason: "This browser has no data channels." });
      return undefined;
    }
    this.#set({ kind: "connecting" });
    try {
      const offer = await readOffer(this.#gateway, AbortSignal.timeout(OFFER_MS));
      if (offer.kind === "unavailable") {
        this.#set(offer);
        return undefined;
      }
      return await this.#place(offer);
    } catch (error) {
      this.#failed(error instanceof Error ? error.message : String(error));
      return undefined;
    }
  }

  async #place(offer: Extract<Offer, { readonly kind: "available" }>): Promise<Call> {
    const call = await Call.open(this.#gateway, offer, () => {
      if (this.#call !== call) return;
      this.#call = undefined;
      if (call.idle) this.#set({ kind: "closed", reason: "It was not used for a while." });
      else this.#failed("The connection has ended.");
    });
    this.#call = call;
    this.#failures = 0;
    this.#set({ kind: "open" });
    return call;
  }

  #failed(reason: string): void {
    this.#notBefore = performance.now() + Math.min(FIRST_PAUSE_MS * 2 ** this.#failures, LONGEST_PAUSE_MS);
    this.#failures += 1;
    this.#set({ kind: "closed", reason });
  }

  #set(state: ChannelState): void {
    this.#state = state;
    this.#changed();
  }
}
