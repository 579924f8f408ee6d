import { useEffect } from "react";
import type { Conversation, Settings } from "../chat/types";
import { useApp, useChat, usePreferences } from "./context";
import { DataSettings } from "./DataSettings";
import { Dialog } from "./Dialog";
import { NumberField } from "./NumberField";
import { StopField } from "./StopField";
import { ThemeField } from "./ThemeField";

export type SettingsField = "system-prompt" | "api-key";

interface SettingsDialogProps {
  readonly conversation: Conversation | undefined;
  readonly focus: SettingsField;
  readonly onClose: () => void;
}

export function SettingsDialog({ conversation, focus, onClose }: SettingsDialogProps) {
  useEffect(() => {
    document.getElementById(focus)?.focus();
  }, [focus]);
  return (
    <Dialog title="Settings" className="dialog--right" onClose={onClose}>
      <div className="settings">
        <ConversationSettings conversation={conversation} />
        <BrowserSettings />
        <DataSettings />
      </div>
    </Dialog>
  );
}

function ConversationSettings({ conversation }: { readonly conversation: Conversation | undefined }) {
  const { session } = useApp();
  const { draft } = useChat();
  const [{ defaults }, changePreferences] = usePreferences();
  const settings = conversation?.settings ?? draft;
  const change = (part: Partial<Settings>): void => {
    session.dispatch({ type: "settings", id: conversation?.id ?? null, settings: { ...settings, ...part } });
  };
  const isDefault = JSON.stringify(settings) === JSON.stringify(defaults);
  return (
    <section aria-labelledby="settings-conversation">
      <h3 id="settings-conversation">{conversation ? "This conversation" : "The next conversation"}</h3>
      <label className="field">
        <span>System prompt</span>
        <textarea
          id="system-prompt"
          rows={5}
          value={settings.systemPrompt}
          placeholder="What the model should know or how it should answer"
          onChange={(event) => {
            change({ systemPrompt: event.target.value });
          }}
        />
      </label>
      <SamplingFields settings={settings} change={change} />
      <button
        type="button"
        className="button"
        disabled={isDefault}
        onClick={() => {
          changePreferences({ defaults: settings });
          session.dispatch({ type: "settings", id: null, settings });
        }}
      >
        {isDefault ? "New conversations start like this" : "Start new conversations like this"}
      </button>
    </section>
  );
}

interface SamplingFieldsProps {
  readonly settings: Settings;
  readonly change: (part: Partial<Settings>) => void;
}

function SamplingFields({ settings, change }: SamplingFieldsProps) {
  return (
    <>
      <div className="field-row">
        <NumberField
          label="Temperature"
          hint="0 always takes the likeliest word"
          min={0}
          max={2}
          step={0.05}
          value={settings.temperature}
          onChange={(temperature) => {
            change({ temperature });
          }}
        />
        <NumberField
          label="Top p"
          hint="share of likely words to draw from"
          min={0.01}
          max={1}
          step={0.01}
          value={settings.topP}
          onChange={(topP) => {
            change({ topP });
          }}
        />
      </div>
      <div className="field-row">
        <NumberField
          label="Most tokens in an answer"
          hint="a word is one to three tokens"
          min={1}
          max={1_000_000}
          step={1}
          value={settings.maxTokens}
          onChange={(maxTokens) => {
            change({ maxTokens });
          }}
        />
        <NumberField
          label="Seed"
          hint="the same seed draws the same words"
          min={0}
          max={2_147_483_647}
          step={1}
          value={settings.seed}
          onChange={(seed) => {
            change({ seed });
          }}
        />
      </div>
      <StopField
        value={settings.stop}
        onChange={(stop) => {
          change({ stop });
        }}
      />
    </>
  );
}

function BrowserSettings() {
  const [{ apiKey, theme }, change] = usePreferences();
  return (
    <section aria-labelledby="settings-browser">
      <h3 id="settings-browser">This browser</h3>
      <label className="field">
        <span>API key</span>
        <input
          id="api-key"
          type="password"
          autoComplete="off"
          spellCheck={false}
          value={apiKey}
          placeholder="None"
          onChange={(event) => {
            change({ apiKey: event.target.value.trim() });
          }}
        />
        <small>Kept in this browser and sent to this gateway alone.</small>
      </label>
      <ThemeField
        value={theme}
        onChange={(value) => {
          change({ theme: value });
        }}
      />
    </section>
  );
}
