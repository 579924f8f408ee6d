import * as Menu from "@radix-ui/react-dropdown-menu";
import { Braces, Ellipsis, FileText, Pencil, Trash2 } from "lucide-react";
import { useState } from "react";
import { download, fileName } from "../app/download";
import { toJson, toMarkdown } from "../chat/export";
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
      <ItemMenu
        conversation={conversation}
        onRename={() => {
          setRenaming(true);
        }}
        onRemove={onRemove}
      />
    </li>
  );
}

interface ItemMenuProps {
  readonly conversation: Conversation;
  readonly onRename: () => void;
  readonly onRemove: () => void;
}

function ItemMenu({ conversation, onRename, onRemove }: ItemMenuProps) {
  const { title } = conversation;
  return (
    // Modal, it would put a style element into the page, which the content security policy refuses.
    <Menu.Root modal={false}>
      <Menu.Trigger
        className="icon-button icon-button--small conversation__menu"
        aria-label={`What to do with “${title}”`}
      >
        <Ellipsis aria-hidden="true" />
      </Menu.Trigger>
      <Menu.Content className="menu" align="start" sideOffset={4} collisionPadding={8}>
        <Menu.Item className="menu__item" onSelect={onRename}>
          <Pencil aria-hidden="true" /> Rename
        </Menu.Item>
        <Menu.Item
          className="menu__item"
          onSelect={() => {
            download(fileName(title, "md"), "text/markdown", toMarkdown(conversation));
          }}
        >
          <FileText aria-hidden="true" /> Export as Markdown
        </Menu.Item>
        <Menu.Item
          className="menu__item"
          onSelect={() => {
            download(fileName(title, "json"), "application/json", toJson([conversation]));
          }}
        >
          <Braces aria-hidden="true" /> Export as JSON
        </Menu.Item>
        <Menu.Separator className="menu__line" />
        <Menu.Item className="menu__item menu__item--alarm" onSelect={onRemove}>
          <Trash2 aria-hidden="true" /> Delete
        </Menu.Item>
      </Menu.Content>
    </Menu.Root>
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
