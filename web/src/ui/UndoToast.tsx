import { useEffect } from "react";
import type { Conversation } from "../chat/types";
import { useApp } from "./context";

const SHOWN_MS = 8000;

export function UndoToast({
  conversation,
  onGone,
}: {
  readonly conversation: Conversation;
  readonly onGone: () => void;
}) {
  const { session } = useApp();
  useEffect(() => {
    const timer = setTimeout(onGone, SHOWN_MS);
    return () => {
      clearTimeout(timer);
    };
  }, [onGone]);
  return (
    <div className="toast" role="status">
      <span>Conversation deleted.</span>
      <button
        type="button"
        className="button button--quiet"
        onClick={() => {
          session.dispatch({ type: "restored", conversation });
          onGone();
        }}
      >
        Undo
      </button>
    </div>
  );
}
