import { type ChannelState, EloquentClient } from "../eloquent";
import { FleetWatch } from "../fleet/watch";
import { openLink } from "../network/links";
import { linkClock, ShapedNetwork } from "../network/shaped";
import { authorization, GatewayClient } from "../openai/client";
import { openConversations } from "../storage/conversations";
import { loadPreferences, type Preferences, savePreferences } from "../storage/preferences";
import { ConversationSync } from "../storage/sync";
import { Navigator } from "./address";
import { ChatSession } from "./session";
import { Store } from "./store";

/** Everything the page consists of, apart from what it looks like. */
export interface App {
  readonly session: ChatSession;
  readonly navigator: Navigator;
  readonly fleet: FleetWatch;
  readonly preferences: Store<Preferences>;
  readonly network: ShapedNetwork;
  readonly streams: EloquentClient;
  /** The data channel beside server-sent events. */
  readonly channel: Store<ChannelState>;
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
  const headers = (): Readonly<Record<string, string>> => authorization(preferences.get().apiKey);
  const network = new ShapedNetwork();
  const channel = new Store<ChannelState>({ kind: "unknown" });
  const streams = new EloquentClient({
    headers,
    network,
    useChannel: () => preferences.get().transport === "auto",
    onChange: () => {
      channel.set(streams.channel);
    },
  });
  const client = new GatewayClient(streams, headers);
  const fleet = new FleetWatch(client);
  const restartLink = followLink(preferences, network);
  const session = new ChatSession({
    // Every answer meets the same outages: regenerated over the other transport, it can be compared.
    transport: {
      open: (request, signal) => {
        restartLink();
        return client.open(request, signal);
      },
      resume: (place, signal) => client.resume(place, signal),
    },
    models: (signal) => fleet.models(signal),
    onTrouble: () => void fleet.look(),
    draft: preferences.get().defaults,
    soon,
  });
  const navigator = new Navigator(session);
  const keeping = new Store<boolean | null>(null);

  preferences.subscribe(() => {
    savePreferences(localStorage, preferences.get());
  });
  rereadOnNewKey(preferences, fleet, streams);
  void keepConversations(session, keeping).then(() => {
    navigator.start();
    session.resume();
  });
  void fleet.look();
  return { session, navigator, fleet, preferences, network, streams, channel, keeping };
}

/** Puts the chosen link between the page and the gateway; gives back how to start its outages anew. */
function followLink(preferences: Store<Preferences>, network: ShapedNetwork): () => void {
  let link: Preferences["link"] = null;
  const restart = (): void => {
    network.use(link === null ? undefined : openLink(link, linkClock()));
  };
  const follow = (): void => {
    if (preferences.get().link === link) return;
    link = preferences.get().link;
    restart();
  };
  follow();
  preferences.subscribe(follow);
  return restart;
}

/** Another key may see other models, and other streams. Waits for the end of the typing. */
function rereadOnNewKey(preferences: Store<Preferences>, fleet: FleetWatch, streams: EloquentClient): void {
  let { apiKey } = preferences.get();
  let timer: ReturnType<typeof setTimeout> | undefined;
  preferences.subscribe(() => {
    if (preferences.get().apiKey === apiKey) return;
    apiKey = preferences.get().apiKey;
    clearTimeout(timer);
    timer = setTimeout(() => {
      streams.reset();
      void fleet.reread();
    }, TYPING_PAUSE_MS);
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
