import type { AnswerSource, Failure } from "../openai/types";

export interface Settings {
  readonly systemPrompt: string;
  /** null in any of these: not sent, so the model's own default holds. */
  readonly temperature: number | null;
  readonly topP: number | null;
  readonly maxTokens: number | null;
}

export const PLAIN_SETTINGS: Settings = { systemPrompt: "", temperature: null, topP: null, maxTokens: null };

export interface Question {
  readonly role: "user";
  readonly id: string;
  /** The message this one follows; null for the first. Messages with the same parent are versions. */
  readonly parent: string | null;
  readonly text: string;
}

export type AnswerStatus = "waiting" | "streaming" | "complete" | "stopped" | "interrupted" | "failed";

export interface AnswerStats {
  readonly ttftMs: number | null;
  readonly tokensPerSecond: number | null;
  /** Completion tokens; counted by the server when `counted`, else the number of pieces that arrived. */
  readonly tokens: number;
  readonly counted: boolean;
  readonly promptTokens: number | null;
  readonly cachedTokens: number | null;
}

export interface Answer {
  readonly role: "assistant";
  readonly id: string;
  readonly parent: string;
  readonly model: string;
  readonly text: string;
  readonly reasoning: string;
  readonly status: AnswerStatus;
  readonly finishReason?: string;
  readonly failure?: Failure;
  readonly stats?: AnswerStats;
  readonly source?: AnswerSource;
}

export type Message = Question | Answer;

export interface Conversation {
  readonly id: string;
  readonly title: string;
  /** Wall clock in milliseconds of the last question or answer; the order of the list. */
  readonly updatedAt: number;
  readonly settings: Settings;
  /** A tree by `parent`, in the order of creation; nothing is lost by editing or regenerating. */
  readonly messages: readonly Message[];
  /** The end of the branch on show; null while there are no messages. */
  readonly leaf: string | null;
}

export function isRunning(message: Message): boolean {
  return message.role === "assistant" && (message.status === "waiting" || message.status === "streaming");
}
