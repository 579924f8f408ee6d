import { canServe, type Health, isReady, type WorkerHealth } from "./health";

/** What the page knows about the gateway at one moment. */
export type GateView =
  | { readonly kind: "connecting" }
  | { readonly kind: "unreachable" }
  /** The gateway answers but has no /health of our form; asking is worth a try. */
  | { readonly kind: "unknown" }
  | { readonly kind: "known"; readonly health: Health };

/** The gate as the page draws it: shut while nothing can be asked, open otherwise. */
export interface Gate {
  readonly open: boolean;
  /** Shut, and waiting alone will not help. */
  readonly broken: boolean;
  readonly words: string;
}

const STATE_WORDS: Readonly<Record<string, string>> = {
  starting: "is starting…",
  loading: "is loading the model…",
  restarting: "is being restarted…",
  draining: "is finishing its last requests",
  stopped: "is stopped",
  failed: "did not start",
  unhealthy: "does not answer",
  unreachable: "cannot be reached",
  down: "is down",
};

const BROKEN: ReadonlySet<string> = new Set(["failed", "unhealthy", "unreachable", "down", "stopped"]);

/** One worker's state as a sentence, e.g. "Worker w0 is loading the model…". */
export function workerWords(worker: WorkerHealth): string {
  const name = `Worker ${worker.id}`;
  if (isReady(worker)) return `${name} is ready`;
  const words = STATE_WORDS[worker.state] ?? `is ${worker.state}`;
  const because = worker.message !== undefined && BROKEN.has(worker.state) ? `: ${worker.message}` : "";
  return `${name} ${words}${because}`;
}

export function readGate(view: GateView): Gate {
  switch (view.kind) {
    case "connecting":
      return { open: false, broken: false, words: "Looking for the gateway…" };
    case "unreachable":
      return { open: false, broken: true, words: "The gateway cannot be reached. Trying again…" };
    case "unknown":
      return { open: true, broken: false, words: "Connected" };
    case "known":
      return knownGate(view.health);
  }
}

function knownGate(health: Health): Gate {
  const { workers } = health;
  const ready = workers.filter(isReady).length;
  if (canServe(health)) {
    const words = workers.length > 1 ? `${ready} of ${workers.length} workers are ready` : "Ready";
    return { open: true, broken: false, words };
  }
  const first = workers.find((worker) => !BROKEN.has(worker.state)) ?? workers[0];
  if (!first) return { open: false, broken: false, words: "No worker has joined the gateway yet" };
  const others = workers.length > 1 ? ` (${ready} of ${workers.length} ready)` : "";
  return { open: false, broken: workers.every(({ state }) => BROKEN.has(state)), words: workerWords(first) + others };
}
