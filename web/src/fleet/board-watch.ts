import { Store } from "../app/store";
import { failureFromThrown } from "../openai/failure";
import type { Failure } from "../openai/types";
import type { AdminClient, Decision, FleetWorker } from "./admin";
import { Board } from "./board";

export interface BoardState {
  readonly board: Board;
  readonly workers: readonly FleetWorker[];
  readonly decisions: readonly Decision[];
  /** Why the last look failed; null when it did not. */
  readonly failure: Failure | null;
}

const EVERY_MS = 1_000;
const WITHIN_MS = 5_000;
const DECISIONS = 12;

/** Looks at the gateway every second for as long as somebody watches. */
export class BoardWatch {
  readonly state = new Store<BoardState>({ board: new Board(), workers: [], decisions: [], failure: null });
  readonly #client: AdminClient;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #watching = false;

  constructor(client: AdminClient) {
    this.#client = client;
  }

  start(): void {
    this.#watching = true;
    void this.look();
  }

  stop(): void {
    this.#watching = false;
    clearTimeout(this.#timer);
  }

  /** Looks now. */
  async look(): Promise<void> {
    clearTimeout(this.#timer);
    const signal = AbortSignal.timeout(WITHIN_MS);
    try {
      const [workers, decisions, samples] = await Promise.all([
        this.#client.workers(signal),
        this.#client.decisions(DECISIONS, signal),
        this.#client.metrics(signal),
      ]);
      const board = this.state.get().board.look(performance.now() / 1000, samples);
      this.state.set({ board, workers, decisions, failure: null });
    } catch (thrown) {
      this.state.set({ ...this.state.get(), failure: failureFromThrown(thrown) });
    }
    clearTimeout(this.#timer);
    if (this.#watching) this.#timer = setTimeout(() => void this.look(), EVERY_MS);
  }

  async drain(workerId: string, on: boolean): Promise<void> {
    try {
      await this.#client.drain(workerId, on);
      await this.look();
    } catch (thrown) {
      this.state.set({ ...this.state.get(), failure: failureFromThrown(thrown) });
    }
  }
}
