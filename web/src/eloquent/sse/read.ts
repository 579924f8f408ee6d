import { type SseEvent, SseParser } from "./parser";

/**
 * Yields the events of a response body as they arrive.
 *
 * Leaving the loop early cancels the body, which closes the connection: the server then knows that nobody
 * reads any more. Errors of the body (abort, connection reset) pass through unchanged.
 */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<SseEvent, void, undefined> {
  const reader = body.getReader();
  const parser = new SseParser();
  let finished = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      yield* parser.push(value);
    }
    finished = true;
  } finally {
    if (!finished) await reader.cancel().catch(() => undefined);
    reader.releaseLock();
  }
}
