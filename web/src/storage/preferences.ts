import { PLAIN_SETTINGS, type Settings } from "../chat/types";
import { type LinkName, LINKS } from "../network/links";
import { isObject, parseJson } from "../openai/json";

export type Theme = "system" | "light" | "dark";

/** How answers are carried: by what is best at the moment, or by server-sent events alone. */
export type TransportChoice = "auto" | "sse";

export interface Preferences {
  readonly theme: Theme;
  /** Sent as a bearer token; "" for none. Kept in this browser alone. */
  readonly apiKey: string;
  /** The model last chosen; "" for none. */
  readonly model: string;
  readonly defaults: Settings;
  readonly transport: TransportChoice;
  /** The network that the page pretends to be on; null for the one it is on. */
  readonly link: LinkName | null;
}

export const PLAIN_PREFERENCES: Preferences = {
  theme: "system",
  apiKey: "",
  model: "",
  defaults: PLAIN_SETTINGS,
  transport: "auto",
  link: null,
};

/** The two calls of localStorage that are used here. */
export type KeyValue = Pick<Storage, "getItem" | "setItem">;

const KEY = "sluice.preferences.v1";

/** Reads the preferences; a missing, foreign or damaged entry gives the plain ones, field by field. */
export function loadPreferences(storage: KeyValue): Preferences {
  const value = parseJson(read(storage));
  if (!isObject(value)) return PLAIN_PREFERENCES;
  const { theme, apiKey, model, transport } = value;
  return {
    theme: theme === "light" || theme === "dark" ? theme : "system",
    apiKey: typeof apiKey === "string" ? apiKey : "",
    model: typeof model === "string" ? model : "",
    defaults: readSettings(value.defaults),
    transport: transport === "sse" ? "sse" : "auto",
    link: LINKS.find(({ name }) => name === value.link)?.name ?? null,
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
  const { systemPrompt, stop } = value;
  return {
    systemPrompt: typeof systemPrompt === "string" ? systemPrompt : "",
    temperature: numberOrNull(value.temperature),
    topP: numberOrNull(value.topP),
    maxTokens: numberOrNull(value.maxTokens),
    seed: numberOrNull(value.seed),
    stop: Array.isArray(stop) ? stop.filter((text: unknown): text is string => typeof text === "string") : [],
  };
}

function numberOrNull(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
