import { newId } from "../chat/id";
import { buildRequest } from "../chat/request";
import { type ChatAction, type ChatState, currentConversation, initialState, reduce } from "../chat/reducer";
import { runAnswer } from "../chat/run-answer";
import { branch } from "../chat/tree";
import type { AnswerStatus, Conversation, Settings } from "../chat/types";
import type { ChatTransport } from "../openai/client";
import { Store } from "./store";

export interface SessionOptions {
  readonly transport: ChatTransport;
  /** Resolves to the models that can be asked, once there are any. */
  readonly models: (signal: AbortSignal) => Promise<readonly string[]>;
  /** Called when an answer ended other than it should: the gateway or a worker may be gone. */
  readonly onTrouble: () => void;
  readonly draft: Settings;
  readonly soon: (callback: () => void) => void;
}

const TROUBLE: ReadonlySet<AnswerStatus> = new Set(["failed", "interrupted"]);

/** What a user can do in the chat. Holds the state and the answers that are running. */
export class ChatSession {
  readonly state: Store<ChatState>;
  readonly #options: SessionOptions;
  /** By answer id. */
  readonly #running = new Map<string, AbortController>();

  constructor(options: SessionOptions) {
    this.#options = options;
    this.state = new Store(initialState(options.draft));
  }

  readonly dispatch = (action: ChatAction): void => {
    this.state.set(reduce(this.state.get(), action));
  };

  /** Asks at the end of the branch on show, or begins a new conversation. */
  ask(text: string, model: string): void {
    const conversation = currentConversation(this.state.get());
    this.#ask(conversation?.id ?? newId(), conversation?.leaf ?? null, text, model);
  }

  /** Asks another version of a question; the old one and its answers stay beside it. */
  edit(conversation: Conversation, questionId: string, text: string, model: string): void {
    const question = conversation.messages.find(({ id }) => id === questionId);
    if (!question) return;
    this.stop(conversation);
    this.#ask(conversation.id, question.parent, text, model);
  }

  /** Asks for another answer to the same question. */
  regenerate(conversation: Conversation, questionId: string, model: string): void {
    this.stop(conversation);
    const answer = { id: newId(), model };
    this.dispatch({ type: "asked-again", id: conversation.id, now: Date.now(), questionId, answer });
    this.#run(conversation.id, questionId, answer);
  }

  /** Stops every answer of the conversation that is still running. */
  stop(conversation: Conversation): void {
    for (const { id } of conversation.messages) this.#running.get(id)?.abort();
  }

  remove(conversation: Conversation): void {
    this.stop(conversation);
    this.dispatch({ type: "removed", id: conversation.id });
  }

  #ask(id: string, parent: string | null, text: string, model: string): void {
    const question = { id: newId(), parent, text };
    const answer = { id: newId(), model };
    this.dispatch({ type: "asked", id, now: Date.now(), question, answer });
    this.#run(id, question.id, answer);
  }

  #run(conversationId: string, questionId: string, answer: { readonly id: string; readonly model: string }): void {
    const conversation = this.state.get().conversations.find(({ id }) => id === conversationId);
    if (!conversation) return;
    const { transport, models, onTrouble, soon } = this.#options;
    const abort = new AbortController();
    this.#running.set(answer.id, abort);
    void runAnswer({
      conversationId,
      answerId: answer.id,
      prepare: async (signal) => {
        const known = await models(signal);
        const model = known.includes(answer.model) ? answer.model : (known[0] ?? answer.model);
        return buildRequest(conversation, questionId, model);
      },
      transport,
      signal: abort.signal,
      dispatch: (action) => {
        this.dispatch(action);
        if (action.type === "ended" && TROUBLE.has(action.ending.status)) onTrouble();
      },
      clock: () => performance.now(),
      wallClock: () => Date.now(),
      soon,
    }).finally(() => this.#running.delete(answer.id));
  }
}

/** The question that the end of the branch answers, for "regenerate" and ArrowUp. */
export function lastQuestion(conversation: Conversation): string | undefined {
  return branch(conversation).findLast(({ role }) => role === "user")?.id;
}
