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
  unreachable: "cannot be reached",
  failing: "fails too often",
};

/** States that do not end by themselves, or not surely. */
const BROKEN: ReadonlySet<string> = new Set(["stopped", "failed", "unreachable", "failing"]);

export function isBroken(worker: WorkerHealth): boolean {
  return BROKEN.has(worker.state);
}

/** "w0" is "worker w0"; an id such as "worker-0" says it already. */
export function workerName(id: string): string {
  return /^worker\b/i.test(id) ? id : `worker ${id}`;
}

/** One worker's state as a sentence, e.g. "Worker w0 is loading the model…". */
export function workerWords(worker: WorkerHealth): string {
  const lower = workerName(worker.id);
  const name = lower.charAt(0).toUpperCase() + lower.slice(1);
  if (isReady(worker)) return `${name} is ready`;
  const words = STATE_WORDS[worker.state] ?? `is ${worker.state}`;
  const because = worker.message !== undefined && isBroken(worker) ? `: ${worker.message}` : "";
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
  if (health.status === "draining") return { open: false, broken: true, words: "The gateway is shutting down" };
  const ready = workers.filter(isReady).length;
  if (canServe(health)) {
    const words = workers.length > 1 ? `${ready} of ${workers.length} workers are ready` : "Ready";
    return { open: true, broken: false, words };
  }
  const first = workers.find((worker) => !isBroken(worker)) ?? workers[0];
  if (!first) return { open: false, broken: false, words: "No worker has joined the gateway yet" };
  const others = workers.length > 1 ? ` (${ready} of ${workers.length} ready)` : "";
  return { open: false, broken: workers.every(isBroken), words: workerWords(first) + others };
}
