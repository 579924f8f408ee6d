import { RefusedError, SseOverflowError } from "../eloquent";
import { asText, isObject, parseJson } from "./json";
import type { Failure } from "./types";

/** Thrown by the client for every response that is not the one asked for. */
export class GatewayError extends Error {
  override readonly name = "GatewayError";

  constructor(readonly failure: Failure) {
    super(`${failure.title}: ${failure.detail}`);
  }
}

interface Kind {
  readonly kind: Failure["kind"];
  readonly title: string;
  readonly fallback: string;
}

const BY_STATUS: Readonly<Record<number, Kind>> = {
  401: { kind: "auth", title: "An API key is needed", fallback: "Enter a key that this gateway accepts." },
  403: { kind: "auth", title: "This key may not do that", fallback: "Enter a key that is allowed to use this model." },
  404: { kind: "unknown-model", title: "Model not found", fallback: "Choose another model in the list above." },
  413: { kind: "refused", title: "The message is too long", fallback: "Shorten it, or start a new conversation." },
  429: { kind: "busy", title: "Too many requests", fallback: "The gateway asks you to slow down." },
  502: { kind: "unavailable", title: "The worker did not answer", fallback: "It may be restarting. Try again." },
  503: { kind: "unavailable", title: "No worker is free", fallback: "They may still be loading. Try again." },
  504: { kind: "unavailable", title: "The worker took too long", fallback: "Try again, or ask for a shorter answer." },
};

function kindOf(status: number): Kind {
  const known = BY_STATUS[status];
  if (known) return known;
  if (status >= 500) return { kind: "server", title: "The gateway failed", fallback: "Try again in a moment." };
  return { kind: "refused", title: "The request was refused", fallback: `The gateway answered with status ${status}.` };
}

interface ErrorBody {
  readonly message?: string;
  readonly code?: string;
}

/** Reads OpenAI's `{"error": {"message", "type", "code"}}` and the flatter forms that engines use. */
function readErrorBody(value: unknown): ErrorBody {
  if (!isObject(value)) return {};
  const error = value.error;
  if (typeof error === "string") return { message: error };
  const source = isObject(error) ? error : value;
  const message = asText(source.message) ?? asText(source.detail);
  const code = asText(source.code) ?? asText(source.type);
  return { ...(message !== undefined && { message }), ...(code !== undefined && { code }) };
}

/**
 * Seconds to wait, from a Retry-After header in either of its forms (seconds or an HTTP date).
 *
 * @param nowMs wall clock in milliseconds, for the date form.
 */
export function parseRetryAfter(value: string | null, nowMs: number): number | undefined {
  if (value === null || value.trim() === "") return undefined;
  const seconds = Number(value);
  if (Number.isFinite(seconds)) return seconds >= 0 ? Math.ceil(seconds) : undefined;
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(0, Math.ceil((at - nowMs) / 1000));
}

/** Words for a response with an error status. */
export function failureFromResponse(status: number, body: string, retryAfter: string | null, nowMs: number): Failure {
  const { kind, title, fallback } = kindOf(status);
  const { message, code } = readErrorBody(parseJson(body));
  const retryAfterS = parseRetryAfter(retryAfter, nowMs);
  return {
    kind,
    title,
    detail: message ?? fallback,
    status,
    ...(code !== undefined && { code }),
    ...(retryAfterS !== undefined && { retryAfterS }),
  };
}

/** Words for an error object that arrives inside a stream, or undefined when the value holds none. */
export function failureFromEvent(value: unknown): Failure | undefined {
  if (!isObject(value) || value.error === undefined || value.error === null) return undefined;
  const { message, code } = readErrorBody(value);
  return {
    kind: "stream",
    title: "The answer was cut off by an error",
    detail: message ?? "The worker reported an error without a message.",
    ...(code !== undefined && { code }),
  };
}

/** Words for anything thrown while asking or reading; an abort is the caller's business and not passed here. */
export function failureFromThrown(thrown: unknown): Failure {
  if (thrown instanceof GatewayError) return thrown.failure;
  if (thrown instanceof SseOverflowError) {
    return { kind: "stream", title: "The answer could not be read", detail: thrown.message };
  }
  if (thrown instanceof RefusedError) {
    const detail = "The connection broke, and the gateway has not kept the rest.";
    return { kind: "stream", title: "The answer broke off", detail, status: thrown.response.status };
  }
  return {
    kind: "network",
    title: "The gateway cannot be reached",
    detail: "Check that it is running and that this device is online, then try again.",
  };
}
