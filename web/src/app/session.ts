import { newId } from "../chat/id";
import { buildRequest } from "../chat/request";
import { type ChatAction, type ChatState, currentConversation, initialState, reduce } from "../chat/reducer";
import { type Asking, runAnswer } from "../chat/run-answer";
import { branch } from "../chat/tree";
import {
  type Answer,
  type AnswerStatus,
  type Conversation,
  isRunning,
  type Picture,
  type Settings,
} from "../chat/types";
import type { ChatTransport } from "../openai/client";
import type { ModelInfo, StreamPlace } from "../openai/types";
import { Store } from "./store";

export interface SessionOptions {
  readonly transport: ChatTransport;
  /** Resolves to the models that can be asked, once there are any. */
  readonly models: (signal: AbortSignal) => Promise<readonly ModelInfo[]>;
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
  ask(text: string, model: string, pictures: readonly Picture[] = []): void {
    const conversation = currentConversation(this.state.get());
    this.#ask(conversation?.id ?? newId(), conversation?.leaf ?? null, { text, pictures }, model);
  }

  /** Asks another version of a question; the old one, with its pictures, and its answers stay beside it. */
  edit(conversation: Conversation, questionId: string, text: string, model: string): void {
    const question = conversation.messages.find(({ id }) => id === questionId);
    if (question?.role !== "user") return;
    this.stop(conversation);
    this.#ask(conversation.id, question.parent, { text, pictures: question.pictures ?? [] }, model);
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

  /** Takes up the answers that were running when the page was closed and that the gateway has kept. */
  resume(): void {
    for (const { id, messages } of this.state.get().conversations) {
      for (const message of messages) {
        if (message.role !== "assistant" || !isRunning(message) || this.#running.has(message.id)) continue;
        if (message.place) this.#resume(id, message, message.place);
      }
    }
  }

  #ask(
    id: string,
    parent: string | null,
    { text, pictures }: { readonly text: string; readonly pictures: readonly Picture[] },
    model: string,
  ): void {
    const question = { id: newId(), parent, text, ...(pictures.length > 0 && { pictures }) };
    const answer = { id: newId(), model };
    this.dispatch({ type: "asked", id, now: Date.now(), question, answer });
    this.#run(id, question.id, answer);
  }

  #run(conversationId: string, questionId: string, answer: { readonly id: string; readonly model: string }): void {
    const conversation = this.state.get().conversations.find(({ id }) => id === conversationId);
    if (!conversation) return;
    const { transport, models } = this.#options;
    this.#follow(conversationId, answer.id, false, async (signal) => {
      const known = (await models(signal)).map(({ id }) => id);
      const model = known.includes(answer.model) ? answer.model : (known[0] ?? answer.model);
      const request = buildRequest(conversation, questionId, model);
      return { model, open: (abort) => transport.open(request, abort) };
    });
  }

  #resume(conversationId: string, answer: Answer, place: StreamPlace): void {
    const { transport } = this.#options;
    this.#follow(conversationId, answer.id, true, () =>
      Promise.resolve({ model: answer.model, open: (abort) => transport.resume(place, abort) }),
    );
  }

  #follow(
    conversationId: string,
    answerId: string,
    resumed: boolean,
    prepare: (signal: AbortSignal) => Promise<Asking>,
  ): void {
    const { onTrouble, soon } = this.#options;
    const abort = new AbortController();
    this.#running.set(answerId, abort);
    void runAnswer({
      conversationId,
      answerId,
      resumed,
      prepare,
      signal: abort.signal,
      dispatch: (action) => {
        this.dispatch(action);
        if (action.type === "ended" && TROUBLE.has(action.ending.status)) onTrouble();
      },
      clock: () => performance.now(),
      wallClock: () => Date.now(),
      soon,
    }).finally(() => this.#running.delete(answerId));
  }
}

/** The question that the end of the branch answers, for "regenerate" and ArrowUp. */
export function lastQuestion(conversation: Conversation): string | undefined {
  return branch(conversation).findLast(({ role }) => role === "user")?.id;
}
