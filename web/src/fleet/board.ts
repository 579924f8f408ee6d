import { type Buckets, buckets, quantile, type Sample, sum } from "./prometheus";

/** The figures of one look at the gateway, as running totals. */
interface Totals {
  readonly requests: number;
  readonly outputTokens: number;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly ttft: Buckets;
}

interface Look {
  /** Seconds of any clock. */
  readonly at: number;
  readonly inFlight: number;
  readonly queued: number;
  readonly all: Totals;
  readonly workers: ReadonlyMap<string, Totals>;
}

/** What happened lately: rates per second, shares from 0 to 1, times in seconds; null where nothing did. */
export interface Figures {
  readonly requestsPerSecond: number | null;
  readonly tokensPerSecond: number | null;
  readonly hitRate: number | null;
  readonly ttftMedian: number | null;
  readonly ttftSlow: number | null;
}

/** One moment of the charts. */
export interface Moment extends Figures {
  readonly at: number;
  readonly inFlight: number;
  readonly queued: number;
}

const NOTHING: Figures = {
  requestsPerSecond: null,
  tokensPerSecond: null,
  hitRate: null,
  ttftMedian: null,
  ttftSlow: null,
};

/** The slow end of the times to first token: one in twenty is slower. */
const SLOW = 0.95;
/** Looks that a figure is taken over; and those that are kept. */
const WINDOW = 10;
const WORKER_WINDOW = 60;
const KEPT = 180;

/**
 * Turns one look at the metrics after another into what happened between them. An immutable value.
 */
export class Board {
  readonly moments: readonly Moment[];
  readonly #looks: readonly Look[];

  constructor(looks: readonly Look[] = [], moments: readonly Moment[] = []) {
    this.#looks = looks;
    this.moments = moments;
  }

  get latest(): Moment | undefined {
    return this.moments.at(-1);
  }

  /** @param at seconds of any clock. */
  look(at: number, samples: readonly Sample[]): Board {
    const look = lookAt(at, samples);
    const looks = [...this.#looks, look].slice(-(WORKER_WINDOW + 1));
    const before = looks.at(-(WINDOW + 1)) ?? looks[0];
    const figures = before ? between(before.at, before.all, look.at, look.all) : NOTHING;
    const moment = { at, inFlight: look.inFlight, queued: look.queued, ...figures };
    return new Board(looks, [...this.moments, moment].slice(-KEPT));
  }

  /** One worker's figures of the last minute. */
  worker(id: string): Figures {
    const after = this.#looks.at(-1);
    const totals = after?.workers.get(id);
    const before = this.#looks.find(({ workers }) => workers.has(id));
    const earlier = before?.workers.get(id);
    return after && totals && before && earlier ? between(before.at, earlier, after.at, totals) : NOTHING;
  }
}

function lookAt(at: number, samples: readonly Sample[]): Look {
  const ids = new Set(samples.map(({ labels }) => labels.worker).filter((id) => id !== undefined));
  return {
    at,
    inFlight: sum(samples, "sluice_active_requests"),
    queued: sum(samples, "sluice_queued_requests"),
    all: totalsOf(samples),
    workers: new Map([...ids].map((id) => [id, totalsOf(samples.filter(({ labels }) => labels.worker === id))])),
  };
}

function totalsOf(samples: readonly Sample[]): Totals {
  return {
    requests: sum(samples, "sluice_requests_total"),
    outputTokens: sum(samples, "sluice_output_tokens_total"),
    promptTokens: sum(samples, "sluice_prompt_tokens_total"),
    cachedTokens: sum(samples, "sluice_cached_prompt_tokens_total"),
    ttft: buckets(samples, "sluice_time_to_first_token_seconds"),
  };
}

function between(from: number, before: Totals, to: number, after: Totals): Figures {
  const seconds = to - from;
  // A gateway that was started again counts from 0.
  if (seconds <= 0 || after.requests < before.requests) return NOTHING;
  const prompt = after.promptTokens - before.promptTokens;
  return {
    requestsPerSecond: (after.requests - before.requests) / seconds,
    tokensPerSecond: (after.outputTokens - before.outputTokens) / seconds,
    hitRate: prompt > 0 ? (after.cachedTokens - before.cachedTokens) / prompt : null,
    ttftMedian: quantile(0.5, before.ttft, after.ttft) ?? null,
    ttftSlow: quantile(SLOW, before.ttft, after.ttft) ?? null,
  };
}
