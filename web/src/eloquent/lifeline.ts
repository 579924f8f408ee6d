/**
 * So long a connection may be without an answer, beyond the five seconds or so after which browsers call it
 * disconnected. Together that is when the gateway stops sending on a channel that acknowledges nothing.
 */
const RETURN_MS = 10_000;

/**
 * Tells a connection that is gone from one whose path is: browsers come back from `disconnected` by themselves, within
 * a round trip of the path's return, but never from `failed`.
 */
export class Lifeline {
  readonly #lost: (reason: string) => void;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param lost called once the connection is gone for good, perhaps more than once. */
  constructor(lost: (reason: string) => void) {
    this.#lost = lost;
  }

  changed(state: RTCPeerConnectionState): void {
    if (state === "disconnected") {
      this.#timer ??= setTimeout(() => {
        this.#lost(state);
      }, RETURN_MS);
      return;
    }
    this.stop();
    if (state === "failed" || state === "closed") this.#lost(state);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
