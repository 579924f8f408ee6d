import type { Conversation } from "./types";

export interface ConversationGroup {
  readonly title: string;
  readonly conversations: readonly Conversation[];
}

const DAY_MS = 86_400_000;

/** Sorts conversations by their last use, newest first, under headings; empty groups are left out. */
export function groupByAge(conversations: readonly Conversation[], now: number): ConversationGroup[] {
  const newestFirst = conversations.toSorted((a, b) => b.updatedAt - a.updatedAt);
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  const groups = [
    { title: "Today", from: midnight, until: Infinity },
    { title: "Past seven days", from: midnight - 6 * DAY_MS, until: midnight },
    { title: "Earlier", from: -Infinity, until: midnight - 6 * DAY_MS },
  ];
  return groups
    .map(({ title, from, until }) => ({
      title,
      conversations: newestFirst.filter(({ updatedAt }) => updatedAt >= from && updatedAt < until),
    }))
    .filter((group) => group.conversations.length > 0);
}
