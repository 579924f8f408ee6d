import type { IncomingMessage, ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { fleetResponse } from "./mock-fleet.ts";
import { answerTo, type Script } from "./mock-answers.ts";
import { MockStream } from "./mock-streams.ts";

type Next = () => void;

const MODELS = ["sluice-demo", "sluice-demo-draft"];

/**
 * Stands in for a gateway while the page is developed: one worker that loads for a few seconds, two models,
 * streamed answers that are kept, no data channels. What a question says decides what goes wrong; see
 * mock-answers.ts.
 */
export function mockGateway(loadingMs = Number(process.env.MOCK_LOADING_MS ?? 3000)) {
  const readyAt = Date.now() + loadingMs;
  const streams = new Map<string, MockStream>();
  return (request: IncomingMessage, response: ServerResponse, next: Next): void => {
    const loading = Date.now() < readyAt;
    const { pathname, searchParams } = new URL(request.url ?? "", "http://mock");
    const method = request.method ?? "";
    if (pathname.startsWith("/v1/streams/")) {
      const after = Number(searchParams.get("starting_after") ?? 0);
      readStream(method, response, streams.get(pathname.slice("/v1/streams/".length)), after);
      return;
    }
    switch (`${method} ${pathname}`) {
      case "GET /health":
        sendJson(response, loading ? 503 : 200, healthBody(loading));
        break;
      case "GET /v1/models":
        sendJson(response, 200, { object: "list", data: MODELS.map(modelBody) });
        break;
      case "GET /v1/realtime":
        sendJson(response, 200, { webrtc: false, eloquent: false, reason: "The mock gateway has no data channels." });
        break;
      case "POST /v1/chat/completions":
        void chat(request, response, streams);
        break;
      default:
        if (!fleetResponse(method, pathname, response)) next();
    }
  };
}

function healthBody(loading: boolean): object {
  const worker = { id: "w0", url: "http://127.0.0.1:8001", model: MODELS[0] };
  const state = loading ? { state: "loading", message: "reading weights" } : { state: "ready", message: "" };
  return { status: loading ? "loading" : "ok", workers: [{ ...worker, ...state }] };
}

/** The draft model says that it reads no pictures; the other does not say. */
function modelBody(id: string): object {
  return { id, object: "model", owned_by: "sluice", ...(id.endsWith("draft") && { input_modalities: ["text"] }) };
}

function sendJson(response: ServerResponse, status: number, body: object, headers: Record<string, string> = {}): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}

function readStream(method: string, response: ServerResponse, stream: MockStream | undefined, after: number): void {
  if (!stream) {
    sendJson(response, 404, { error: { message: "There is no such stream.", code: "stream_not_found" } });
  } else if (method === "DELETE") {
    stream.cancel();
    sendJson(response, 200, stream.describe());
  } else {
    response.writeHead(200, { "content-type": "text/event-stream", "x-sluice-stream-id": stream.id });
    stream.pipe(response, after, true);
  }
}

interface Part {
  readonly type: string;
  readonly text?: string;
}

interface Body {
  readonly model: string;
  readonly messages: readonly { readonly role: string; readonly content: string | readonly Part[] }[];
  readonly max_tokens?: number;
}

function textOf(content: string | readonly Part[]): string {
  return typeof content === "string" ? content : content.map(({ text = "a picture" }) => text).join("\n");
}

async function readBody(request: IncomingMessage): Promise<Body> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return JSON.parse(Buffer.concat(parts).toString("utf8")) as Body;
}

async function chat(
  request: IncomingMessage,
  response: ServerResponse,
  streams: Map<string, MockStream>,
): Promise<void> {
  const body = await readBody(request);
  if (!MODELS.includes(body.model)) {
    const error = {
      message: `The model \`${body.model}\` does not exist.`,
      type: "NotFoundError",
      code: "model_not_found",
    };
    sendJson(response, 404, { error });
    return;
  }
  const script = answerTo(textOf(body.messages.at(-1)?.content ?? ""));
  if (script.status !== undefined) {
    const error = { message: script.message, type: "mock_error", code: script.code };
    sendJson(response, script.status, { error }, script.retryAfter ? { "retry-after": script.retryAfter } : {});
    return;
  }
  const stream = new MockStream();
  streams.set(stream.id, stream);
  response.writeHead(200, {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-sluice-worker": "w0",
    "x-sluice-route": "ttft:hit=96/120B,est=84ms",
    "x-sluice-stream-id": stream.id,
  });
  stream.pipe(response, 0, false);
  await answer(stream, response, script, body);
}

async function answer(stream: MockStream, response: ServerResponse, script: Script, body: Body): Promise<void> {
  const pieces = script.text.match(/\s*\S+|\s+$/g) ?? [];
  const shown = pieces.slice(0, body.max_tokens ?? pieces.length);
  const send = (value: object): void => {
    stream.push(JSON.stringify(value));
  };
  await sleep(script.firstMs);
  response.write(": ping\n");
  send({ choices: [{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }] });
  for (const content of shown) {
    if (stream.cancelled) return;
    send({ choices: [{ index: 0, delta: { content }, finish_reason: null }] });
    await sleep(script.gapMs);
  }
  if (script.ending === "error") {
    send({ error: { message: "Worker w0 stopped while answering.", type: "server_error", code: "worker_lost" } });
  } else if (script.ending === "whole") {
    const finish = shown.length < pieces.length ? "length" : "stop";
    send({ choices: [{ index: 0, delta: {}, finish_reason: finish }] });
    send({ choices: [], usage: usageBody(body, shown.length) });
    stream.push("[DONE]");
  }
  stream.end();
}

function usageBody(body: Body, completion: number): object {
  const characters = body.messages.reduce((sum, { content }) => sum + textOf(content).length, 0);
  const prompt = Math.ceil(characters / 4) + 8;
  const cached = Math.floor(prompt / 16) * 16;
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: cached },
    sluice: { kv: { engine: cached, computed: prompt - cached } },
  };
}
