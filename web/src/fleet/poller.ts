import { Store } from "../app/store";
import { failureFromThrown } from "../openai/failure";
import type { Failure } from "../openai/types";

export interface Polled<T> {
  readonly value: T;
  /** Why the last look failed; null when it did not. */
  readonly failure: Failure | null;
}

const EVERY_MS = 1_000;
const WITHIN_MS = 8_000;

/** Looks at something every second for as long as somebody watches. */
export class Poller<T> {
  readonly state: Store<Polled<T>>;
  readonly #look: (before: T, signal: AbortSignal) => Promise<T>;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #watching = false;

  /** @param look what is known now, given what was known before. */
  constructor(initial: T, look: (before: T, signal: AbortSignal) => Promise<T>) {
    this.state = new Store<Polled<T>>({ value: initial, failure: null });
    this.#look = look;
  }

  start(): void {
    this.#watching = true;
    void this.look();
  }

  stop(): void {
    this.#watching = false;
    clearTimeout(this.#timer);
  }

  /** Does something, looks at once whether it worked, and tells why where it did not. */
  async after(act: () => Promise<void>): Promise<void> {
    try {
      await act();
      await this.look();
    } catch (thrown) {
      this.#failed(thrown);
    }
  }

  /** Looks now. */
  async look(): Promise<void> {
    clearTimeout(this.#timer);
    try {
      const value = await this.#look(this.state.get().value, AbortSignal.timeout(WITHIN_MS));
      this.state.set({ value, failure: null });
    } catch (thrown) {
      this.#failed(thrown);
    }
    clearTimeout(this.#timer);
    if (this.#watching) this.#timer = setTimeout(() => void this.look(), EVERY_MS);
  }

  #failed(thrown: unknown): void {
    this.state.set({ ...this.state.get(), failure: failureFromThrown(thrown) });
  }
}
