import { randomBytes } from "node:crypto";
import type { ServerResponse } from "node:http";

/** The events of one answer, kept and numbered as the gateway's token log does. */
export class MockStream {
  readonly id = `st0_${randomBytes(9).toString("base64url")}`;
  readonly #events: string[] = [];
  readonly #readers = new Set<() => void>();
  #ended = false;
  cancelled = false;

  /** Adds an event; `data` is what stands behind `data: `. */
  push(data: string): void {
    this.#events.push(data);
    this.#tell();
  }

  end(): void {
    this.#ended = true;
    this.#tell();
  }

  cancel(): void {
    if (this.#ended) return;
    this.cancelled = true;
    const message = "The stream was cancelled.";
    this.push(JSON.stringify({ error: { message, type: "invalid_request_error", code: "stream_cancelled" } }));
    this.end();
  }

  describe(): object {
    const status = this.cancelled ? "cancelled" : this.#ended ? "completed" : "running";
    return { id: this.id, object: "stream", status, last: this.#events.length };
  }

  /** Sends the events above `after`, and those that follow, until the end. */
  pipe(response: ServerResponse, after: number, ids: boolean): void {
    let sent = after;
    const send = (): void => {
      for (; sent < this.#events.length; sent++) {
        response.write(`${ids ? `id: ${sent + 1}\n` : ""}data: ${this.#events[sent] ?? ""}\n\n`);
      }
      if (!this.#ended) return;
      this.#readers.delete(send);
      response.end();
    };
    this.#readers.add(send);
    response.on("close", () => this.#readers.delete(send));
    send();
  }

  #tell(): void {
    for (const reader of [...this.#readers]) reader();
  }
}
