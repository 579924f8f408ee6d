import { failureFromThrown } from "../openai/failure";
import type { ChatAnswer } from "../openai/client";
import type { ChatEvent } from "../openai/types";
import type { ChatAction, Ending } from "./reducer";
import { Stopwatch } from "./stopwatch";

/** An answer that can be had now. */
export interface Asking {
  readonly model: string;
  readonly open: (signal: AbortSignal) => Promise<ChatAnswer>;
}

export interface AnswerRun {
  readonly conversationId: string;
  readonly answerId: string;
  /** Resolves when asking makes sense, e.g. when a worker has loaded the model. */
  readonly prepare: (signal: AbortSignal) => Promise<Asking>;
  /** It began before the page was loaded. */
  readonly resumed?: boolean;
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
  let watch = new Stopwatch(run.clock(), run.resumed);
  const pending = new PendingText((text, reasoning, after) => {
    dispatch({ type: "grew", id, answerId, text, reasoning, ...(after !== undefined && { after }) });
  }, run.soon);
  // What was begun before the page was loaded has begun, whatever becomes of it now.
  const progress = { begun: run.resumed === true, ended: false };
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
    const { model, open } = await run.prepare(signal);
    watch = new Stopwatch(run.clock(), run.resumed);
    const { source, events } = await open(signal);
    if (!signal.aborted) dispatch({ type: "began", id, answerId, model, source });
    progress.begun = true;
    for await (const event of events) {
      if (progress.ended) continue;
      take(event, watch, run.clock(), pending);
      const ending = endingOf(event);
      if (ending) end(ending);
    }
  } catch (thrown) {
    const failure = failureFromThrown(thrown);
    const brokeOff = progress.begun && (failure.kind === "network" || run.resumed);
    end(brokeOff ? { status: "interrupted" } : { status: "failed", failure });
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

function take(event: ChatEvent, watch: Stopwatch, now: number, pending: PendingText): void {
  if (event.type === "usage") watch.usage(event.usage);
  if (event.type === "transport") watch.transport(event.transport);
  if (event.type !== "text" && event.type !== "reasoning") return;
  watch.piece(now);
  pending.add(event.type, event.text, event.seq);
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
    case "transport":
      return undefined;
  }
}

/** Gathers pieces so that a fast stream costs one update per frame and not one per token. */
class PendingText {
  readonly #emit: (text: string, reasoning: string, after: number | undefined) => void;
  readonly #soon: (callback: () => void) => void;
  readonly #parts = { text: "", reasoning: "" };
  #after: number | undefined;
  #scheduled = false;

  constructor(
    emit: (text: string, reasoning: string, after: number | undefined) => void,
    soon: (callback: () => void) => void,
  ) {
    this.#emit = emit;
    this.#soon = soon;
  }

  add(part: "text" | "reasoning", text: string, seq: number | undefined): void {
    this.#parts[part] += text;
    this.#after = seq ?? this.#after;
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
    this.#emit(text, reasoning, this.#after);
  }
}
