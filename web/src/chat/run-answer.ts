import { failureFromThrown } from "../openai/failure";
import type { ChatTransport } from "../openai/client";
import type { ChatEvent, ChatRequest } from "../openai/types";
import type { ChatAction, Ending } from "./reducer";
import { Stopwatch } from "./stopwatch";

export interface AnswerRun {
  readonly conversationId: string;
  readonly answerId: string;
  /** Makes the request when asking makes sense, e.g. when a worker has loaded the model. */
  readonly prepare: (signal: AbortSignal) => Promise<ChatRequest>;
  readonly transport: ChatTransport;
  readonly signal: AbortSignal;
  readonly dispatch: (action: ChatAction) => void;
  /** Monotonic clock in milliseconds. */
  readonly clock: () => number;
  /** Wall clock in milliseconds. */
  readonly wallClock: () => number;
  /** Calls back once, soon; text that arrives until then is shown in one go. */
  readonly soon: (callback: () => void) => void;
}

/**
 * Asks, and tells the state every step of the answer until its end. Never throws: what goes wrong is an ending.
 */
export async function runAnswer(run: AnswerRun): Promise<void> {
  const { conversationId: id, answerId, dispatch, signal } = run;
  let watch = new Stopwatch(run.clock());
  const pending = new PendingText((text, reasoning) => {
    dispatch({ type: "grew", id, answerId, text, reasoning });
  }, run.soon);
  const progress = { begun: false, ended: false };
  const end = (ending: Omit<Ending, "stats">): void => {
    if (progress.ended) return;
    progress.ended = true;
    pending.flush();
    dispatch({ type: "ended", id, answerId, now: run.wallClock(), ending: { ...ending, stats: watch.stats() } });
  };
  const onAbort = (): void => {
    end({ status: "stopped" });
  };
  signal.addEventListener("abort", onAbort);
  try {
    const request = await run.prepare(signal);
    watch = new Stopwatch(run.clock());
    const { source, events } = await run.transport.open(request, signal);
    if (!signal.aborted) dispatch({ type: "began", id, answerId, model: request.model, source });
    progress.begun = true;
    for await (const event of events) {
      if (progress.ended) continue;
      take(event, watch, run.clock(), pending);
      const ending = endingOf(event);
      if (ending) end(ending);
    }
  } catch (thrown) {
    const failure = failureFromThrown(thrown);
    end(progress.begun && failure.kind === "network" ? { status: "interrupted" } : { status: "failed", failure });
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function take(event: ChatEvent, watch: Stopwatch, now: number, pending: PendingText): void {
  if (event.type === "usage") watch.usage(event.usage);
  if (event.type !== "text" && event.type !== "reasoning") return;
  watch.piece(now);
  pending.add(event.type, event.text);
}

function endingOf(event: ChatEvent): Omit<Ending, "stats"> | undefined {
  switch (event.type) {
    case "end":
      return { status: "complete", ...(event.finishReason !== undefined && { finishReason: event.finishReason }) };
    case "error":
      return { status: "failed", failure: event.failure };
    case "interrupted":
      return { status: "interrupted" };
    case "text":
    case "reasoning":
    case "usage":
      return undefined;
  }
}

/** Gathers pieces so that a fast stream costs one update per frame and not one per token. */
class PendingText {
  readonly #emit: (text: string, reasoning: string) => void;
  readonly #soon: (callback: () => void) => void;
  readonly #parts = { text: "", reasoning: "" };
  #scheduled = false;

  constructor(emit: (text: string, reasoning: string) => void, soon: (callback: () => void) => void) {
    this.#emit = emit;
    this.#soon = soon;
  }

  add(part: "text" | "reasoning", text: string): void {
    this.#parts[part] += text;
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#soon(() => {
      this.flush();
    });
  }

  flush(): void {
    this.#scheduled = false;
    const { text, reasoning } = this.#parts;
    if (text === "" && reasoning === "") return;
    this.#parts.text = this.#parts.reasoning = "";
    this.#emit(text, reasoning);
  }
}
