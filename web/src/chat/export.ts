import { branch } from "./tree";
import { type Answer, type Conversation, type Message, PLAIN_SETTINGS, type Settings } from "./types";

const FORMAT = "sluice.conversations";

/** The branch on show as a document for people. */
export function toMarkdown(conversation: Conversation): string {
  const { systemPrompt } = conversation.settings;
  const parts = [`# ${conversation.title}`];
  if (systemPrompt.trim() !== "") parts.push(`> ${systemPrompt.trim().replaceAll("\n", "\n> ")}`);
  for (const message of branch(conversation)) parts.push(`## ${heading(message)}`, body(message));
  return `${parts.join("\n\n")}\n`;
}

function heading(message: Message): string {
  return message.role === "user" ? "You" : message.model;
}

function body(message: Message): string {
  if (message.role === "assistant") return message.text || `*${unanswered(message)}*`;
  const pictures = (message.pictures ?? []).map(({ name }) => `*(picture: ${name})*`);
  return [...pictures, message.text].filter(Boolean).join("\n\n");
}

function unanswered({ failure }: Answer): string {
  return failure ? `${failure.title}: ${failure.detail}` : "no answer";
}

/** Whole conversations, every branch of them, for `fromJson`. */
export function toJson(conversations: readonly Conversation[]): string {
  return `${JSON.stringify({ format: FORMAT, version: 1, conversations }, null, 1)}\n`;
}

/** Reads what `toJson` wrote. @throws Error, in words for the user, when it is something else. */
export function fromJson(text: string): Conversation[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error("The file is not JSON.");
  }
  const file = value as { format?: unknown; version?: unknown; conversations?: unknown } | null;
  if (file?.format !== FORMAT || !Array.isArray(file.conversations)) {
    throw new Error("The file holds no conversations that were exported here.");
  }
  if (file.version !== 1) throw new Error(`The file is of a newer version (${String(file.version)}).`);
  return file.conversations.map(readConversation);
}

function readConversation(value: unknown): Conversation {
  const { id, title, updatedAt, settings, messages, leaf } = value as Partial<Conversation>;
  if (typeof id !== "string" || typeof title !== "string" || !Array.isArray(messages)) {
    throw new Error("A conversation in the file is damaged.");
  }
  return {
    id,
    title,
    updatedAt: typeof updatedAt === "number" ? updatedAt : 0,
    settings: { ...PLAIN_SETTINGS, ...(settings as Partial<Settings> | undefined) },
    messages: (messages as readonly unknown[]).map(readMessage),
    leaf: typeof leaf === "string" ? leaf : null,
  };
}

function readMessage(value: unknown): Message {
  const message = value as Partial<Message>;
  const isKnown = message.role === "user" || message.role === "assistant";
  if (!isKnown || typeof message.id !== "string" || typeof message.text !== "string") {
    throw new Error("A message in the file is damaged.");
  }
  return value as Message;
}
