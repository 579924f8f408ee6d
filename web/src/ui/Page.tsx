import { useCallback, useEffect, useState } from "react";
import { currentConversation } from "../chat/reducer";
import type { Conversation } from "../chat/types";
import { Announcer } from "./Announcer";
import { Composer } from "./Composer";
import { useChat } from "./context";
import { SettingsDialog, type SettingsField } from "./SettingsDialog";
import { Sidebar } from "./Sidebar";
import { SidebarDrawer } from "./SidebarDrawer";
import { Thread } from "./Thread";
import { Topbar } from "./Topbar";
import { UndoToast } from "./UndoToast";
import { useFocusOnOpen } from "./use-focus-on-open";
import { useStopKey } from "./use-stop-key";

type Panel = { readonly name: "settings"; readonly focus: SettingsField } | { readonly name: "drawer" } | null;

export function Page() {
  const chat = useChat();
  const conversation = currentConversation(chat);
  const [panel, setPanel] = useState<Panel>(null);
  const [removed, setRemoved] = useState<Conversation | null>(null);
  const [draft, setDraft] = useState("");
  useStopKey(conversation);
  useFocusOnOpen(chat.currentId);
  useEffect(() => {
    document.title = conversation ? `${conversation.title} · Sluice` : "Sluice";
  }, [conversation]);

  const close = useCallback(() => {
    setPanel(null);
  }, []);
  const forgetRemoved = useCallback(() => {
    setRemoved(null);
  }, []);
  const openSettings = useCallback((focus: SettingsField) => {
    setPanel({ name: "settings", focus });
  }, []);
  const sidebar = (
    <Sidebar
      onRemoved={setRemoved}
      onChosen={close}
      onSettings={() => {
        openSettings("api-key");
      }}
    />
  );

  return (
    <div className="page">
      <a className="skip-link" href="#message">
        Skip to the message box
      </a>
      <aside className="page__side" aria-label="Conversations">
        {sidebar}
      </aside>
      <div className="page__main">
        <Topbar
          onMenu={() => {
            setPanel({ name: "drawer" });
          }}
          onSettings={() => {
            openSettings("system-prompt");
          }}
        />
        <Thread
          key={conversation?.id ?? "new"}
          conversation={conversation}
          onExample={setDraft}
          onSettings={openSettings}
        />
        <Composer draft={draft} onDraft={setDraft} conversation={conversation} />
      </div>
      {panel?.name === "drawer" && <SidebarDrawer onClose={close}>{sidebar}</SidebarDrawer>}
      {panel?.name === "settings" && <SettingsDialog conversation={conversation} focus={panel.focus} onClose={close} />}
      {removed && <UndoToast key={removed.id} conversation={removed} onGone={forgetRemoved} />}
      <Announcer conversation={conversation} />
    </div>
  );
}
