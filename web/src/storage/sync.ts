import type { ChatState } from "../chat/reducer";
import type { Conversation } from "../chat/types";
import type { ConversationStore } from "./conversations";

/**
 * Keeps the stored conversations equal to those of the state.
 *
 * Conversations are immutable values, so a changed one is another object. The first change is written at once,
 * since a page may be closed at any moment; those that follow shortly wait and are written together, since a
 * streaming answer changes its conversation at every frame.
 */
export class ConversationSync {
  readonly #store: ConversationStore;
  readonly #onError: (error: unknown) => void;
  readonly #pauseMs: number;
  #saved = new Map<string, Conversation>();
  #latest: readonly Conversation[] = [];
  #pause: ReturnType<typeof setTimeout> | undefined;

  constructor(store: ConversationStore, onError: (error: unknown) => void, pauseMs = 500) {
    this.#store = store;
    this.#onError = onError;
    this.#pauseMs = pauseMs;
  }

  /** Tells what is in the store already. */
  started(conversations: readonly Conversation[]): void {
    this.#saved = byId(conversations);
    this.#latest = conversations;
  }

  /** Notes the state, and writes what has changed: now, or at the end of the pause since the last time. */
  observe(state: ChatState): void {
    if (state.conversations === this.#latest) return;
    this.#latest = state.conversations;
    if (this.#pause !== undefined) return;
    void this.flush();
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      void this.flush();
    }, this.#pauseMs);
  }

  /** Writes now what has changed. */
  async flush(): Promise<void> {
    const before = this.#saved;
    const now = byId(this.#latest);
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

function byId(conversations: readonly Conversation[]): Map<string, Conversation> {
  return new Map(conversations.map((conversation) => [conversation.id, conversation]));
}
