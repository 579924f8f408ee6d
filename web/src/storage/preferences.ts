import { PLAIN_SETTINGS, type Settings } from "../chat/types";
import { isObject, parseJson } from "../openai/json";

export type Theme = "system" | "light" | "dark";

export interface Preferences {
  readonly theme: Theme;
  /** Sent as a bearer token; "" for none. Kept in this browser alone. */
  readonly apiKey: string;
  /** The model last chosen; "" for none. */
  readonly model: string;
  readonly defaults: Settings;
}

export const PLAIN_PREFERENCES: Preferences = { theme: "system", apiKey: "", model: "", defaults: PLAIN_SETTINGS };

/** The two calls of localStorage that are used here. */
export type KeyValue = Pick<Storage, "getItem" | "setItem">;

const KEY = "sluice.preferences.v1";

/** Reads the preferences; a missing, foreign or damaged entry gives the plain ones, field by field. */
export function loadPreferences(storage: KeyValue): Preferences {
  const value = parseJson(read(storage));
  if (!isObject(value)) return PLAIN_PREFERENCES;
  const { theme, apiKey, model } = value;
  return {
    theme: theme === "light" || theme === "dark" ? theme : "system",
    apiKey: typeof apiKey === "string" ? apiKey : "",
    model: typeof model === "string" ? model : "",
    defaults: readSettings(value.defaults),
  };
}

/** Writes the preferences; where the browser refuses storage they hold until the page is closed. */
export function savePreferences(storage: KeyValue, preferences: Preferences): void {
  try {
    storage.setItem(KEY, JSON.stringify(preferences));
  } catch {
    // Private windows and full disks refuse; the page works without.
  }
}

function read(storage: KeyValue): string {
  try {
    return storage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

function readSettings(value: unknown): Settings {
  if (!isObject(value)) return PLAIN_SETTINGS;
  const { systemPrompt } = value;
  return {
    systemPrompt: typeof systemPrompt === "string" ? systemPrompt : "",
    temperature: numberOrNull(value.temperature),
    topP: numberOrNull(value.topP),
    maxTokens: numberOrNull(value.maxTokens),
  };
}

function numberOrNull(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
