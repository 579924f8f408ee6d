import type { ChatSession } from "./session";
import { Store } from "./store";

/** The pages of the app. */
export type View = "chat" | "fleet" | "cache" | "race";

const CONVERSATION = "#/c/";

/** The part of the address that names a conversation; "" for a new one. */
export function fragmentOf(conversationId: string | null): string {
  return conversationId === null ? "" : CONVERSATION + conversationId;
}

/** The conversation that a fragment names, null for a new one, undefined for a fragment of another kind. */
export function conversationOf(fragment: string): string | null | undefined {
  if (fragment === "" || fragment === "#") return null;
  return fragment.startsWith(CONVERSATION) ? fragment.slice(CONVERSATION.length) : undefined;
}

/** The page that a fragment names, undefined for a fragment of another kind, e.g. that of a skip link. */
export function viewOf(fragment: string): View | undefined {
  if (fragment === "#/fleet") return "fleet";
  if (fragment === "#/cache") return "cache";
  if (fragment === "#/race") return "race";
  return conversationOf(fragment) === undefined ? undefined : "chat";
}

/** Ties what is on show to the address: it survives a reload, and Back leads to what was there before. */
export class Navigator {
  readonly view = new Store<View>(viewOf(location.hash) ?? "chat");
  readonly #session: ChatSession;

  constructor(session: ChatSession) {
    this.#session = session;
  }

  /** Begins, once the stored conversations are known. */
  start(): void {
    const { state } = this.#session;
    // Someone quick may have asked before the stored conversations were read.
    if (state.get().currentId === null) this.#openNamed();
    else this.#nameShown();
    state.subscribe(() => {
      if (this.view.get() === "chat") this.#nameShown();
    });
    addEventListener("popstate", () => {
      this.view.set(viewOf(location.hash) ?? this.view.get());
      this.#openNamed();
    });
  }

  /** Shows a conversation, or a new one for null. */
  open(conversationId: string | null): void {
    this.#session.dispatch({ type: "opened", id: conversationId });
    this.#nameShown();
    this.view.set("chat");
  }

  #openNamed(): void {
    const id = conversationOf(location.hash);
    if (id === undefined) return;
    const known = this.#session.state.get().conversations.some((conversation) => conversation.id === id);
    this.#session.dispatch({ type: "opened", id: known ? id : null });
  }

  #nameShown(): void {
    const { currentId } = this.#session.state.get();
    if (conversationOf(location.hash) === currentId) return;
    history.pushState(null, "", location.pathname + fragmentOf(currentId));
  }
}
