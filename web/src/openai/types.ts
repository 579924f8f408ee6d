/** The parts of the OpenAI chat protocol that the page speaks, in the page's own names. */

export interface ChatTurn {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

export interface ChatRequest {
  readonly model: string;
  readonly messages: readonly ChatTurn[];
  /** Left out of the request when undefined: the model's own default then holds. */
  readonly temperature?: number;
  readonly topP?: number;
  readonly maxTokens?: number;
}

export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Prompt tokens taken from a prefix cache; undefined when the server does not say. */
  readonly cachedTokens?: number;
}

/** What the response headers say about who answered. */
export interface AnswerSource {
  readonly worker?: string;
  readonly route?: string;
}

/** One step of an answer. Exactly one of `end`, `error` and `interrupted` comes last. */
export type ChatEvent =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "reasoning"; readonly text: string }
  | { readonly type: "usage"; readonly usage: Usage }
  | { readonly type: "end"; readonly finishReason: string | undefined }
  | { readonly type: "error"; readonly failure: Failure }
  | { readonly type: "interrupted" };

/** Something that went wrong, in words; plain data, so that it can be kept with the answer. */
export interface Failure {
  readonly kind: "auth" | "busy" | "unavailable" | "unknown-model" | "refused" | "server" | "network" | "stream";
  readonly title: string;
  readonly detail: string;
  readonly status?: number;
  readonly code?: string;
  /** Seconds the server asks to wait, from Retry-After. */
  readonly retryAfterS?: number;
}
