import type { ChatState } from "../chat/reducer";
import type { Conversation } from "../chat/types";
import type { ConversationStore } from "./conversations";

/**
 * Keeps the stored conversations equal to those of the state.
 *
 * Conversations are immutable values, so a changed one is another object. Writes wait a moment: a streaming
 * answer changes its conversation at every frame.
 */
export class ConversationSync {
  readonly #store: ConversationStore;
  readonly #onError: (error: unknown) => void;
  readonly #delayMs: number;
  #saved = new Map<string, Conversation>();
  #latest: readonly Conversation[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(store: ConversationStore, onError: (error: unknown) => void, delayMs = 600) {
    this.#store = store;
    this.#onError = onError;
    this.#delayMs = delayMs;
  }

  /** Tells what is in the store already. */
  started(conversations: readonly Conversation[]): void {
    this.#saved = new Map(conversations.map((conversation) => [conversation.id, conversation]));
    this.#latest = conversations;
  }

  /** Notes the state; it is written after the delay. */
  observe(state: ChatState): void {
    if (state.conversations === this.#latest) return;
    this.#latest = state.conversations;
    this.#timer ??= setTimeout(() => void this.flush(), this.#delayMs);
  }

  /** Writes now what has changed. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const now = new Map(this.#latest.map((conversation) => [conversation.id, conversation]));
    const before = this.#saved;
    this.#saved = now;
    const changed = this.#latest.filter((conversation) => before.get(conversation.id) !== conversation);
    const gone = [...before.keys()].filter((id) => !now.has(id));
    try {
      await Promise.all([
        ...changed.map((conversation) => this.#store.put(conversation)),
        ...gone.map((id) => this.#store.remove(id)),
      ]);
    } catch (error) {
      this.#onError(error);
    }
  }
}
