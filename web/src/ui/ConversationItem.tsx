import { Pencil, Trash2 } from "lucide-react";
import { useState } from "react";
import { type Conversation, isRunning } from "../chat/types";
import { useApp } from "./context";

interface ConversationItemProps {
  readonly conversation: Conversation;
  readonly current: boolean;
  readonly onOpen: () => void;
  readonly onRemove: () => void;
}

export function ConversationItem({ conversation, current, onOpen, onRemove }: ConversationItemProps) {
  const [renaming, setRenaming] = useState(false);
  const { title, messages } = conversation;
  if (renaming) {
    return (
      <li className="conversation">
        <RenameForm
          conversation={conversation}
          onDone={() => {
            setRenaming(false);
          }}
        />
      </li>
    );
  }
  return (
    <li className="conversation" data-current={current}>
      <button type="button" className="conversation__open" aria-current={current ? "page" : undefined} onClick={onOpen}>
        {messages.some(isRunning) && <span className="conversation__running" role="img" aria-label="Answering" />}
        <span className="conversation__title">{title}</span>
      </button>
      <span className="conversation__tools">
        <button
          type="button"
          className="icon-button icon-button--small"
          aria-label={`Rename “${title}”`}
          onClick={() => {
            setRenaming(true);
          }}
        >
          <Pencil aria-hidden="true" />
        </button>
        <button
          type="button"
          className="icon-button icon-button--small"
          aria-label={`Delete “${title}”`}
          onClick={onRemove}
        >
          <Trash2 aria-hidden="true" />
        </button>
      </span>
    </li>
  );
}

function RenameForm({ conversation, onDone }: { readonly conversation: Conversation; readonly onDone: () => void }) {
  const { session } = useApp();
  const [title, setTitle] = useState(conversation.title);
  const save = (): void => {
    session.dispatch({ type: "renamed", id: conversation.id, title });
    onDone();
  };
  return (
    <form
      className="conversation__rename"
      onSubmit={(event) => {
        event.preventDefault();
        save();
      }}
    >
      <input
        ref={(input) => input?.select()}
        aria-label="Title of the conversation"
        value={title}
        onChange={(event) => {
          setTitle(event.target.value);
        }}
        onBlur={save}
        onKeyDown={(event) => {
          if (event.key !== "Escape") return;
          event.preventDefault();
          onDone();
        }}
      />
    </form>
  );
}
