import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { canServe, type Health, readHealth } from "../src/fleet/health";
import { FleetWatch } from "../src/fleet/watch";
import { readGate, workerWords } from "../src/fleet/words";
import { GatewayError } from "../src/openai/failure";

const LOADING: Health = { status: "loading", workers: [{ id: "w0", state: "loading" }] };
const READY: Health = { status: "ok", workers: [{ id: "w0", state: "ready" }] };

describe("readHealth", () => {
  it("takes what it knows and leaves the rest", () => {
    const body = {
      status: "loading",
      version: "1",
      workers: [{ id: "w0", url: "u", model: "m", state: "loading", message: "" }, { state: "nameless" }, 7],
    };
    expect(readHealth(body)).toEqual({ status: "loading", workers: [{ id: "w0", state: "loading", model: "m" }] });
  });

  it.each([undefined, null, "ok", [], {}, { status: 1 }])("does not take %j for health", (body) => {
    expect(readHealth(body)).toBeUndefined();
  });
});

describe("the gate", () => {
  it.each<[Health, boolean]>([
    [READY, true],
    [LOADING, false],
    [{ status: "degraded", workers: [...LOADING.workers, ...READY.workers] }, true],
    [{ status: "degraded", workers: [] }, false],
    [{ ...READY, status: "draining" }, false],
  ])("of %j is open: %j", (health, open) => {
    expect(canServe(health)).toBe(open);
    expect(readGate({ kind: "known", health }).open).toBe(open);
  });

  it("tells a loading worker in words", () => {
    expect(readGate({ kind: "known", health: LOADING }).words).toBe("Worker w0 is loading the model…");
  });

  it("tells of several workers how many are ready", () => {
    const workers = [...READY.workers, { id: "w1", state: "loading" }];
    expect(readGate({ kind: "known", health: { status: "ok", workers } }).words).toBe("1 of 2 workers are ready");
  });

  it("is broken only when no worker is on its way", () => {
    const failed = { id: "w0", state: "failed", message: "no space left" };
    const gate = readGate({ kind: "known", health: { status: "degraded", workers: [failed] } });
    expect(gate).toEqual({ open: false, broken: true, words: "Worker w0 did not start: no space left" });
    const both = [failed, { id: "w1", state: "starting" }];
    expect(readGate({ kind: "known", health: { status: "loading", workers: both } })).toMatchObject({
      broken: false,
      words: "Worker w1 is starting… (0 of 2 ready)",
    });
  });

  it("tells that the gateway goes away", () => {
    const gate = readGate({ kind: "known", health: { ...READY, status: "draining" } });
    expect(gate).toMatchObject({ broken: true, words: "The gateway is shutting down" });
  });

  it("does not call a worker a worker twice", () => {
    expect(workerWords({ id: "worker-0", state: "ready" })).toBe("Worker-0 is ready");
  });

  it("has words for a state it has never heard of", () => {
    expect(workerWords({ id: "w0", state: "sleeping" })).toBe("Worker w0 is sleeping");
  });
});

describe("FleetWatch", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  function watchOf(health: () => Promise<Health | undefined>, models = () => Promise.resolve([{ id: "m" }])) {
    return new FleetWatch({ health, models });
  }

  const never = new AbortController().signal;

  it("becomes ready by itself when the worker has loaded", async () => {
    let health = LOADING;
    const watch = watchOf(() => Promise.resolve(health));
    await watch.look();
    const waiting = watch.models(never);
    expect(watch.state.get()).toMatchObject({ view: { health: LOADING }, models: null });
    health = READY;
    await vi.advanceTimersByTimeAsync(1000);
    await expect(waiting).resolves.toEqual([{ id: "m" }]);
  });

  it("looks again after the gateway could not be reached", async () => {
    let reachable = false;
    const watch = watchOf(() => (reachable ? Promise.resolve(READY) : Promise.reject(new TypeError("refused"))));
    await watch.look();
    expect(watch.state.get().view.kind).toBe("unreachable");
    reachable = true;
    await vi.advanceTimersByTimeAsync(1000);
    expect(watch.state.get().models).toEqual([{ id: "m" }]);
  });

  it("asks a server without our /health for its models all the same", async () => {
    const watch = watchOf(() => Promise.resolve(undefined));
    await watch.look();
    expect(watch.state.get()).toMatchObject({ view: { kind: "unknown" }, models: [{ id: "m" }] });
  });

  it("tells those who wait why the models are refused, and asks again with another key", async () => {
    const failure = { kind: "auth", title: "An API key is needed", detail: "…" } as const;
    let key = "";
    const watch = watchOf(
      () => Promise.resolve(READY),
      () => (key === "" ? Promise.reject(new GatewayError(failure)) : Promise.resolve([{ id: "m" }])),
    );
    await watch.look();
    expect(watch.state.get().refused).toEqual(failure);
    await expect(watch.models(never)).rejects.toThrow("An API key is needed");
    key = "sk";
    await watch.reread();
    expect(watch.state.get()).toMatchObject({ models: [{ id: "m" }], refused: null });
  });

  it("lets go of a wait that is aborted", async () => {
    const watch = watchOf(() => Promise.resolve(LOADING));
    await watch.look();
    const abort = new AbortController();
    const waiting = watch.models(abort.signal);
    abort.abort();
    await expect(waiting).rejects.toThrow(/abort/i);
  });
});
