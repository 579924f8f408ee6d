import { FleetWatch } from "../fleet/watch";
import { GatewayClient } from "../openai/client";
import { openConversations } from "../storage/conversations";
import { loadPreferences, type Preferences, savePreferences } from "../storage/preferences";
import { ConversationSync } from "../storage/sync";
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
    draft: preferences.get().defaults,
    soon,
  });
  const keeping = new Store<boolean | null>(null);

  let { apiKey } = preferences.get();
  preferences.subscribe(() => {
    savePreferences(localStorage, preferences.get());
    if (preferences.get().apiKey === apiKey) return;
    apiKey = preferences.get().apiKey;
    void fleet.reread();
  });
  void keepConversations(session, keeping);
  void fleet.look();
  return { session, fleet, preferences, keeping };
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
