/**
 * A page in headless Firefox, driven over WebDriver BiDi, which every Firefox speaks: Playwright would want one of its
 * own making. Needs `WebSocket`, which Node has from version 22 on, and before with --experimental-websocket.
 *
 * FIREFOX  path of the browser (default /usr/bin/firefox-esr).
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const LISTENING = /WebDriver BiDi listening on (ws:\S+)/;

/** Starts the browser and resolves to the address at which it takes orders. */
async function start(profile) {
  const path = process.env.FIREFOX ?? "/usr/bin/firefox-esr";
  const options = ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"];
  const browser = spawn(path, options, { stdio: ["ignore", "ignore", "pipe"] });
  for await (const line of createInterface({ input: browser.stderr })) {
    const found = LISTENING.exec(line);
    if (!found) continue;
    browser.stderr.resume();
    return { browser, address: `${found[1]}/session` };
  }
  throw new Error(`${path} ended before it took orders`);
}

class Session {
  #socket;
  #waiting = new Map();
  #count = 0;
  /** What the page threw, and what it was refused by its content security policy. */
  complaints = [];

  static async open(address) {
    const session = new Session();
    session.#socket = new WebSocket(address);
    session.#socket.onmessage = ({ data }) => session.#take(JSON.parse(data));
    await once(session.#socket, "open");
    return session;
  }

  command(method, params) {
    const id = (this.#count += 1);
    this.#socket.send(JSON.stringify({ id, method, params }));
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  close() {
    this.#socket.close();
  }

  #take({ id, type, result, error, message, method, params }) {
    if (type === "event") {
      const refused = /content.security.policy/i.test(params.text);
      if (method === "log.entryAdded" && (params.type === "javascript" || refused)) this.complaints.push(params.text);
      return;
    }
    const { resolve, reject } = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (type === "success") resolve(result);
    else reject(new Error(`${error}: ${message}`));
  }
}

class Page {
  complaints;
  #session;
  #context;

  constructor(session, context) {
    this.#session = session;
    this.#context = context;
    this.complaints = session.complaints;
  }

  /** Runs before anything of the pages that are opened from now on. */
  async addInitScript(run) {
    await this.#session.command("script.addPreloadScript", { functionDeclaration: String(run) });
  }

  async goto(url) {
    await this.#session.command("browsingContext.navigate", { context: this.#context, url, wait: "complete" });
  }

  async reload() {
    await this.#session.command("browsingContext.reload", { context: this.#context, wait: "complete" });
  }

  /** What `run` gives back in the page, or resolves to: anything that JSON can say. */
  async evaluate(run, ...values) {
    const { result, exceptionDetails } = await this.#session.command("script.callFunction", {
      functionDeclaration: `async (values) => JSON.stringify(await (${run})(...JSON.parse(values)))`,
      arguments: [{ type: "string", value: JSON.stringify(values) }],
      target: { context: this.#context },
      awaitPromise: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.text);
    return result.value === undefined ? undefined : JSON.parse(result.value);
  }

  /** Waits until `holds` gives back something true in the page, and resolves to that. */
  async waitFor(what, holds, ...values) {
    for (const deadline = Date.now() + 120_000; Date.now() < deadline;) {
      const found = await this.evaluate(holds, ...values);
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    throw new Error(`not within two minutes: ${what}`);
  }

  /** Types into what has the focus; "\uE007" is Enter. */
  async type(text) {
    const actions = [...text].flatMap((value) => [
      { type: "keyDown", value },
      { type: "keyUp", value },
    ]);
    const keyboard = { type: "key", id: "keyboard", actions };
    await this.#session.command("input.performActions", { context: this.#context, actions: [keyboard] });
  }
}

/** Gives a page in a browser of its own to `body`. */
export async function withFirefox(body) {
  const profile = await mkdtemp(join(tmpdir(), "sluice-firefox-"));
  const { browser, address } = await start(profile);
  const ended = once(browser, "exit");
  try {
    const session = await Session.open(address);
    await session.command("session.new", { capabilities: {} });
    await session.command("session.subscribe", { events: ["log.entryAdded"] });
    const { contexts } = await session.command("browsingContext.getTree", {});
    await body(new Page(session, contexts[0].context));
    session.close();
  } finally {
    browser.kill();
    await ended;
    await rm(profile, { recursive: true, force: true });
  }
}
