import { type DragEvent, useState } from "react";
import type { Conversation } from "../chat/types";
import { Composer } from "./Composer";
import type { SettingsField } from "./SettingsDialog";
import { Thread } from "./Thread";
import { useDraftPictures } from "./use-draft-pictures";

interface ChatViewProps {
  readonly conversation: Conversation | undefined;
  /** Id of the question that is being edited. */
  readonly editing: string | null;
  readonly onEditing: (questionId: string | null) => void;
  readonly onSettings: (focus: SettingsField) => void;
  readonly onShortcuts: () => void;
}

function hasFiles(event: DragEvent): boolean {
  return event.dataTransfer.types.includes("Files");
}

export function ChatView({ conversation, editing, onEditing, onSettings, onShortcuts }: ChatViewProps) {
  const [draft, setDraft] = useState("");
  const [over, setOver] = useState(false);
  const draftPictures = useDraftPictures();
  return (
    <div
      className="chat"
      role="presentation"
      data-over={over}
      onDragOver={(event) => {
        if (!hasFiles(event)) return;
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={(event) => {
        if (!event.currentTarget.contains(event.relatedTarget as Node | null)) setOver(false);
      }}
      onDrop={(event) => {
        if (!hasFiles(event)) return;
        event.preventDefault();
        setOver(false);
        draftPictures.add(event.dataTransfer.files);
      }}
    >
      <Thread
        key={conversation?.id ?? "new"}
        conversation={conversation}
        editing={editing}
        onEditing={onEditing}
        onExample={setDraft}
        onSettings={onSettings}
      />
      <Composer
        draft={draft}
        onDraft={setDraft}
        draftPictures={draftPictures}
        conversation={conversation}
        onShortcuts={onShortcuts}
      />
    </div>
  );
}
