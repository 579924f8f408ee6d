import { failureFromThrown, GatewayError } from "../openai/failure";
import type { Failure, ModelInfo } from "../openai/types";
import { Store } from "../app/store";
import type { Health } from "./health";
import { type GateView, readGate } from "./words";

/** What the page knows about the gateway and its models. */
export interface FleetState {
  readonly view: GateView;
  /** null until they could be read. */
  readonly models: readonly ModelInfo[] | null;
  /** Why the models could not be read, when waiting is not the remedy. */
  readonly refused: Failure | null;
}

export interface FleetSource {
  health(signal: AbortSignal): Promise<Health | undefined>;
  models(signal: AbortSignal): Promise<readonly ModelInfo[]>;
}

const SHUT_INTERVAL_MS = 1_000;
const OPEN_INTERVAL_MS = 15_000;
const ANSWER_WITHIN_MS = 5_000;

/** Looks at the gateway again and again: every second while it is shut, rarely while it is open. */
export class FleetWatch {
  readonly state = new Store<FleetState>({ view: { kind: "connecting" }, models: null, refused: null });
  readonly #source: FleetSource;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #looking: Promise<void> | undefined;

  constructor(source: FleetSource) {
    this.#source = source;
  }

  /** Looks now and from then on; also to be called after something that may have changed the outcome. */
  async look(): Promise<void> {
    clearTimeout(this.#timer);
    this.#looking ??= this.#lookOnce().finally(() => {
      this.#looking = undefined;
    });
    await this.#looking;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.look(), this.#isSettled() ? OPEN_INTERVAL_MS : SHUT_INTERVAL_MS);
  }

  /** Forgets the models, e.g. because another API key may see others, and looks again. */
  async reread(): Promise<void> {
    this.state.set({ ...this.state.get(), models: null, refused: null });
    await this.#looking;
    await this.look();
  }

  /**
   * Resolves to the models as soon as they are known and the gate is open.
   *
   * @throws GatewayError when the gateway refuses to name them; the signal's reason when it aborts first.
   */
  async models(signal: AbortSignal): Promise<readonly ModelInfo[]> {
    return new Promise((resolve, reject) => {
      const settle = (): boolean => {
        const { view, models, refused } = this.state.get();
        if (signal.aborted) reject(signal.reason as Error);
        else if (refused) reject(new GatewayError(refused));
        else if (models && readGate(view).open) resolve(models);
        else return false;
        return true;
      };
      if (settle()) return;
      const leave = this.state.subscribe(onChange);
      signal.addEventListener("abort", onChange);
      function onChange(): void {
        if (!settle()) return;
        leave();
        signal.removeEventListener("abort", onChange);
      }
    });
  }

  #isSettled(): boolean {
    const { view, models, refused } = this.state.get();
    return readGate(view).open && (models !== null || refused !== null);
  }

  async #lookOnce(): Promise<void> {
    const view = await this.#readView();
    const { models, refused } = this.state.get();
    this.state.set({ view, models, refused });
    if (readGate(view).open && models === null && refused === null) await this.#readModels();
  }

  async #readView(): Promise<GateView> {
    try {
      const health = await this.#source.health(AbortSignal.timeout(ANSWER_WITHIN_MS));
      return health ? { kind: "known", health } : { kind: "unknown" };
    } catch {
      return { kind: "unreachable" };
    }
  }

  async #readModels(): Promise<void> {
    try {
      const models = await this.#source.models(AbortSignal.timeout(ANSWER_WITHIN_MS));
      this.state.set({ ...this.state.get(), models, refused: null });
    } catch (thrown) {
      const failure = failureFromThrown(thrown);
      const waitingHelps = failure.kind === "network" || failure.kind === "unavailable" || failure.kind === "busy";
      if (!waitingHelps) this.state.set({ ...this.state.get(), refused: failure });
    }
  }
}
