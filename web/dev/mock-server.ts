import type { IncomingMessage, ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { answerTo, type Script } from "./mock-answers.ts";

type Next = () => void;

const MODELS = ["sluice-demo", "sluice-demo-draft"];

/**
 * Stands in for a gateway while the page is developed: one worker that loads for a few seconds, one model,
 * streamed answers. What a question says decides what goes wrong; see mock-answers.ts.
 */
export function mockGateway(loadingMs = Number(process.env.MOCK_LOADING_MS ?? 3000)) {
  const readyAt = Date.now() + loadingMs;
  return (request: IncomingMessage, response: ServerResponse, next: Next): void => {
    const loading = Date.now() < readyAt;
    switch (`${request.method ?? ""} ${(request.url ?? "").split("?")[0] ?? ""}`) {
      case "GET /health":
        sendJson(response, loading ? 503 : 200, healthBody(loading));
        break;
      case "GET /v1/models":
        sendJson(response, 200, { object: "list", data: MODELS.map(modelBody) });
        break;
      case "POST /v1/chat/completions":
        void chat(request, response);
        break;
      default:
        next();
    }
  };
}

function healthBody(loading: boolean): object {
  const worker = { id: "w0", url: "http://127.0.0.1:8001", model: MODELS[0] };
  const state = loading ? { state: "loading", message: "reading weights" } : { state: "ready", message: "" };
  return { status: loading ? "loading" : "ok", workers: [{ ...worker, ...state }] };
}

function modelBody(id: string): object {
  return { id, object: "model", owned_by: "sluice" };
}

function sendJson(response: ServerResponse, status: number, body: object, headers: Record<string, string> = {}): void {
  response.writeHead(status, { "content-type": "application/json", ...headers });
  response.end(JSON.stringify(body));
}

interface Body {
  readonly model: string;
  readonly messages: readonly { readonly role: string; readonly content: string }[];
  readonly max_tokens?: number;
}

async function readBody(request: IncomingMessage): Promise<Body> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return JSON.parse(Buffer.concat(parts).toString("utf8")) as Body;
}

async function chat(request: IncomingMessage, response: ServerResponse): Promise<void> {
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
  const script = answerTo(body.messages.at(-1)?.content ?? "");
  if (script.status !== undefined) {
    const error = { message: script.message, type: "mock_error", code: script.code };
    sendJson(response, script.status, { error }, script.retryAfter ? { "retry-after": script.retryAfter } : {});
    return;
  }
  response.writeHead(200, {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-sluice-worker": "w0",
    "x-sluice-route": "ttft:hit=96/120B,est=84ms",
  });
  await stream(response, script, body);
}

async function stream(response: ServerResponse, script: Script, body: Body): Promise<void> {
  const pieces = script.text.match(/\s*\S+|\s+$/g) ?? [];
  const shown = pieces.slice(0, body.max_tokens ?? pieces.length);
  const send = (value: object): boolean => response.write(`data: ${JSON.stringify(value)}\n\n`);
  await sleep(script.firstMs);
  response.write(": ping\n");
  send({ choices: [{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }] });
  for (const content of shown) {
    if (response.destroyed) return;
    send({ choices: [{ index: 0, delta: { content }, finish_reason: null }] });
    await sleep(script.gapMs);
  }
  if (script.ending === "error") {
    send({ error: { message: "Worker w0 stopped while answering.", type: "server_error", code: "worker_lost" } });
  } else if (script.ending === "whole") {
    const finish = shown.length < pieces.length ? "length" : "stop";
    send({ choices: [{ index: 0, delta: {}, finish_reason: finish }] });
    send({ choices: [], usage: usageBody(body, shown.length) });
    response.write("data: [DONE]\n\n");
  }
  response.end();
}

function usageBody(body: Body, completion: number): object {
  const prompt = Math.ceil(body.messages.reduce((sum, { content }) => sum + content.length, 0) / 4) + 8;
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: Math.floor(prompt / 16) * 16 },
  };
}
