import type { Conversation, Message } from "./types";

/** The branch on show, from the first message to the leaf. */
export function branch(conversation: Conversation): Message[] {
  const byId = new Map(conversation.messages.map((message) => [message.id, message]));
  const path: Message[] = [];
  for (let id = conversation.leaf; id !== null;) {
    const message = byId.get(id);
    if (!message) break;
    path.push(message);
    id = message.parent;
  }
  return path.reverse();
}

/** The messages before `id` on its own branch, `id` itself included. */
export function upTo(conversation: Conversation, id: string): Message[] {
  return branch({ ...conversation, leaf: id });
}

/** All versions of a message (those with the same parent), oldest first, itself included. */
export function versions(conversation: Conversation, message: Message): Message[] {
  return conversation.messages.filter(({ parent, role }) => parent === message.parent && role === message.role);
}

/** Follows the newest child from `id` down to the end of its branch. */
export function newestLeaf(conversation: Conversation, id: string): string {
  let leaf = id;
  for (;;) {
    const child = conversation.messages.findLast(({ parent }) => parent === leaf);
    if (!child) return leaf;
    leaf = child.id;
  }
}
