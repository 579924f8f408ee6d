/**
 * What the browser tests share: a page of the running gateway in headless Chromium, and screenshots.
 *
 * BASE_URL        the gateway; without it the built page is served by the mock gateway of web/dev.
 * SCREENSHOT_DIR  where screenshots go; without it none are taken.
 * CHROMIUM        path of the browser (default /usr/bin/chromium).
 */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const WEB = fileURLToPath(new URL("../../../web/", import.meta.url));
const require = createRequire(join(WEB, "package.json"));
const { chromium } = require("playwright-core");

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Starts the mock gateway unless BASE_URL names a real one. */
export async function startGateway() {
  const given = process.env.BASE_URL;
  if (given) return { url: new URL(given).origin, stop: async () => undefined };
  process.env.MOCK_LOADING_MS ??= "0";
  const { preview } = await import(pathToFileURL(require.resolve("vite")).href);
  const server = await preview({
    root: WEB,
    configFile: join(WEB, "vite.config.ts"),
    preview: { port: 0 },
  });
  const url = new URL(server.resolvedUrls.local[0]).origin;
  return { url, stop: () => server.close() };
}

/**
 * Opens the page in a browser of its own and gives it to `body`.
 *
 * Fails when the page throws, when the browser refuses something by the content security policy, or when
 * anything but the gateway is asked.
 */
export async function withPage(baseUrl, options, body) {
  const profile = await mkdtemp(join(tmpdir(), "sluice-browser-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: FLAGS,
    viewport: { width: 1280, height: 820 },
    ...options,
  });
  const complaints = [];
  try {
    const page = context.pages()[0] ?? (await context.newPage());
    page.setDefaultTimeout(30_000);
    page.on("pageerror", (error) => complaints.push(`uncaught: ${error.message}`));
    page.on("console", (message) => {
      if (/content security policy|trusted ?type/i.test(message.text())) complaints.push(message.text());
    });
    page.on("request", (request) => {
      const { protocol, origin } = new URL(request.url());
      if (protocol.startsWith("http") && origin !== baseUrl) complaints.push(`asked a stranger: ${request.url()}`);
    });
    await body(page);
    assert.deepEqual(complaints, []);
  } finally {
    await context.close();
    await rm(profile, { recursive: true, force: true });
  }
}

/** Opens the page and waits until it can ask. */
export async function open(page, baseUrl) {
  await page.goto(`${baseUrl}/`);
  await page.locator(".topbar__gate--open").waitFor();
  await page.locator(".model-picker select:enabled").waitFor();
}

/** What axe-core finds against WCAG 2.2 A and AA, as "rule: elements". */
export async function accessibilityFaults(page) {
  await page.waitForFunction(() =>
    document.getAnimations().every(({ effect }) => effect.getComputedTiming().iterations === Infinity),
  );
  await page.evaluate(await readFile(require.resolve("axe-core/axe.min.js"), "utf8"));
  const { violations } = await page.evaluate(() =>
    window.axe.run({
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    }),
  );
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`);
}

export async function screenshot(page, name) {
  const folder = process.env.SCREENSHOT_DIR;
  if (!folder) return;
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`) });
}

/** Writes a message and sends it with Enter; resolves to the answer it gets. */
export async function ask(page, text) {
  const answers = page.locator(".answer");
  const before = await answers.count();
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
  const answer = answers.nth(before);
  await answer.waitFor();
  return answer;
}

/** Waits until an answer has one of the statuses. */
export async function untilStatus(answer, statuses, options) {
  const wanted = [statuses].flat().map((status) => `[data-status="${status}"]`);
  await answer.and(answer.page().locator(wanted.join(", "))).waitFor(options);
}

/**
 * Waits until the browser's own store holds the last answer in a state that `wanted` likes, so that a reload
 * finds it; by default its end.
 */
export async function untilKept(page, wanted = ({ status }) => status === "complete") {
  const lastAnswers = () =>
    page.evaluate(async () => {
      const done = (request) => new Promise((resolve) => (request.onsuccess = () => resolve(request.result)));
      const db = await done(indexedDB.open("sluice"));
      const rows = await done(db.transaction("conversations").objectStore("conversations").getAll());
      db.close();
      return rows.map(({ messages }) => messages.at(-1));
    });
  const deadline = Date.now() + 60_000;
  while (Date.now() < deadline) {
    if ((await lastAnswers()).some((answer) => wanted(answer))) return;
    await page.waitForTimeout(50);
  }
  assert.fail("the conversation was not kept within 60 s");
}

/**
 * Asks the engine for a long answer, so that there is time to do something in its middle: vLLM by not ending at
 * its end token, the fake engine, which would need no time at all, by a pause between its tokens.
 */
export async function lengthen(page, fields = { max_tokens: 1500 }) {
  await page.route("**/v1/chat/completions", async (route) => {
    const body = { ...route.request().postDataJSON(), temperature: 0, ignore_eos: true, ...fields };
    const headers = { ...route.request().headers(), "x-fake-fault": "slow; event_s=0.02" };
    await route.continue({ headers, postData: JSON.stringify(body) });
  });
}

/** The stream that answers the next question: its id, once it is known. */
export async function nextStream(page) {
  const response = await page.waitForResponse("**/v1/chat/completions");
  return response.headers()["x-sluice-stream-id"];
}

/** The text of a stream as the gateway has kept it. */
export async function keptText(page, baseUrl, streamId) {
  const response = await page.request.get(`${baseUrl}/v1/streams/${streamId}`, { timeout: 120_000 });
  assert.equal(response.status(), 200);
  const events = (await response.text()).split("\n").filter((line) => line.startsWith("data: {"));
  return events.map((line) => JSON.parse(line.slice(6)).choices[0]?.delta.content ?? "").join("");
}

/** The letters of a text: markdown shows them all, and takes other marks and white space out. */
export function squeeze(text) {
  return text.replace(/\P{L}+/gu, "");
}

/** Whether a request tells the gateway to stop an answer. */
export function isCancel(request) {
  return request.method() === "DELETE" && new URL(request.url()).pathname.startsWith("/v1/streams/");
}

/** Opens the menu of a conversation and chooses from it. */
export async function chooseInMenu(page, item, name) {
  await item.hover();
  await item.getByRole("button", { name: /What to do/ }).click();
  await page.getByRole("menuitem", { name }).click();
}

/** Lets the next answers come from the test: `data` are the events' payloads. */
export async function answerWith(page, data) {
  const body = data.map((item) => `data: ${typeof item === "string" ? item : JSON.stringify(item)}\n\n`).join("");
  await page.route("**/v1/chat/completions", (route) => route.fulfill({ contentType: "text/event-stream", body }));
}

export function piece(content, finish = null) {
  return { choices: [{ index: 0, delta: { content }, finish_reason: finish }] };
}
