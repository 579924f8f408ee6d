import type { ChatSession } from "./session";

const PREFIX = "#/c/";

/** The part of the address that names a conversation; "" for a new one. */
export function fragmentOf(conversationId: string | null): string {
  return conversationId === null ? "" : PREFIX + conversationId;
}

/** The conversation that a fragment names, null for a new one, undefined for a fragment of another kind. */
export function conversationOf(fragment: string): string | null | undefined {
  if (fragment === "" || fragment === "#") return null;
  return fragment.startsWith(PREFIX) ? fragment.slice(PREFIX.length) : undefined;
}

/** Ties the conversation on show to the address: it survives a reload, and Back leads to the one before. */
export function followAddress(session: ChatSession): void {
  const openNamed = (): void => {
    const id = conversationOf(location.hash);
    if (id === undefined) return;
    const known = session.state.get().conversations.some((conversation) => conversation.id === id);
    session.dispatch({ type: "opened", id: known ? id : null });
  };
  const nameShown = (): void => {
    const { currentId } = session.state.get();
    if (conversationOf(location.hash) === currentId) return;
    history.pushState(null, "", location.pathname + fragmentOf(currentId));
  };
  // Someone quick may have asked before the stored conversations were read.
  if (session.state.get().currentId === null) openNamed();
  else nameShown();
  session.state.subscribe(nameShown);
  addEventListener("popstate", openNamed);
}
