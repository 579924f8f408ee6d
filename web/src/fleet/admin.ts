import { failureFromResponse, GatewayError } from "../openai/failure";
import { asCount, asText, isObject, type JsonObject, parseJson } from "../openai/json";
import { type CacheChunk, type CacheOverview, readChunks, readOverview } from "./cache";
import { readSamples, type Sample } from "./prometheus";

/** A worker as the gateway's administrators see it. */
export interface FleetWorker {
  readonly id: string;
  readonly url: string;
  readonly models: readonly string[];
  readonly state: string;
  readonly message: string;
  readonly draining: boolean;
  readonly inFlight: number;
}

/** Why a request went where it went; times in seconds, null where not known. */
export interface Decision {
  readonly secondsAgo: number;
  readonly policy: string;
  readonly worker: string;
  readonly reason: string;
  readonly estimate: number | null;
  readonly ttft: number | null;
  readonly promptTokens: number;
  readonly cachedTokens: number;
}

/** The gateway's control plane, from the page's own origin. All calls throw GatewayError when it refuses. */
export class AdminClient {
  readonly #headers: () => Readonly<Record<string, string>>;

  constructor(headers: () => Readonly<Record<string, string>>) {
    this.#headers = headers;
  }

  async workers(signal: AbortSignal): Promise<FleetWorker[]> {
    return rows(await this.#json("/admin/workers", signal), "workers").map(readWorker);
  }

  async decisions(limit: number, signal: AbortSignal): Promise<Decision[]> {
    return rows(await this.#json(`/admin/route/explain?limit=${limit}`, signal), "decisions").map(readDecision);
  }

  async metrics(signal: AbortSignal): Promise<Sample[]> {
    return readSamples(await this.#text("GET", "/metrics", signal), "sluice_");
  }

  async cache(signal: AbortSignal): Promise<CacheOverview> {
    return readOverview(await this.#json("/admin/cache", signal));
  }

  /** Known chunks, at most `limit` of each worker; the largest first. */
  async chunks(limit: number, signal: AbortSignal): Promise<CacheChunk[]> {
    return readChunks(await this.#json(`/admin/cache/chunks?limit=${limit}`, signal));
  }

  /** Sends a worker no new requests, or sends it requests again. */
  async drain(workerId: string, on: boolean): Promise<void> {
    await this.#text("POST", `/admin/workers/${encodeURIComponent(workerId)}/${on ? "drain" : "undrain"}`);
  }

  async #json(path: string, signal: AbortSignal): Promise<unknown> {
    return parseJson(await this.#text("GET", path, signal));
  }

  async #text(method: string, path: string, signal?: AbortSignal): Promise<string> {
    const response = await fetch(path, {
      method,
      headers: this.#headers(),
      cache: "no-store",
      ...(signal && { signal }),
    });
    const text = await response.text();
    if (response.ok) return text;
    throw new GatewayError(failureFromResponse(response.status, text, response.headers.get("retry-after"), Date.now()));
  }
}

function rows(value: unknown, name: string): JsonObject[] {
  const list: unknown = isObject(value) ? value[name] : undefined;
  return Array.isArray(list) ? list.filter(isObject) : [];
}

function readWorker(row: JsonObject): FleetWorker {
  const models: unknown = row.models;
  return {
    id: asText(row.id) ?? "",
    url: asText(row.url) ?? "",
    models: Array.isArray(models) ? models.filter((name: unknown) => typeof name === "string") : [],
    state: asText(row.state) ?? "unknown",
    message: asText(row.message) ?? "",
    draining: row.draining === true,
    inFlight: asCount(row.in_flight) ?? 0,
  };
}

function readDecision(row: JsonObject): Decision {
  return {
    secondsAgo: asCount(row.seconds_ago) ?? 0,
    policy: asText(row.policy) ?? "",
    worker: asText(row.worker) ?? "",
    reason: asText(row.reason) ?? "",
    estimate: asCount(row.estimate_s) ?? null,
    ttft: asCount(row.ttft_s) ?? null,
    promptTokens: asCount(row.prompt_tokens) ?? 0,
    cachedTokens: asCount(row.cached_tokens) ?? 0,
  };
}
