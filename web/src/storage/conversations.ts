import { type DBSchema, type IDBPDatabase, openDB } from "idb";
import { type Conversation, PLAIN_SETTINGS } from "../chat/types";

/** Where conversations outlive the page. */
export interface ConversationStore {
  /** All conversations, newest first. */
  all(): Promise<Conversation[]>;
  put(conversation: Conversation): Promise<void>;
  remove(id: string): Promise<void>;
}

interface Schema extends DBSchema {
  conversations: { key: string; value: Conversation; indexes: { "by-update": number } };
}

/** Opens the browser's database. @throws DOMException where the browser keeps no data for this page. */
export async function openConversations(name = "sluice"): Promise<ConversationStore> {
  const db = await openDB<Schema>(name, 1, {
    upgrade(database) {
      database.createObjectStore("conversations", { keyPath: "id" }).createIndex("by-update", "updatedAt");
    },
  });
  return new IndexedConversations(db);
}

class IndexedConversations implements ConversationStore {
  readonly #db: IDBPDatabase<Schema>;

  constructor(db: IDBPDatabase<Schema>) {
    this.#db = db;
  }

  async all(): Promise<Conversation[]> {
    const stored = await this.#db.getAllFromIndex("conversations", "by-update");
    // A page of an older release knew fewer settings.
    return stored.reverse().map((one) => ({ ...one, settings: { ...PLAIN_SETTINGS, ...one.settings } }));
  }

  async put(conversation: Conversation): Promise<void> {
    await this.#db.put("conversations", conversation);
  }

  async remove(id: string): Promise<void> {
    await this.#db.delete("conversations", id);
  }
}
