import { type EloquentClient, type EloquentStream, RefusedError } from "../eloquent";
import { type Health, readHealth } from "../fleet/health";
import { readChat } from "./chat-stream";
import { failureFromResponse, GatewayError } from "./failure";
import { asText, parseJson } from "./json";
import { readModels } from "./models";
import type { AnswerSource, ChatEvent, ChatRequest, ModelInfo, StreamPlace } from "./types";

export interface ChatAnswer {
  readonly source: AnswerSource;
  readonly events: AsyncIterable<ChatEvent>;
}

/** A way to get an answer. */
export interface ChatTransport {
  /**
   * Asks and resolves when the answer begins. Aborting `signal` stops the answer, also in its middle.
   *
   * @throws GatewayError when the server refuses; TypeError when it cannot be reached; AbortError.
   */
  open(request: ChatRequest, signal: AbortSignal): Promise<ChatAnswer>;

  /**
   * Takes up an answer that the gateway has kept, after the step `place.after`.
   *
   * @throws as `open` does.
   */
  resume(place: StreamPlace, signal: AbortSignal): Promise<ChatAnswer>;
}

const CHAT = "/v1/chat/completions";

function requestBody(request: ChatRequest): object {
  return {
    model: request.model,
    messages: request.messages,
    temperature: request.temperature,
    top_p: request.topP,
    max_tokens: request.maxTokens,
    seed: request.seed,
    stop: request.stop,
    stream: true,
    stream_options: { include_usage: true },
  };
}

function sourceOf({ headers, id }: EloquentStream): AnswerSource {
  const worker = headers.get("x-sluice-worker");
  const route = headers.get("x-sluice-route");
  return { ...(worker && { worker }), ...(route && { route }), ...(id !== undefined && { streamId: id }) };
}

async function refuse(response: Response): Promise<never> {
  const body = await response.text().catch(() => "");
  if (response.ok) {
    throw new GatewayError({
      kind: "stream",
      title: "The answer could not be read",
      detail: "The server did not answer with an event stream.",
      status: response.status,
    });
  }
  throw new GatewayError(failureFromResponse(response.status, body, response.headers.get("retry-after"), Date.now()));
}

/** The gateway's HTTP interface, from the page's own origin. */
export class GatewayClient implements ChatTransport {
  readonly #streams: EloquentClient;
  readonly #headers: () => Readonly<Record<string, string>>;

  /** @param headers asked at every request. */
  constructor(streams: EloquentClient, headers: () => Readonly<Record<string, string>>) {
    this.#streams = streams;
    this.#headers = headers;
  }

  /** The gateway's account of its workers, or undefined when it has no /health of this form. */
  async health(signal: AbortSignal): Promise<Health | undefined> {
    const response = await fetch("/health", { signal, headers: this.#headers(), cache: "no-store" });
    // Not "ok" is told by a 503 too, with the same body.
    return readHealth(parseJson(await response.text()));
  }

  /** The models that can be asked, in the server's order. */
  async models(signal: AbortSignal): Promise<ModelInfo[]> {
    const response = await fetch("/v1/models", { signal, headers: this.#headers(), cache: "no-store" });
    return response.ok ? readModels(parseJson(await response.text())) : refuse(response);
  }

  open(request: ChatRequest, signal: AbortSignal): Promise<ChatAnswer> {
    return begin(() => this.#streams.post(CHAT, requestBody(request), signal), signal);
  }

  resume({ streamId, after }: StreamPlace, signal: AbortSignal): Promise<ChatAnswer> {
    return begin(() => this.#streams.resume(streamId, after, signal), signal);
  }
}

async function begin(ask: () => Promise<EloquentStream>, signal: AbortSignal): Promise<ChatAnswer> {
  let stream: EloquentStream;
  try {
    stream = await ask();
  } catch (error) {
    if (error instanceof RefusedError) return refuse(error.response);
    throw error;
  }
  if (signal.aborted) stream.cancel();
  else {
    signal.addEventListener("abort", () => {
      stream.cancel();
    });
  }
  return { source: sourceOf(stream), events: readChat(stream.events) };
}

/** The header that carries an API key; none for "". */
export function authorization(apiKey: string): Readonly<Record<string, string>> {
  return asText(apiKey) === undefined ? {} : { authorization: `Bearer ${apiKey}` };
}
