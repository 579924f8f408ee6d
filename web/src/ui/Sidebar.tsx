import { Flag, KeyRound, Layers, Network, Plus, Search, X } from "lucide-react";
import { type RefObject, useState } from "react";
import type { View } from "../app/address";
import type { Conversation } from "../chat/types";
import { groupByAge } from "../chat/groups";
import { search } from "../chat/search";
import { useApp, useChat, usePreferences, useStore } from "./context";
import { ConversationItem } from "./ConversationItem";
import { FleetList } from "./FleetList";
import { GateMark } from "./GateMark";

interface SidebarProps {
  readonly searchField?: RefObject<HTMLInputElement | null>;
  readonly onRemoved: (conversation: Conversation) => void;
  /** A conversation or page was opened; a drawer around the sidebar closes then. */
  readonly onChosen: () => void;
  readonly onSettings: () => void;
}

const PAGES: readonly (readonly [View, string, typeof Network])[] = [
  ["fleet", "Fleet", Network],
  ["cache", "Cache", Layers],
  ["race", "Side by side", Flag],
];

export function Sidebar({ searchField, onRemoved, onChosen, onSettings }: SidebarProps) {
  const { session, navigator, keeping } = useApp();
  const chat = useChat();
  const view = useStore(navigator.view);
  const [{ apiKey }] = usePreferences();
  const kept = useStore(keeping);
  const [openedAt] = useState(() => Date.now());
  const [words, setWords] = useState("");
  const found = search(chat.conversations, words);

  const open = (id: string | null): void => {
    navigator.open(id);
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
      <SearchField field={searchField} words={words} onWords={setWords} />
      <nav className="sidebar__list" aria-label="Your conversations">
        {chat.loaded && chat.conversations.length === 0 && (
          <p className="sidebar__empty">Conversations are kept in this browser and listed here.</p>
        )}
        {words !== "" && chat.conversations.length > 0 && (
          <p className="sidebar__empty" role="status">
            {found.length === 0 ? "No conversation has these words." : `${found.length} found`}
          </p>
        )}
        {groupByAge(found, openedAt).map(({ title, conversations }) => (
          <section key={title} aria-label={title}>
            <h2 className="sidebar__group">{title}</h2>
            <ul>
              {conversations.map((conversation) => (
                <ConversationItem
                  key={conversation.id}
                  conversation={conversation}
                  current={view === "chat" && conversation.id === chat.currentId}
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
      <nav className="sidebar__pages" aria-label="Pages">
        {PAGES.map(([name, title, Icon]) => (
          <a
            key={name}
            className="button button--quiet"
            href={`#/${name}`}
            aria-current={view === name ? "page" : undefined}
            onClick={onChosen}
          >
            <Icon aria-hidden="true" /> {title}
          </a>
        ))}
        <button type="button" className="button button--quiet" onClick={onSettings}>
          <KeyRound aria-hidden="true" /> {apiKey === "" ? "No API key" : "API key is set"}
        </button>
      </nav>
    </div>
  );
}

interface SearchFieldProps {
  readonly field: RefObject<HTMLInputElement | null> | undefined;
  readonly words: string;
  readonly onWords: (words: string) => void;
}

function SearchField({ field, words, onWords }: SearchFieldProps) {
  return (
    <div className="search">
      <Search aria-hidden="true" />
      <input
        ref={field}
        type="text"
        role="searchbox"
        aria-label="Search conversations"
        placeholder="Search"
        spellCheck={false}
        value={words}
        onChange={(event) => {
          onWords(event.target.value);
        }}
        onKeyDown={(event) => {
          if (event.key !== "Escape" || words === "") return;
          event.preventDefault();
          onWords("");
        }}
      />
      {words !== "" && (
        <button
          type="button"
          className="icon-button icon-button--small"
          aria-label="Clear the search"
          onClick={() => {
            onWords("");
          }}
        >
          <X aria-hidden="true" />
        </button>
      )}
    </div>
  );
}
