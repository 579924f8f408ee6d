import { ChevronLeft, ChevronRight } from "lucide-react";
import type { Conversation, Message } from "../chat/types";
import { useApp } from "./context";

interface VersionPickerProps {
  readonly conversation: Conversation;
  readonly message: Message;
  readonly versions: readonly Message[];
}

/** Goes back and forth between the versions of an edited question or a regenerated answer. */
export function VersionPicker({ conversation, message, versions }: VersionPickerProps) {
  const { session } = useApp();
  if (versions.length < 2) return null;
  const index = versions.findIndex(({ id }) => id === message.id);
  const step = (by: -1 | 1, label: string, Icon: typeof ChevronLeft) => {
    const target = versions[index + by];
    return (
      <button
        type="button"
        className="icon-button icon-button--small"
        aria-label={label}
        disabled={!target}
        onClick={() => {
          if (target) session.dispatch({ type: "version", id: conversation.id, messageId: target.id });
        }}
      >
        <Icon aria-hidden="true" />
      </button>
    );
  };
  return (
    <span className="versions">
      {step(-1, "Previous version", ChevronLeft)}
      <span aria-label={`Version ${index + 1} of ${versions.length}`} role="img">
        {index + 1}/{versions.length}
      </span>
      {step(1, "Next version", ChevronRight)}
    </span>
  );
}
