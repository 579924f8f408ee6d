import { FleetWatch } from "../fleet/watch";
import { GatewayClient } from "../openai/client";
import { openConversations } from "../storage/conversations";
import { loadPreferences, type Preferences, savePreferences } from "../storage/preferences";
import { ConversationSync } from "../storage/sync";
import { followAddress } from "./address";
import { ChatSession } from "./session";
import { Store } from "./store";

/** Everything the page consists of, apart from what it looks like. */
export interface App {
  readonly session: ChatSession;
  readonly fleet: FleetWatch;
  readonly preferences: Store<Preferences>;
  /** Whether conversations outlive the page; null until that is known. */
  readonly keeping: Store<boolean | null>;
}

const TYPING_PAUSE_MS = 400;

/** A frame at most; in a hidden tab, where no frames come, a fraction of a second. */
function soon(callback: () => void): void {
  if (document.visibilityState === "visible") requestAnimationFrame(callback);
  else setTimeout(callback, 200);
}

/** Builds the page's objects, wires them together and starts them. */
export function startApp(): App {
  const preferences = new Store(loadPreferences(localStorage));
  const client = new GatewayClient(() => preferences.get().apiKey);
  const fleet = new FleetWatch(client);
  const session = new ChatSession({
    transport: client,
    models: (signal) => fleet.models(signal),
    onTrouble: () => void fleet.look(),
    draft: preferences.get().defaults,
    soon,
  });
  const keeping = new Store<boolean | null>(null);

  preferences.subscribe(() => {
    savePreferences(localStorage, preferences.get());
  });
  rereadOnNewKey(preferences, fleet);
  void keepConversations(session, keeping).then(() => {
    followAddress(session);
  });
  void fleet.look();
  return { session, fleet, preferences, keeping };
}

/** Another key may see other models. Waits for the end of the typing. */
function rereadOnNewKey(preferences: Store<Preferences>, fleet: FleetWatch): void {
  let { apiKey } = preferences.get();
  let timer: ReturnType<typeof setTimeout> | undefined;
  preferences.subscribe(() => {
    if (preferences.get().apiKey === apiKey) return;
    apiKey = preferences.get().apiKey;
    clearTimeout(timer);
    timer = setTimeout(() => void fleet.reread(), TYPING_PAUSE_MS);
  });
}

async function keepConversations(session: ChatSession, keeping: Store<boolean | null>): Promise<void> {
  try {
    const store = await openConversations();
    const stored = await store.all();
    const sync = new ConversationSync(store, () => {
      keeping.set(false);
    });
    sync.started(stored);
    session.dispatch({ type: "loaded", conversations: stored });
    session.state.subscribe(() => {
      sync.observe(session.state.get());
    });
    addEventListener("pagehide", () => void sync.flush());
    keeping.set(true);
  } catch {
    session.dispatch({ type: "loaded", conversations: [] });
    keeping.set(false);
  }
}
