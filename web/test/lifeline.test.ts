import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Lifeline } from "../src/eloquent/lifeline";

describe("a connection that the browser calls disconnected", () => {
  const lost: string[] = [];
  let lifeline: Lifeline;

  beforeEach(() => {
    vi.useFakeTimers();
    lost.length = 0;
    lifeline = new Lifeline((reason) => lost.push(reason));
    lifeline.changed("connecting");
    lifeline.changed("connected");
  });

  afterEach(() => {
    vi.useRealTimers();
  });

  it("is kept when its path comes back, as often as that happens", () => {
    for (let time = 0; time < 5; time += 1) {
      lifeline.changed("disconnected");
      vi.advanceTimersByTime(9_000);
      lifeline.changed("connected");
    }
    vi.advanceTimersByTime(60_000);
    expect(lost).toEqual([]);
  });

  it("is given up after ten seconds, counted from the first word of it", () => {
    lifeline.changed("disconnected");
    vi.advanceTimersByTime(6_000);
    lifeline.changed("disconnected");
    vi.advanceTimersByTime(3_999);
    expect(lost).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(lost).toEqual(["disconnected"]);
  });

  it.each(["failed", "closed"] as const)("is given up at once when it has %s", (state) => {
    lifeline.changed("disconnected");
    lifeline.changed(state);
    expect(lost).toEqual([state]);
    vi.advanceTimersByTime(60_000);
    expect(lost).toEqual([state]);
  });

  it("is not waited for by who has hung up", () => {
    lifeline.changed("disconnected");
    lifeline.stop();
    vi.advanceTimersByTime(60_000);
    expect(lost).toEqual([]);
  });
});
