import { asText, isObject } from "../openai/json";

export interface WorkerHealth {
  readonly id: string;
  readonly state: string;
  readonly model?: string;
  readonly message?: string;
}

export interface Health {
  readonly status: string;
  readonly workers: readonly WorkerHealth[];
}

/** Reads the body of GET /health; undefined when it has another form. */
export function readHealth(value: unknown): Health | undefined {
  if (!isObject(value)) return undefined;
  const status = asText(value.status);
  if (status === undefined) return undefined;
  const workers: unknown = value.workers;
  return { status, workers: Array.isArray(workers) ? workers.flatMap(readWorker) : [] };
}

function readWorker(value: unknown): WorkerHealth[] {
  if (!isObject(value)) return [];
  const id = asText(value.id);
  if (id === undefined) return [];
  const model = asText(value.model);
  const message = asText(value.message);
  return [
    {
      id,
      state: asText(value.state) ?? "unknown",
      ...(model !== undefined && { model }),
      ...(message !== undefined && { message }),
    },
  ];
}

/** Whether at least one worker can take a request now. */
export function canServe(health: Health): boolean {
  if (health.status === "draining") return false;
  return health.workers.some(isReady);
}

export function isReady(worker: WorkerHealth): boolean {
  return worker.state === "ready";
}
