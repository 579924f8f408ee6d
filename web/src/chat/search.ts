import type { Conversation } from "./types";

/** The conversations in whose title or messages every word of `words` occurs, in the given order. */
export function search(conversations: readonly Conversation[], words: string): readonly Conversation[] {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  if (wanted.length === 0) return conversations;
  return conversations.filter(({ title, messages }) => {
    const texts = [title, ...messages.map(({ text }) => text)].map((text) => text.toLowerCase());
    return wanted.every((word) => texts.some((text) => text.includes(word)));
  });
}
