import { useEffect } from "react";

/**
 * Opening a conversation puts the focus into the message box; not on a touch screen, where that would raise
 * the keyboard over the conversation.
 */
export function useFocusOnOpen(conversationId: string | null): void {
  useEffect(() => {
    if (matchMedia("(pointer: coarse)").matches) return;
    document.getElementById("message")?.focus();
  }, [conversationId]);
}
