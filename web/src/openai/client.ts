import { readEvents } from "../sse";
import { type Health, readHealth } from "../fleet/health";
import { readChat } from "./chat-stream";
import { failureFromResponse, GatewayError } from "./failure";
import { asText, isObject, parseJson } from "./json";
import type { AnswerSource, ChatEvent, ChatRequest } from "./types";

export interface ChatAnswer {
  readonly source: AnswerSource;
  readonly events: AsyncIterable<ChatEvent>;
}

/** A way to get an answer. Server-sent events are one; others may carry the same steps. */
export interface ChatTransport {
  /**
   * Asks and resolves when the answer begins. Aborting `signal` cancels the request, also in mid-answer.
   *
   * @throws GatewayError when the server refuses; TypeError when it cannot be reached; AbortError.
   */
  open(request: ChatRequest, signal: AbortSignal): Promise<ChatAnswer>;
}

function requestBody(request: ChatRequest): string {
  return JSON.stringify({
    model: request.model,
    messages: request.messages,
    temperature: request.temperature,
    top_p: request.topP,
    max_tokens: request.maxTokens,
    stream: true,
    stream_options: { include_usage: true },
  });
}

function sourceOf(headers: Headers): AnswerSource {
  const worker = headers.get("x-sluice-worker");
  const route = headers.get("x-sluice-route");
  return { ...(worker && { worker }), ...(route && { route }) };
}

async function refuse(response: Response): Promise<never> {
  const body = await response.text().catch(() => "");
  throw new GatewayError(failureFromResponse(response.status, body, response.headers.get("retry-after"), Date.now()));
}

/** The gateway's HTTP interface, from the page's own origin. */
export class GatewayClient implements ChatTransport {
  readonly #apiKey: () => string;

  /** @param apiKey asked at every request; "" for none. */
  constructor(apiKey: () => string) {
    this.#apiKey = apiKey;
  }

  /** The gateway's account of its workers, or undefined when it has no /health of this form. */
  async health(signal: AbortSignal): Promise<Health | undefined> {
    const response = await fetch("/health", { signal, headers: this.#headers(), cache: "no-store" });
    // Not "ok" is told by a 503 too, with the same body.
    return readHealth(parseJson(await response.text()));
  }

  /** Names of the models that can be asked, in the server's order. */
  async models(signal: AbortSignal): Promise<string[]> {
    const response = await fetch("/v1/models", { signal, headers: this.#headers(), cache: "no-store" });
    if (!response.ok) return refuse(response);
    const body = parseJson(await response.text());
    const data: unknown = isObject(body) ? body.data : undefined;
    if (!Array.isArray(data)) return [];
    return data.flatMap((model: unknown) => (isObject(model) ? (asText(model.id) ?? []) : []));
  }

  async open(request: ChatRequest, signal: AbortSignal): Promise<ChatAnswer> {
    const response = await fetch("/v1/chat/completions", {
      method: "POST",
      headers: { ...this.#headers(), "content-type": "application/json", accept: "text/event-stream" },
      body: requestBody(request),
      signal,
    });
    if (!response.ok) return refuse(response);
    if (!response.body || !(response.headers.get("content-type") ?? "").startsWith("text/event-stream")) {
      throw new GatewayError({
        kind: "stream",
        title: "The answer could not be read",
        detail: "The server did not answer with an event stream.",
        status: response.status,
      });
    }
    return { source: sourceOf(response.headers), events: readChat(readEvents(response.body)) };
  }

  #headers(): Record<string, string> {
    const key = this.#apiKey();
    return key === "" ? {} : { authorization: `Bearer ${key}` };
  }
}
