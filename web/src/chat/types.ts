import type { AnswerSource, CacheSources, Failure, StreamPlace, TransportName } from "../openai/types";

export interface Settings {
  readonly systemPrompt: string;
  /** null in any of these: not sent, so the model's own default holds. */
  readonly temperature: number | null;
  readonly topP: number | null;
  readonly maxTokens: number | null;
  readonly seed: number | null;
  /** Texts at which the answer ends; at most four, as in OpenAI's interface. */
  readonly stop: readonly string[];
}

export const PLAIN_SETTINGS: Settings = {
  systemPrompt: "",
  temperature: null,
  topP: null,
  maxTokens: null,
  seed: null,
  stop: [],
};

/** A picture that goes with a question, made small enough to be kept and sent. */
export interface Picture {
  readonly id: string;
  readonly name: string;
  /** `data:image/…;base64,…` */
  readonly url: string;
  readonly width: number;
  readonly height: number;
}

export interface Question {
  readonly role: "user";
  readonly id: string;
  /** The message this one follows; null for the first. Messages with the same parent are versions. */
  readonly parent: string | null;
  readonly text: string;
  readonly pictures?: readonly Picture[];
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
  readonly sources?: CacheSources;
  /** Waits of more than STALL_MS between two pieces; missing in answers kept by an older page. */
  readonly stalls?: Stalls;
  /** What carried it, in the order of use. */
  readonly transports?: readonly TransportName[];
  /** The page was closed or reloaded in between. */
  readonly resumed?: boolean;
}

/** A reader notices a pause of this length. */
export const STALL_MS = 200;

export interface Stalls {
  readonly count: number;
  readonly longestMs: number;
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
  /** Where to take the answer up again if the page is closed while it runs. */
  readonly place?: StreamPlace;
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
