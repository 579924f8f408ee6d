import type { ServerResponse } from "node:http";

interface MockWorker {
  readonly id: string;
  readonly state: string;
  readonly message: string;
  readonly speed: number;
}

const WORKERS: readonly MockWorker[] = [
  { id: "w0", state: "ready", message: "", speed: 1 },
  { id: "w1", state: "ready", message: "", speed: 0.7 },
  { id: "w2", state: "loading", message: "reading weights", speed: 0 },
  { id: "w3", state: "failed", message: "no space left on device", speed: 0 },
];
const BOUNDS = [0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5];
const startedAt = Date.now();
const draining = new Set<string>();

/** A wave between 0 and 1, another one for every phase. */
function wave(phase: number): number {
  return 0.5 + 0.5 * Math.sin(Date.now() / 9000 + phase);
}

function inFlight({ speed }: MockWorker, index: number): number {
  return Math.round(speed * (3 + 9 * wave(index)));
}

/** Answers for the control plane of a made-up fleet; whether the path is one of its. */
export function fleetResponse(method: string, path: string, response: ServerResponse): boolean {
  const drained = /^\/admin\/workers\/([^/]+)\/(un)?drain$/.exec(path);
  if (method === "POST" && drained) {
    const [, id = "", undo] = drained;
    if (undo) draining.delete(id);
    else draining.add(id);
    sendJson(response, { id });
  } else if (path === "/admin/workers") sendJson(response, { workers: WORKERS.map(workerBody) });
  else if (path === "/admin/route/explain") sendJson(response, { decisions: decisions() });
  else if (path === "/admin/cache") sendJson(response, cacheOverview());
  else if (path === "/admin/cache/chunks") sendJson(response, { workers: { w0: { chunks: cacheChunks() } } });
  else if (path === "/metrics") {
    response.writeHead(200, { "content-type": "text/plain; version=0.0.4" });
    response.end(metrics());
  } else return false;
  return true;
}

function sendJson(response: ServerResponse, body: object): void {
  response.writeHead(200, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

function workerBody(worker: MockWorker, index: number): object {
  const { id, state, message } = worker;
  const isDraining = draining.has(id);
  return {
    id,
    url: `http://127.0.0.1:${8001 + index}`,
    models: ["sluice-demo"],
    state: isDraining ? "draining" : state,
    draining: isDraining,
    message,
    in_flight: isDraining ? 0 : inFlight(worker, index),
  };
}

const GIB = 2 ** 30;
const CHUNK_BYTES = 3 * 2 ** 20;
const TIERS = { memory: [4, 1], file: [64, 0.35], valkey: [null, 0.12] } as const;

function cacheOverview(): object {
  const seconds = (Date.now() - startedAt) / 1000;
  const tiers = Object.entries(TIERS).map(([name, [capacity, share]], index) => {
    const used = Math.round((capacity ?? 9) * GIB * (0.55 + 0.4 * wave(index)));
    const hits = Math.round(share * (20 * seconds + 60 * wave(index)));
    const counts = { hits, loads: index * Math.round(seconds), saves: Math.round(seconds * 3), evictions: 12 * index };
    return [
      name,
      {
        chunks: Math.round(used / CHUNK_BYTES),
        used_bytes: used,
        capacity_bytes: capacity === null ? null : capacity * GIB,
        available: true,
        ...counts,
        dropped: 0,
        faults: 0,
      },
    ];
  });
  const layer = { chunk_tokens: 256, chunk_bytes: CHUNK_BYTES, pinned_chunks: 4, held_chunks: 9, tenants: { acme: 1 } };
  return { workers: { w0: layer, w1: layer }, tiers: Object.fromEntries(tiers) as object };
}

function cacheChunks(): object[] {
  return Array.from({ length: 20 }, (_, index) => ({
    key: (index * 7_919_333 + 104_729).toString(16).padStart(8, "0").repeat(8),
    tiers: { ...(index % 3 !== 1 && { memory: CHUNK_BYTES }), ...(index % 2 === 0 && { file: CHUNK_BYTES / 2 }) },
    tenant: index % 4 === 0 ? "acme" : "",
    position: index * 256,
    ...(index === 0 && { pins: { ops: 1.8e9 } }),
  }));
}

function decisions(): object[] {
  return Array.from({ length: 6 }, (_, index) => ({
    seconds_ago: index * 1.7,
    policy: "ttft",
    worker: index % 3 === 2 ? "w1" : "w0",
    reason: index % 3 === 2 ? "hit=0/2210B,est=240ms" : `hit=1792/${2048 + 64 * index}B,est=84ms`,
    estimate_s: index % 3 === 2 ? 0.24 : 0.084,
    ttft_s: index === 0 ? null : 0.07 + 0.03 * wave(index),
    prompt_tokens: 512 + 16 * index,
    cached_tokens: index % 3 === 2 ? 0 : 448,
  }));
}

function metrics(): string {
  const seconds = (Date.now() - startedAt) / 1000 + 4 * wave(1);
  const lines = [
    `sluice_active_requests ${WORKERS.reduce((sum, worker, index) => sum + inFlight(worker, index), 0)}`,
    `sluice_queued_requests ${Math.round(4 * Math.max(0, wave(2) - 0.5))}`,
  ];
  for (const { id, speed } of WORKERS) {
    const labels = `worker="${id}",model="sluice-demo"`;
    const requests = Math.round(seconds * 6 * speed);
    lines.push(
      `sluice_requests_total{${labels},end="ok"} ${requests}`,
      `sluice_output_tokens_total{${labels}} ${requests * 96}`,
      `sluice_prompt_tokens_total{${labels}} ${requests * 480}`,
      `sluice_cached_prompt_tokens_total{${labels}} ${Math.round(requests * 300 * (1 + 0.3 * Math.sin(seconds / 40)))}`,
      ...BOUNDS.map((bound, index) => {
        const count = Math.round(requests * Math.min(1, ((index + 1) / 5) ** 2));
        return `sluice_time_to_first_token_seconds_bucket{${labels},le="${bound}"} ${count}`;
      }),
      `sluice_time_to_first_token_seconds_bucket{${labels},le="+Inf"} ${requests}`,
    );
  }
  return `${lines.join("\n")}\n`;
}
