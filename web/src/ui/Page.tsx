import { lazy, Suspense, useCallback, useEffect, useRef, useState } from "react";
import { copyText } from "../app/clipboard";
import { lastQuestion } from "../app/session";
import { currentConversation } from "../chat/reducer";
import { branch } from "../chat/tree";
import type { Conversation } from "../chat/types";
import { Announcer } from "./Announcer";
import { ChatView } from "./ChatView";
import { useApp, useChat, useStore } from "./context";
import { SettingsDialog, type SettingsField } from "./SettingsDialog";
import type { Command } from "./shortcuts";
import { ShortcutsDialog } from "./ShortcutsDialog";
import { Sidebar } from "./Sidebar";
import { SidebarDrawer } from "./SidebarDrawer";
import { type Notice, Toast } from "./Toast";
import { Topbar } from "./Topbar";
import { useFocusOnOpen } from "./use-focus-on-open";
import { useShortcuts } from "./use-shortcuts";
import { useStopKey } from "./use-stop-key";

const FleetPage = lazy(() => import("./fleet/FleetPage"));
const CachePage = lazy(() => import("./cache/CachePage"));
const RacePage = lazy(() => import("./race/RacePage"));

type Panel =
  | { readonly name: "settings"; readonly focus: SettingsField }
  | { readonly name: "drawer" }
  | { readonly name: "shortcuts" }
  | null;

const BOARDS = { fleet: FleetPage, cache: CachePage, race: RacePage } as const;

const TITLES = {
  chat: "Sluice",
  fleet: "Fleet · Sluice",
  cache: "Cache · Sluice",
  race: "Side by side · Sluice",
} as const;

export function Page() {
  const { session, navigator } = useApp();
  const chat = useChat();
  const view = useStore(navigator.view);
  const conversation = view === "chat" ? currentConversation(chat) : undefined;
  const Board = view === "chat" ? null : BOARDS[view];
  const [panel, setPanel] = useState<Panel>(null);
  const [notice, setNotice] = useState<Notice | null>(null);
  const [editing, setEditing] = useState<string | null>(null);
  const searchField = useRef<HTMLInputElement>(null);
  useStopKey(conversation);
  useFocusOnOpen(chat.currentId);
  useEffect(() => {
    document.title = conversation ? `${conversation.title} · Sluice` : TITLES[view];
  }, [conversation, view]);

  const close = useCallback(() => {
    setPanel(null);
  }, []);
  const forgetNotice = useCallback(() => {
    setNotice(null);
  }, []);
  const openSettings = useCallback((focus: SettingsField) => {
    setPanel({ name: "settings", focus });
  }, []);
  const openKey = useCallback(() => {
    openSettings("api-key");
  }, [openSettings]);
  const openShortcuts = useCallback(() => {
    setPanel({ name: "shortcuts" });
  }, []);
  const onRemoved = (removed: Conversation): void => {
    const run = (): void => {
      session.dispatch({ type: "restored", conversation: removed });
    };
    setNotice({ key: removed.id, words: "Conversation deleted.", action: { label: "Undo", run } });
  };

  useShortcuts((command: Command) => {
    switch (command) {
      case "search":
        if (searchField.current?.checkVisibility()) searchField.current.focus();
        else setPanel({ name: "drawer" });
        break;
      case "new":
        navigator.open(null);
        document.getElementById("message")?.focus();
        break;
      case "settings":
        openSettings("system-prompt");
        break;
      case "help":
        openShortcuts();
        break;
      case "message":
        document.getElementById("message")?.focus();
        break;
      case "copy":
        if (conversation) void copyLastAnswer(conversation, setNotice);
        break;
      case "edit":
        setEditing((conversation && lastQuestion(conversation)) ?? null);
        break;
    }
  });

  const sidebar = (field?: typeof searchField) => (
    <Sidebar {...(field && { searchField: field })} onRemoved={onRemoved} onChosen={close} onSettings={openKey} />
  );
  return (
    <div className="page">
      <a className="skip-link" href={view === "chat" ? "#message" : "#main"}>
        {view === "chat" ? "Skip to the message box" : "Skip to the figures"}
      </a>
      <aside className="page__side" aria-label="Conversations">
        {sidebar(searchField)}
      </aside>
      <div className="page__main" data-view={view}>
        <Topbar
          view={view}
          onMenu={() => {
            setPanel({ name: "drawer" });
          }}
          onSettings={() => {
            openSettings("system-prompt");
          }}
        />
        {Board === null ? (
          <ChatView
            conversation={conversation}
            editing={editing}
            onEditing={setEditing}
            onSettings={openSettings}
            onShortcuts={openShortcuts}
          />
        ) : (
          <Suspense fallback={<main className="board" id="main" aria-busy="true" />}>
            <Board onKey={openKey} />
          </Suspense>
        )}
      </div>
      {panel?.name === "drawer" && <SidebarDrawer onClose={close}>{sidebar()}</SidebarDrawer>}
      {panel?.name === "settings" && <SettingsDialog conversation={conversation} focus={panel.focus} onClose={close} />}
      {panel?.name === "shortcuts" && <ShortcutsDialog onClose={close} />}
      {notice && <Toast key={notice.key} notice={notice} onGone={forgetNotice} />}
      <Announcer conversation={conversation} />
    </div>
  );
}

async function copyLastAnswer(conversation: Conversation, tell: (notice: Notice) => void): Promise<void> {
  const answer = branch(conversation).findLast(({ role, text }) => role === "assistant" && text !== "");
  if (!answer) return;
  const copied = await copyText(answer.text);
  tell({ key: answer.id, words: copied ? "The answer is copied." : "The answer could not be copied." });
}
