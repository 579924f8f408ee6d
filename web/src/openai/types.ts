/** The parts of the OpenAI chat protocol that the page speaks, in the page's own names. */

import type { Transport } from "../eloquent";

export type ContentPart =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "image_url"; readonly image_url: { readonly url: string } };

export interface ChatTurn {
  readonly role: "system" | "user" | "assistant";
  readonly content: string | readonly ContentPart[];
}

export interface ChatRequest {
  readonly model: string;
  readonly messages: readonly ChatTurn[];
  /** Left out of the request when undefined: the model's own default then holds. */
  readonly temperature?: number;
  readonly topP?: number;
  readonly maxTokens?: number;
  readonly seed?: number;
  readonly stop?: readonly string[];
}

/** One entry of GET /v1/models. */
export interface ModelInfo {
  readonly id: string;
  /** Whether it takes pictures; undefined when the server does not say. */
  readonly images?: boolean;
}

/** Where the cached prompt tokens came from, by tier; `computed` are the tokens that no tier had. */
export interface CacheSources {
  readonly computed?: number;
  /** In the server's order, e.g. `["engine", 512]`; tiers without a token are left out. */
  readonly tiers: readonly (readonly [tier: string, tokens: number])[];
}

export interface Usage {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Prompt tokens taken from a prefix cache; undefined when the server does not say. */
  readonly cachedTokens?: number;
  readonly sources?: CacheSources;
}

/** What carries an answer from the gateway to the page. */
export type TransportName = Transport;

/** A numbered answer in the gateway's token log, which can be taken up again after a reload. */
export interface StreamPlace {
  readonly streamId: string;
  /** Number of the last step that was received. */
  readonly after: number;
}

/** What the response headers say about who answered. */
export interface AnswerSource {
  readonly worker?: string;
  readonly route?: string;
  /** The id under which the gateway keeps the answer, if it does. */
  readonly streamId?: string;
}

/** One step of an answer. Exactly one of `end`, `error` and `interrupted` comes last. */
export type ChatEvent =
  | { readonly type: "text"; readonly text: string; readonly seq?: number }
  | { readonly type: "reasoning"; readonly text: string; readonly seq?: number }
  /** From here on another transport carries the answer. */
  | { readonly type: "transport"; readonly transport: TransportName }
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
