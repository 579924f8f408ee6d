import { KeyRound, Plus } from "lucide-react";
import { useState } from "react";
import type { Conversation } from "../chat/types";
import { groupByAge } from "../chat/groups";
import { useApp, useChat, usePreferences, useStore } from "./context";
import { ConversationItem } from "./ConversationItem";
import { FleetList } from "./FleetList";
import { GateMark } from "./GateMark";

interface SidebarProps {
  readonly onRemoved: (conversation: Conversation) => void;
  /** A conversation was opened or begun; a drawer around the sidebar closes then. */
  readonly onChosen: () => void;
  readonly onSettings: () => void;
}

export function Sidebar({ onRemoved, onChosen, onSettings }: SidebarProps) {
  const { session, keeping } = useApp();
  const chat = useChat();
  const [{ apiKey }] = usePreferences();
  const kept = useStore(keeping);
  const [openedAt] = useState(() => Date.now());

  const open = (id: string | null): void => {
    session.dispatch({ type: "opened", id });
    onChosen();
  };
  return (
    <div className="sidebar">
      <p className="brand">
        <GateMark position="open" />
        <span className="brand__name">Sluice</span>
      </p>
      <button
        type="button"
        className="button button--new"
        onClick={() => {
          open(null);
        }}
      >
        <Plus aria-hidden="true" /> New conversation
      </button>
      <nav className="sidebar__list" aria-label="Your conversations">
        {chat.loaded && chat.conversations.length === 0 && (
          <p className="sidebar__empty">Conversations are kept in this browser and listed here.</p>
        )}
        {groupByAge(chat.conversations, openedAt).map(({ title, conversations }) => (
          <section key={title} aria-label={title}>
            <h2 className="sidebar__group">{title}</h2>
            <ul>
              {conversations.map((conversation) => (
                <ConversationItem
                  key={conversation.id}
                  conversation={conversation}
                  current={conversation.id === chat.currentId}
                  onOpen={() => {
                    open(conversation.id);
                  }}
                  onRemove={() => {
                    session.remove(conversation);
                    onRemoved(conversation);
                  }}
                />
              ))}
            </ul>
          </section>
        ))}
      </nav>
      {kept === false && (
        <p className="sidebar__notice" role="status">
          This browser keeps no data for this page: conversations are lost when it is closed.
        </p>
      )}
      <FleetList />
      <button type="button" className="button button--quiet" onClick={onSettings}>
        <KeyRound aria-hidden="true" /> {apiKey === "" ? "No API key" : "API key is set"}
      </button>
    </div>
  );
}
