import { useEffect } from "react";
import { type Conversation, isRunning } from "../chat/types";
import { useApp } from "./context";

/** Escape stops the running answer, wherever the focus is, unless something open wants the key itself. */
export function useStopKey(conversation: Conversation | undefined): void {
  const { session } = useApp();
  useEffect(() => {
    if (!conversation?.messages.some(isRunning)) return;
    const onKey = (event: KeyboardEvent): void => {
      if (event.key !== "Escape" || event.defaultPrevented || event.isComposing) return;
      if (document.querySelector("dialog[open]")) return;
      session.stop(conversation);
    };
    document.addEventListener("keydown", onKey);
    return () => {
      document.removeEventListener("keydown", onKey);
    };
  }, [conversation, session]);
}
