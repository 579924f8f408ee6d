import "fake-indexeddb/auto";
import { describe, expect, it, vi } from "vitest";
import { initialState } from "../src/chat/reducer";
import { type Conversation, PLAIN_SETTINGS } from "../src/chat/types";
import { openConversations } from "../src/storage/conversations";
import { type KeyValue, loadPreferences, PLAIN_PREFERENCES, savePreferences } from "../src/storage/preferences";
import { ConversationSync } from "../src/storage/sync";

function conversation(id: string, updatedAt: number): Conversation {
  return { id, title: id, updatedAt, settings: PLAIN_SETTINGS, messages: [], leaf: null };
}

class MemoryStorage implements KeyValue {
  readonly entries = new Map<string, string>();
  getItem(key: string): string | null {
    return this.entries.get(key) ?? null;
  }
  setItem(key: string, value: string): void {
    this.entries.set(key, value);
  }
}

class RefusingStorage implements KeyValue {
  getItem(): string | null {
    throw new DOMException("denied", "SecurityError");
  }
  setItem(): void {
    throw new DOMException("full", "QuotaExceededError");
  }
}

describe("preferences", () => {
  it("come back as they were saved", () => {
    const storage = new MemoryStorage();
    const preferences = {
      theme: "dark",
      apiKey: "sk-1",
      model: "m",
      defaults: {
        systemPrompt: "Be brief.",
        temperature: 0.5,
        topP: null,
        maxTokens: 100,
        seed: 7,
        stop: ["\n\n", "END"],
      },
      transport: "sse",
      link: "train",
    } as const;
    savePreferences(storage, preferences);
    expect(loadPreferences(storage)).toEqual(preferences);
  });

  it.each(["", "{not json", "[]", '{"theme":"pink","apiKey":7,"defaults":{"temperature":"hot"}}'])(
    "are the plain ones for the damaged entry %j",
    (entry) => {
      const storage = new MemoryStorage();
      savePreferences(storage, PLAIN_PREFERENCES);
      const [key] = storage.entries.keys();
      storage.setItem(key ?? "", entry);
      expect(loadPreferences(storage)).toEqual(PLAIN_PREFERENCES);
    },
  );

  it("do without storage where the browser refuses it", () => {
    expect(loadPreferences(new RefusingStorage())).toEqual(PLAIN_PREFERENCES);
    expect(() => {
      savePreferences(new RefusingStorage(), PLAIN_PREFERENCES);
    }).not.toThrow();
  });
});

describe("conversations", () => {
  it("come back newest first, and not after they were removed", async () => {
    const store = await openConversations("order");
    await store.put(conversation("old", 1));
    await store.put(conversation("new", 3));
    await store.put(conversation("middle", 2));
    await store.remove("middle");
    expect((await store.all()).map(({ id }) => id)).toEqual(["new", "old"]);
  });

  it("follow the state: only what changed is written, what is gone is removed", async () => {
    const store = await openConversations("sync");
    const kept = conversation("kept", 1);
    for (const stored of [kept, conversation("gone", 2)]) await store.put(stored);
    const written: string[] = [];
    const sync = new ConversationSync(
      {
        ...store,
        put: async (value) => {
          written.push(value.id);
          await store.put(value);
        },
        remove: (id) => store.remove(id),
        all: () => store.all(),
      },
      () => undefined,
    );
    sync.started(await store.all().then(([gone]) => (gone ? [gone, kept] : [])));
    const added = conversation("added", 3);
    sync.observe({ ...initialState(PLAIN_SETTINGS), conversations: [added, kept] });
    await sync.flush();
    expect(written).toEqual(["added"]);
    expect((await store.all()).map(({ id }) => id)).toEqual(["added", "kept"]);
    await sync.flush();
    expect(written).toEqual(["added"]);
  });

  it("are written at the first change, and then once for all changes within the pause", () => {
    vi.useFakeTimers();
    const written: number[] = [];
    const put = (value: Conversation) => Promise.resolve(void written.push(value.updatedAt));
    const store = { all: () => Promise.resolve([]), put, remove: () => Promise.resolve() };
    const sync = new ConversationSync(store, () => undefined, 500);
    for (const updatedAt of [1, 2, 3]) {
      sync.observe({ ...initialState(PLAIN_SETTINGS), conversations: [conversation("a", updatedAt)] });
    }
    expect(written).toEqual([1]);
    vi.advanceTimersByTime(500);
    expect(written).toEqual([1, 3]);
    vi.advanceTimersByTime(5000);
    expect(written).toEqual([1, 3]);
    vi.useRealTimers();
  });

  it("tell when they cannot be kept", async () => {
    const errors: unknown[] = [];
    const refuse = () => Promise.reject(new DOMException("full", "QuotaExceededError"));
    const sync = new ConversationSync({ all: refuse, put: refuse, remove: refuse }, (error) => errors.push(error));
    sync.observe({ ...initialState(PLAIN_SETTINGS), conversations: [conversation("a", 1)] });
    await sync.flush();
    expect(errors).toHaveLength(1);
  });
});
