import { workerName } from "../fleet/words";
import type { Answer, AnswerStats } from "./types";

function duration(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

export interface Fact {
  readonly label: string;
  readonly value: string;
}

/** The figures under an answer, in reading order; those that are not known are left out. */
export function answerFacts({ stats, source, model }: Answer): Fact[] {
  const facts: Fact[] = stats && stats.tokens > 0 ? statFacts(stats) : [];
  if (source?.worker) facts.push({ label: "Answered by", value: workerName(source.worker) });
  if (source?.route) facts.push(routeFact(source.route));
  facts.push({ label: "Model", value: model });
  return facts;
}

/** A route is a policy and its reason, e.g. `ttft:hit=1792/2048B,est=84ms`; the reason is for who asks. */
function routeFact(route: string): Fact {
  const [policy = "", reason = ""] = route.split(/:(.*)/s);
  return { label: reason === "" ? "Routing policy" : `Routing policy; ${reason}`, value: `route ${policy}` };
}

function statFacts(stats: AnswerStats): Fact[] {
  const facts: Fact[] = [];
  if (stats.ttftMs !== null)
    facts.push({ label: "Time to first token", value: `${duration(stats.ttftMs)} to first token` });
  if (stats.tokensPerSecond !== null) {
    facts.push({ label: "Tokens per second", value: `${stats.tokensPerSecond.toFixed(1)} tok/s` });
  }
  facts.push({
    label: stats.counted ? "Tokens in the answer" : "Pieces received; the server did not count the tokens",
    value: `${stats.counted ? "" : "about "}${count(stats.tokens, "token")}`,
  });
  if (stats.cachedTokens !== null && stats.promptTokens !== null) {
    facts.push({
      label: "Prompt tokens taken from the cache",
      value: `${stats.cachedTokens} of ${stats.promptTokens} cached`,
    });
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
