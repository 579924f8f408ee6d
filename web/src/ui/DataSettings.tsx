import { Download, Upload } from "lucide-react";
import { useRef, useState } from "react";
import { download } from "../app/download";
import { fromJson, toJson } from "../chat/export";
import { useApp, useChat } from "./context";

/** Takes all conversations out of the browser, and brings them in. */
export function DataSettings() {
  const { session } = useApp();
  const { conversations } = useChat();
  const input = useRef<HTMLInputElement>(null);
  const [outcome, setOutcome] = useState("");
  const bringIn = async (file: File): Promise<void> => {
    try {
      const imported = fromJson(await file.text());
      session.dispatch({ type: "imported", conversations: imported });
      setOutcome(
        imported.length === 1 ? "One conversation was imported." : `${imported.length} conversations were imported.`,
      );
    } catch (error) {
      setOutcome((error as Error).message);
    }
  };
  return (
    <section aria-labelledby="settings-data">
      <h3 id="settings-data">Your conversations</h3>
      <div className="field-row">
        <button
          type="button"
          className="button"
          disabled={conversations.length === 0}
          onClick={() => {
            download("sluice-conversations.json", "application/json", toJson(conversations));
          }}
        >
          <Download aria-hidden="true" /> Export all
        </button>
        <button type="button" className="button" onClick={() => input.current?.click()}>
          <Upload aria-hidden="true" /> Import
        </button>
      </div>
      <input
        ref={input}
        type="file"
        accept="application/json,.json"
        hidden
        aria-label="File with conversations"
        onChange={(event) => {
          const file = event.target.files?.[0];
          event.target.value = "";
          if (file) void bringIn(file);
        }}
      />
      <p className="settings__outcome" role="status">
        {outcome}
      </p>
    </section>
  );
}
