/**
 * Answers in headless Chromium, once as a plain event stream and once through web/src/eloquent, at the same time.
 *
 *     node browser.mjs BASE_URL API_KEY
 *
 * Reads one JSON line per measurement, {"body": {...}, "seconds": 30}, and writes one: per scheme when each event
 * came (ms), what brought it, and the text. The end of standard input ends it.
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

/** Runs in the page. */
function measure({ body, seconds, key }) {
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
  const failed = (error) => ({ at: [], by: [], text: "", ended: false, error: String(error) });
  return Promise.all([sse().catch(failed), eloquent().catch(failed)]).then(([plain, resumable]) => ({
    sse: plain,
    eloquent: resumable,
    channel: globalThis.client.channel,
  }));
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
    process.stdout.write(`${JSON.stringify(await page.evaluate(measure, { ...JSON.parse(line), key: process.argv[3] }))}\n`);
  }
} finally {
  await context.close();
  await rm(profile, { recursive: true, force: true });
}
