/**
 * Answers in headless Chromium, by several schemes at the same time: a plain event stream (sse), web/src/eloquent,
 * and the lab's rivals.
 *
 *     node browser.mjs BASE_URL API_KEY RIVALS_URL
 *
 * Reads one JSON line per command and writes one. {"connect": {"dup2": 2}} opens new calls to the rivals;
 * {"body": {...}, "seconds": 30, "rivals": [...]} measures: per scheme when each event came (ms), what brought it,
 * and the text. The end of standard input ends it.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";

const WEB = fileURLToPath(new URL("../../web/", import.meta.url));
const require = createRequire(join(WEB, "package.json"));
const { chromium } = require("playwright-core");
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"];
FLAGS.push("--disable-background-networking", "--disable-component-update");

async function clientLibrary() {
  const { build } = await import(pathToFileURL(require.resolve("vite")).href);
  const [result] = await build({
    root: WEB,
    configFile: false,
    logLevel: "error",
    build: {
      write: false,
      minify: false,
      lib: { entry: join(WEB, "src/eloquent/index.ts"), formats: ["iife"], name: "Eloquent" },
    },
  });
  return result.output[0].code;
}

/** Runs in the page: new calls to the rivals, as many per scheme as `copies` says. */
async function connect({ copies, url }) {
  for (const { calls } of globalThis.rivals?.values() ?? []) for (const call of calls) call.connection.close();
  globalThis.rivals = new Map();
  const open = async (group) => {
    const connection = new RTCPeerConnection();
    const control = connection.createDataChannel("oai-events");
    control.binaryType = "arraybuffer";
    const opened = new Promise((resolve) => control.addEventListener("open", resolve));
    await connection.setLocalDescription();
    const answer = await fetch(`${url}/calls`, { method: "POST", body: connection.localDescription.sdp });
    await connection.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    await opened;
    control.send(JSON.stringify({ join: group }));
    return { connection, control };
  };
  for (const [scheme, count] of Object.entries(copies)) {
    const group = `${scheme} ${crypto.getRandomValues(new Uint32Array(1))[0]}`;
    const calls = [];
    while (calls.length < count) calls.push(await open(group));
    globalThis.rivals.set(scheme, { group, calls });
  }
  return Object.keys(copies);
}

/** Runs in the page. */
function measure({ body, seconds, key, rivals = [] }) {
  const authorization = `Bearer ${key}`;
  const post = (signal) =>
    fetch("/v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json", authorization },
      body: JSON.stringify(body),
      signal,
    });
  const textOf = (data) => {
    if (!data.startsWith("{")) return "";
    const chunk = JSON.parse(data);
    return chunk.choices?.[0]?.delta?.content ?? "";
  };
  const collect = async (events) => {
    const found = { at: [], by: [], text: "", ended: false, error: null };
    try {
      for await (const { data, transport } of events) {
        const text = textOf(data);
        if (text) {
          found.at.push(performance.now());
          found.by.push(transport ?? "sse");
          found.text += text;
        }
        if (data === "[DONE]") found.ended = true;
      }
    } catch (error) {
      found.error = String(error);
    }
    return found;
  };
  const deadline = AbortSignal.timeout(1000 * seconds);
  const sse = async () => {
    const response = await post(deadline);
    return collect(Eloquent.readEvents(response.body));
  };
  const eloquent = async () => {
    globalThis.client ??= new Eloquent.EloquentClient({ headers: () => ({ authorization }) });
    const stream = await globalThis.client.post("/v1/chat/completions", body, deadline);
    const found = await Promise.race([
      collect(stream.events),
      new Promise((resolve) => setTimeout(resolve, 1000 * seconds, undefined)),
    ]);
    if (!found) stream.cancel();
    return found ?? { at: [], by: [], text: "", ended: false, error: "too late" };
  };
  /** Events in order, as soon as any call brought them. */
  async function* eventsOf({ group, calls }, scheme) {
    const held = new Map();
    let next = 1;
    let wake;
    const take = ({ data }) => {
      const number = new DataView(data).getUint32(0);
      if (number < next || held.has(number)) return;
      held.set(number, new TextDecoder().decode(new Uint8Array(data, 4)));
      wake?.();
    };
    for (const { control } of calls) control.onmessage = take;
    calls[0].control.send(JSON.stringify({ group, body }));
    const over = new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    for (let late = false; !late; ) {
      while (held.has(next)) {
        const data = held.get(next);
        held.delete(next++);
        yield { data, transport: scheme };
        if (data === "[DONE]") return;
      }
      const news = new Promise((resolve) => (wake = resolve));
      late = await Promise.race([news, over.then(() => true)]);
    }
    throw new Error("too late");
  }
  const rival = (scheme) => collect(eventsOf(globalThis.rivals.get(scheme), scheme));
  const failed = (error) => ({ at: [], by: [], text: "", ended: false, error: String(error) });
  const running = { sse: sse(), eloquent: eloquent() };
  for (const scheme of rivals) running[scheme] = rival(scheme);
  const found = Object.entries(running).map(async ([scheme, one]) => [scheme, await one.catch(failed)]);
  return Promise.all(found).then((all) => ({ ...Object.fromEntries(all), channel: globalThis.client.channel }));
}

const profile = await mkdtemp(join(tmpdir(), "sluice-stream-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: FLAGS,
});
try {
  const page = context.pages()[0];
  await page.addInitScript({ content: `${await clientLibrary()}; globalThis.Eloquent = Eloquent;` });
  await page.goto(`${process.argv[2]}/health`);
  process.stdout.write("ready\n");
  for await (const line of createInterface({ input: process.stdin })) {
    const { connect: copies, ...asked } = JSON.parse(line);
    const answer = copies
      ? await page.evaluate(connect, { copies, url: process.argv[4] })
      : await page.evaluate(measure, { ...asked, key: process.argv[3] });
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
} finally {
  await context.close();
  await rm(profile, { recursive: true, force: true });
}
