import { workerName } from "../fleet/words";
import type { CacheSources, TransportName } from "../openai/types";
import { type Answer, type AnswerStats, STALL_MS } from "./types";

function duration(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

/** One figure of an answer. */
export interface Fact {
  readonly label: string;
  readonly value: string;
  /** What the line under the answer shows; without it the fact is only among the details. */
  readonly brief?: string;
}

const TRANSPORTS: Readonly<Record<TransportName, string>> = { sse: "SSE", datachannel: "Eloquent" };

const TIERS: Readonly<Record<string, string>> = {
  engine: "the worker",
  memory: "memory",
  file: "disk",
  valkey: "Valkey",
  s3: "S3",
};

/** The figures of an answer, in reading order; those that are not known are left out. */
export function answerFacts({ stats, source, model }: Answer): Fact[] {
  const facts: Fact[] = stats && stats.tokens > 0 ? statFacts(stats) : [];
  facts.push({ label: "Model", value: model });
  if (source?.worker) {
    facts.push({ label: "Answered by", value: workerName(source.worker), brief: workerName(source.worker) });
  }
  if (source?.route) facts.push(...routeFacts(source.route));
  return facts;
}

/** A route is a policy and its reason, e.g. `ttft:hit=1792/2048B,est=84ms`. */
function routeFacts(route: string): Fact[] {
  const [policy = "", reason = ""] = route.split(/:(.*)/s);
  const facts: Fact[] = [{ label: "Routing policy", value: policy }];
  if (reason !== "") facts.push({ label: "Why this worker", value: reason.replaceAll(",", ", ") });
  return facts;
}

function statFacts(stats: AnswerStats): Fact[] {
  const facts: Fact[] = [];
  const { ttftMs, tokensPerSecond, tokens, counted, promptTokens, cachedTokens, sources } = stats;
  if (ttftMs !== null) {
    const value = duration(ttftMs);
    facts.push({ label: "Time to first token", value, brief: `${value} to first token` });
  }
  if (tokensPerSecond !== null) {
    const value = `${tokensPerSecond.toFixed(1)} tok/s`;
    facts.push({ label: "Speed after that", value, brief: value });
  }
  const about = counted ? "" : "about ";
  facts.push({
    label: counted ? "Tokens in the answer" : "Pieces received; the server did not count the tokens",
    value: `${about}${tokens}`,
    brief: `${about}${count(tokens, "token")}`,
  });
  if (promptTokens !== null) facts.push(promptFact(promptTokens, cachedTokens));
  if (sources) facts.push(...sourceFacts(sources));
  return [...facts, ...deliveryFacts(stats)];
}

function promptFact(promptTokens: number, cachedTokens: number | null): Fact {
  const label = "Tokens in the prompt";
  if (cachedTokens === null) return { label, value: `${promptTokens}`, brief: `${promptTokens} in the prompt` };
  return {
    label,
    value: `${promptTokens}, of which ${cachedTokens} from a cache`,
    brief: `${cachedTokens} of ${promptTokens} cached`,
  };
}

function sourceFacts({ tiers, computed }: CacheSources): Fact[] {
  const from = tiers.map(([tier, tokens]) => `${TIERS[tier] ?? tier} ${tokens}`);
  if (computed !== undefined) from.push(`computed ${computed}`);
  return from.length === 0 ? [] : [{ label: "Prompt tokens from", value: from.join(", ") }];
}

/** How it came: by which transports, and how often a reader had to wait. */
function deliveryFacts({ transports = [], stalls, resumed = false }: AnswerStats): Fact[] {
  const facts: Fact[] = [];
  if (transports.length > 0) {
    const value = transports.map((name) => TRANSPORTS[name]).join(" → ");
    facts.push({ label: "Transport", value, brief: `over ${value}` });
  }
  if (resumed) facts.push({ label: "Taken up again", value: "after the page was reloaded", brief: "resumed" });
  if (stalls) {
    const label = `Pauses over ${STALL_MS} ms`;
    if (stalls.count === 0) facts.push({ label, value: "none" });
    else {
      const value = `${count(stalls.count, "stall")}, longest ${duration(stalls.longestMs)}`;
      facts.push({ label, value, brief: value });
    }
  }
  return facts;
}

/** Says how an answer ended when that is worth saying; undefined for one that ended by itself. */
export function endingWords(answer: Answer): string | undefined {
  switch (answer.status) {
    case "stopped":
      return answer.text === "" ? "You stopped before the first word." : "You stopped this answer.";
    case "interrupted":
      return "The connection closed before the answer was complete. What arrived is kept above.";
    case "complete":
      return finishWords(answer);
    case "waiting":
    case "streaming":
    case "failed":
      return undefined;
  }
}

function finishWords({ finishReason, text, reasoning }: Answer): string | undefined {
  if (finishReason === "length") return "The token limit was reached. Raise it in the settings for a longer answer.";
  if (finishReason === "content_filter") return "A content filter ended this answer.";
  if (text === "" && reasoning === "") return "The model ended its turn without a word.";
  return undefined;
}
