import { describe, expect, it } from "vitest";
import { Board } from "../src/fleet/board";
import { CacheBoard, readChunks, readOverview } from "../src/fleet/cache";
import { buckets, quantile, readSamples, sum } from "../src/fleet/prometheus";

const TEXT = `# HELP sluice_active_requests Inference requests in the gateway now.
# TYPE sluice_active_requests gauge
sluice_active_requests 3
sluice_requests_total{worker="w0",model="a \\"b\\"\\n",end="ok"} 4 1795504031000
sluice_requests_total{worker="w1",model="m",end="ok"} 1e1
sluice_broken{worker="w1"} NaN
process_open_fds 9
sluice_time_to_first_token_seconds_bucket{worker="w0",le="0.1"} 2
sluice_time_to_first_token_seconds_bucket{worker="w1",le="0.1"} 1
sluice_time_to_first_token_seconds_bucket{worker="w0",le="+Inf"} 4
sluice_time_to_first_token_seconds_bucket{worker="w1",le="+Inf"} 1
`;

describe("readSamples", () => {
  const samples = readSamples(TEXT, "sluice_");

  it("reads names, labels with their escapes, and numbers", () => {
    expect(samples.slice(0, 2)).toEqual([
      { name: "sluice_active_requests", labels: {}, value: 3 },
      { name: "sluice_requests_total", labels: { worker: "w0", model: 'a "b"\n', end: "ok" }, value: 4 },
    ]);
    expect(samples.map(({ name }) => name)).not.toContain("sluice_broken");
    expect(samples.map(({ name }) => name)).not.toContain("process_open_fds");
  });

  it("adds up what is asked for", () => {
    expect(sum(samples, "sluice_requests_total")).toBe(14);
    expect(sum(samples, "sluice_requests_total", ({ labels }) => labels.worker === "w1")).toBe(10);
    expect(buckets(samples, "sluice_time_to_first_token_seconds")).toEqual([
      [0.1, 3],
      [Infinity, 5],
    ]);
  });
});

describe("quantile", () => {
  const before = [
    [0.1, 10],
    [0.2, 10],
    [Infinity, 10],
  ] as const;

  it("looks at what was added alone, and interpolates in its bucket", () => {
    const after = [
      [0.1, 12],
      [0.2, 18],
      [Infinity, 20],
    ] as const;
    expect(quantile(0.5, before, after)).toBeCloseTo(0.15);
    expect(quantile(0.1, before, after)).toBeCloseTo(0.05);
    expect(quantile(0.95, before, after)).toBe(0.2);
  });

  it("knows nothing of a time in which nothing was counted", () => {
    expect(quantile(0.5, before, before)).toBeUndefined();
    expect(quantile(0.5, [], [])).toBeUndefined();
  });
});

/** Metrics of two workers after `n` requests at each: 100 prompt tokens, 60 of them cached, 10 generated. */
function metrics(n: number): ReturnType<typeof readSamples> {
  const lines = ["w0", "w1"].flatMap((worker) => [
    `sluice_requests_total{worker="${worker}"} ${n}`,
    `sluice_prompt_tokens_total{worker="${worker}"} ${n * 100}`,
    `sluice_cached_prompt_tokens_total{worker="${worker}"} ${n * (worker === "w0" ? 60 : 20)}`,
    `sluice_output_tokens_total{worker="${worker}"} ${n * 10}`,
    `sluice_time_to_first_token_seconds_bucket{worker="${worker}",le="0.2"} ${n}`,
    `sluice_time_to_first_token_seconds_bucket{worker="${worker}",le="+Inf"} ${n}`,
  ]);
  return readSamples([...lines, "sluice_active_requests 2", "sluice_queued_requests 1"].join("\n"), "sluice_");
}

describe("Board", () => {
  it("shows what happened between two looks", () => {
    const board = new Board().look(100, metrics(0)).look(102, metrics(4));
    expect(board.latest).toMatchObject({
      inFlight: 2,
      queued: 1,
      requestsPerSecond: 4,
      tokensPerSecond: 40,
      hitRate: 0.4,
      ttftMedian: 0.1,
    });
    expect(board.worker("w0")).toMatchObject({ requestsPerSecond: 2, hitRate: 0.6 });
    expect(board.worker("w1").hitRate).toBeCloseTo(0.2);
    expect(board.worker("nobody").requestsPerSecond).toBeNull();
  });

  it("says nothing after one look, in idle times, and over a restart of the gateway", () => {
    const first = new Board().look(0, metrics(7));
    expect(first.latest).toMatchObject({ requestsPerSecond: null, hitRate: null });
    const idle = first.look(1, metrics(7));
    expect(idle.latest).toMatchObject({ requestsPerSecond: 0, hitRate: null, ttftMedian: null });
    expect(first.look(1, metrics(2)).latest).toMatchObject({ requestsPerSecond: null });
  });

  it("keeps three minutes", () => {
    let board = new Board();
    for (let at = 0; at < 400; at++) board = board.look(at, metrics(at));
    expect(board.moments).toHaveLength(180);
    expect(board.moments[0]?.at).toBe(220);
  });
});

/** What GET /admin/cache answers when the memory tier had so many hits. */
function cacheBody(hits: number): object {
  const tier = { chunks: 3, used_bytes: 300, capacity_bytes: 1000, available: true, hits, faults: 1 };
  return {
    workers: {
      w0: { chunk_tokens: 16, pinned_chunks: 2, tenants: { acme: 10, "": 5 } },
      w1: { chunk_tokens: 16, pinned_chunks: 1, tenants: { acme: 1 } },
      w2: { error: "the KV layer of w2 does not answer: refused" },
    },
    tiers: { memory: tier, valkey: { ...tier, capacity_bytes: null, hits: 0 } },
  };
}

describe("the cache", () => {
  it("is read over all workers, with those that do not answer named", () => {
    const overview = readOverview(cacheBody(7));
    expect(overview).toMatchObject({ workers: ["w0", "w1"], chunkTokens: 16, pinnedChunks: 3 });
    expect(overview.errors).toEqual(["the KV layer of w2 does not answer: refused"]);
    expect(overview.tenants.get("acme")).toBe(11);
    expect(overview.tiers.map(({ name, capacityBytes }) => [name, capacityBytes])).toEqual([
      ["memory", 1000],
      ["valkey", null],
    ]);
  });

  it.each([undefined, {}, { workers: [], tiers: 3 }])("is empty for %j", (body) => {
    expect(readOverview(body)).toMatchObject({ workers: [], errors: [], tiers: [] });
    expect(readChunks(body)).toEqual([]);
  });

  it("tells how many tokens a second every tier gave", () => {
    const first = new CacheBoard().look(10, readOverview(cacheBody(100)));
    expect(first.moments[0]?.hits.get("memory")).toBeNull();
    const second = first.look(12, readOverview(cacheBody(110)));
    expect(second.moments[1]?.hits.get("memory")).toBe(80);
    expect(second.moments[1]?.hits.get("valkey")).toBe(0);
    const restarted = second.look(13, readOverview(cacheBody(3)));
    expect(restarted.moments[2]?.hits.get("memory")).toBeNull();
  });

  it("lists entries with the largest first", () => {
    const chunks = [
      { key: "aa", tiers: { memory: 10 } },
      { key: "bb", tiers: { memory: 10, file: 5 }, pins: { ops: 1 }, tenant: "acme", position: 32 },
    ];
    expect(readChunks({ workers: { w0: { chunks }, w1: { error: "gone" } } })).toMatchObject([
      { worker: "w0", key: "bb", bytes: 15, pinned: true, tenant: "acme", position: 32 },
      { worker: "w0", key: "aa", bytes: 10, pinned: false },
    ]);
  });
});
