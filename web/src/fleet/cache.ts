import { asCount, asText, isObject, type JsonObject } from "../openai/json";

/** A tier of the KV cache, over all workers. */
export interface CacheTier {
  readonly name: string;
  readonly chunks: number;
  readonly usedBytes: number;
  /** null: bounded by its own server. */
  readonly capacityBytes: number | null;
  readonly available: boolean;
  readonly hits: number;
  readonly loads: number;
  readonly saves: number;
  readonly evictions: number;
  readonly dropped: number;
  readonly faults: number;
}

/** One look at the KV layers. */
export interface CacheOverview {
  /** Workers whose layer answered. */
  readonly workers: readonly string[];
  /** Why others did not. */
  readonly errors: readonly string[];
  /** Fastest first, as the gateway names them. */
  readonly tiers: readonly CacheTier[];
  readonly chunkTokens: number;
  readonly pinnedChunks: number;
  readonly heldChunks: number;
  /** Bytes of memory by tenant; "" is everybody without one. */
  readonly tenants: ReadonlyMap<string, number>;
}

/** One chunk of a prompt's KV. */
export interface CacheChunk {
  readonly worker: string;
  readonly key: string;
  readonly tiers: readonly (readonly [tier: string, bytes: number])[];
  readonly bytes: number;
  readonly tenant: string;
  readonly position: number;
  readonly pinned: boolean;
}

/** Reads the body of GET /admin/cache. */
export function readOverview(body: unknown): CacheOverview {
  const workers = entries(isObject(body) ? body.workers : undefined);
  const answered = workers.filter(([, stats]) => asText(stats.error) === undefined);
  const tenants = new Map<string, number>();
  for (const [, { tenants: bytes }] of answered) {
    if (!isObject(bytes)) continue;
    for (const [name, used] of Object.entries(bytes))
      tenants.set(name, (tenants.get(name) ?? 0) + (asCount(used) ?? 0));
  }
  const total = (field: string): number => answered.reduce((sum, [, stats]) => sum + (asCount(stats[field]) ?? 0), 0);
  return {
    workers: answered.map(([id]) => id),
    errors: workers.flatMap(([, stats]) => asText(stats.error) ?? []),
    tiers: entries(isObject(body) ? body.tiers : undefined).map(([name, tier]) => readTier(name, tier)),
    chunkTokens: asCount(answered[0]?.[1].chunk_tokens) ?? 0,
    pinnedChunks: total("pinned_chunks"),
    heldChunks: total("held_chunks"),
    tenants,
  };
}

/** Reads the body of GET /admin/cache/chunks; the largest first. */
export function readChunks(body: unknown): CacheChunk[] {
  const found = entries(isObject(body) ? body.workers : undefined).flatMap(([worker, { chunks }]) =>
    Array.isArray(chunks) ? chunks.filter(isObject).map((chunk) => readChunk(worker, chunk)) : [],
  );
  return found.sort((a, b) => b.bytes - a.bytes);
}

function entries(value: unknown): (readonly [string, JsonObject])[] {
  if (!isObject(value)) return [];
  return Object.entries(value).flatMap(([name, entry]) => (isObject(entry) ? [[name, entry] as const] : []));
}

function readTier(name: string, tier: JsonObject): CacheTier {
  const count = (field: string): number => asCount(tier[field]) ?? 0;
  return {
    name,
    chunks: count("chunks"),
    usedBytes: count("used_bytes"),
    capacityBytes: asCount(tier.capacity_bytes) ?? null,
    available: tier.available !== false,
    hits: count("hits"),
    loads: count("loads"),
    saves: count("saves"),
    evictions: count("evictions"),
    dropped: count("dropped"),
    faults: count("faults"),
  };
}

function readChunk(worker: string, chunk: JsonObject): CacheChunk {
  const tiers = isObject(chunk.tiers)
    ? Object.entries(chunk.tiers).map(([tier, bytes]) => [tier, asCount(bytes) ?? 0] as const)
    : [];
  return {
    worker,
    key: asText(chunk.key) ?? "",
    tiers,
    bytes: tiers.reduce((sum, [, bytes]) => sum + bytes, 0),
    tenant: asText(chunk.tenant) ?? "",
    position: asCount(chunk.position) ?? 0,
    pinned: isObject(chunk.pins) && Object.keys(chunk.pins).length > 0,
  };
}

/** Tokens a second that each tier gave, at one moment; null where that is not known yet. */
export interface CacheMoment {
  readonly at: number;
  readonly hits: ReadonlyMap<string, number | null>;
}

const WINDOW = 10;
const KEPT = 180;

interface Look {
  readonly at: number;
  readonly overview: CacheOverview;
}

/** One look at the cache after another, and what happened between them. An immutable value. */
export class CacheBoard {
  readonly moments: readonly CacheMoment[];
  readonly #looks: readonly Look[];

  constructor(looks: readonly Look[] = [], moments: readonly CacheMoment[] = []) {
    this.#looks = looks;
    this.moments = moments;
  }

  get overview(): CacheOverview | undefined {
    return this.#looks.at(-1)?.overview;
  }

  /** @param at seconds of any clock. */
  look(at: number, overview: CacheOverview): CacheBoard {
    const before = this.#looks[0];
    const hits = new Map(
      overview.tiers.map(({ name, hits: now }) => {
        const earlier = before?.overview.tiers.find((tier) => tier.name === name);
        // A worker that was started again counts from 0.
        if (!before || !earlier || now < earlier.hits || at <= before.at) return [name, null];
        return [name, ((now - earlier.hits) * overview.chunkTokens) / (at - before.at)];
      }),
    );
    return new CacheBoard(
      [...this.#looks, { at, overview }].slice(-WINDOW),
      [...this.moments, { at, hits }].slice(-KEPT),
    );
  }
}
