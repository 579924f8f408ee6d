import { describe, expect, it } from "vitest";
import { failureFromResponse, failureFromThrown, GatewayError, parseRetryAfter } from "../src/openai/failure";
import { SseOverflowError } from "../src/eloquent";

const NOW = Date.parse("2026-01-01T00:00:00Z");

function failure(status: number, body = "", retryAfter: string | null = null) {
  return failureFromResponse(status, body, retryAfter, NOW);
}

describe("failureFromResponse", () => {
  it("takes the words of OpenAI's error form", () => {
    const body = JSON.stringify({
      error: { message: "The model `x` does not exist.", type: "t", code: "model_not_found" },
    });
    expect(failure(404, body)).toEqual({
      kind: "unknown-model",
      title: "Model not found",
      detail: "The model `x` does not exist.",
      status: 404,
      code: "model_not_found",
    });
  });

  it.each([
    [{ message: "flat", type: "BadRequest" }, "flat", "BadRequest"],
    [{ detail: "framework" }, "framework", undefined],
    [{ error: "a plain string" }, "a plain string", undefined],
  ])("takes the words of %j", (body, detail, code) => {
    const result = failure(400, JSON.stringify(body));
    expect([result.detail, result.code]).toEqual([detail, code]);
  });

  it.each([
    [401, "auth"],
    [403, "auth"],
    [413, "refused"],
    [422, "refused"],
    [429, "busy"],
    [500, "server"],
    [502, "unavailable"],
    [503, "unavailable"],
    [504, "unavailable"],
  ])("sorts status %i as %s and has words of its own for a body that has none", (status, kind) => {
    const result = failure(status, "<html>proxy page</html>");
    expect(result.kind).toBe(kind);
    expect(result.detail).not.toContain("<html>");
    expect(result.detail).not.toBe("");
  });

  it("carries Retry-After", () => {
    expect(failure(429, "", "7").retryAfterS).toBe(7);
    expect(failure(503).retryAfterS).toBeUndefined();
  });
});

describe("parseRetryAfter", () => {
  it.each([
    ["7", 7],
    ["0.2", 1],
    ["Thu, 01 Jan 2026 00:00:30 GMT", 30],
    ["Wed, 31 Dec 2025 00:00:00 GMT", 0],
    ["-3", undefined],
    ["soon", undefined],
    ["", undefined],
    [null, undefined],
  ])("reads %j as %j", (value, seconds) => {
    expect(parseRetryAfter(value, NOW)).toBe(seconds);
  });
});

describe("failureFromThrown", () => {
  it("keeps a gateway's own failure", () => {
    const own = failure(429);
    expect(failureFromThrown(new GatewayError(own))).toBe(own);
  });

  it("takes anything from fetch for the network", () => {
    expect(failureFromThrown(new TypeError("Failed to fetch")).kind).toBe("network");
  });

  it("tells an event without end from a network fault", () => {
    expect(failureFromThrown(new SseOverflowError(10))).toMatchObject({
      kind: "stream",
      detail: expect.stringContaining("more than 10") as string,
    });
  });
});
