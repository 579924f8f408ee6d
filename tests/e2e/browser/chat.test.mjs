/** A user chats: asks, reads, stops, edits, and comes back later. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import {
  answerWith,
  ask,
  chooseInMenu,
  isCancel,
  keptText,
  lengthen,
  nextStream,
  open,
  piece,
  screenshot,
  squeeze,
  startGateway,
  untilKept,
  untilStatus,
  withPage,
} from "./harness.mjs";

let gateway;
before(async () => {
  gateway = await startGateway();
});
after(() => gateway.stop());

test("an answer streams in, with its figures, and is there after a reload", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await screenshot(page, "empty");
    await page.getByRole("button", { name: /Find it in a report/ }).click();
    const prompt = await page.getByLabel("Message", { exact: true }).inputValue();
    const answer = await ask(page, prompt);
    await untilStatus(answer, "complete");
    const text = await answer.locator(".markdown").innerText();
    assert.ok(text.trim().length > 0, "the answer has words");
    assert.match(await answer.locator(".answer-line").innerText(), /to first token[\s\S]*\d+ tokens?/);
    assert.equal(await page.getByLabel("Message", { exact: true }).inputValue(), "");
    await screenshot(page, "answer");

    await untilKept(page);
    await page.reload();
    await page.locator(".answer .markdown").waitFor();
    assert.equal(await page.locator(".answer .markdown").innerText(), text);
    await page.goBack();
    await page.getByRole("heading", { name: "The gate is open." }).waitFor();
    const title = prompt.split("\n").at(-1);
    await page.locator(".page__side").getByRole("button", { name: title, exact: true }).click();
    assert.equal(await page.locator(".answer .markdown").innerText(), text);
  }));

test("Escape stops an answer in the middle; what arrived is kept", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await lengthen(page);
    const answer = await ask(page, "Write a long story about a gate keeper.");
    await answer.locator(".markdown").waitFor();
    await screenshot(page, "streaming");
    const cancelled = page.waitForResponse((response) => isCancel(response.request()));
    await page.keyboard.press("Escape");
    await untilStatus(answer, "stopped");
    const kept = await answer.locator(".markdown").innerText();
    assert.ok(kept.length > 0);
    assert.match(await answer.innerText(), /You stopped/);
    assert.equal((await (await cancelled).json()).status, "cancelled", "the gateway stops too");
    assert.equal(await answer.locator(".markdown").innerText(), kept, "nothing is added after the stop");
    await screenshot(page, "stopped");
  }));

test("the stop button stops, and the next question works", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await lengthen(page);
    const first = await ask(page, "Write a long story about a mill.");
    await first.locator(".markdown").waitFor();
    await page.getByRole("button", { name: "Stop answering" }).click();
    await untilStatus(first, "stopped");
    await page.unroute("**/v1/chat/completions");
    await untilStatus(await ask(page, "Where is the mill?"), "complete");
  }));

test("an edited question and a regenerated answer stand beside the first versions", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await untilStatus(await ask(page, "Where is the lantern?"), "complete");
    await page.getByRole("button", { name: "Regenerate answer" }).click();
    await page.locator(".answer").getByText("2/2").waitFor();
    await untilStatus(page.locator(".answer"), "complete");

    await page.locator(".question").hover();
    await page.getByRole("button", { name: "Edit question" }).click();
    await page.getByLabel("Your question").fill("Where is the rope?");
    await page.keyboard.press("Enter");
    await page.locator(".question").getByText("2/2").waitFor();
    await untilStatus(page.locator(".answer"), "complete");
    await page.locator(".question").getByRole("button", { name: "Previous version" }).click();
    assert.equal(await page.locator(".question__text").innerText(), "Where is the lantern?");
    await page.locator(".answer").getByText("2/2").waitFor();
  }));

test("an answer goes on where it was when the page is reloaded in its middle", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await lengthen(page, { max_tokens: 900 });
    const stream = nextStream(page);
    const answer = await ask(page, "Write a long story about a ferry.");
    await answer.locator(".markdown").waitFor();
    await untilKept(page, ({ text, place }) => text.length > 40 && place.after > 0);
    const before = await answer.locator(".markdown").innerText();
    await page.reload();
    await untilStatus(page.locator(".answer"), "complete");
    const after = await page.locator(".answer .markdown").innerText();
    assert.ok(after.startsWith(before.slice(0, 30)), "what was there stays");
    assert.ok(after.length > before.length, "and it goes on");
    assert.match(await page.locator(".answer-line").innerText(), /resumed/);
    const kept = await keptText(page, gateway.url, await stream);
    assert.equal(squeeze(after), squeeze(kept), "nothing is lost or doubled");
    await screenshot(page, "resumed");
  }));

test("conversations can be found, exported and brought back in", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await untilStatus(await ask(page, "Who keeps the ledger?"), "complete");
    await page.keyboard.press("Control+Shift+O");
    await untilStatus(await ask(page, "Where is the ferry?"), "complete");
    const items = page.locator(".page__side .conversation");
    await page.keyboard.press("Control+K");
    await page.keyboard.type("LEDGER");
    await page.getByText("1 found").waitFor();
    assert.equal(await items.innerText(), "Who keeps the ledger?");
    await screenshot(page, "search");

    const download = page.waitForEvent("download");
    await chooseInMenu(page, items, "Export as JSON");
    const file = await (await download).path();
    await chooseInMenu(page, items, "Delete");
    await page.getByText("No conversation has these words.").waitFor();
    await page.getByRole("button", { name: "Settings", exact: true }).click();
    await page.getByLabel("File with conversations").setInputFiles(file);
    await page.getByText("One conversation was imported.").waitFor();
    await page.keyboard.press("Escape");
    await items.getByText("Who keeps the ledger?").click();
    assert.equal(await page.locator(".question__text").innerText(), "Who keeps the ledger?");

    const other = page.waitForEvent("download");
    await chooseInMenu(page, items, "Export as Markdown");
    assert.match(await readFile(await (await other).path(), "utf8"), /^# Who keeps the ledger\?\n\n## You\n\nWho/);
  }));

test("the last question and answer are at hand by key", () =>
  withPage(gateway.url, { permissions: ["clipboard-read", "clipboard-write"] }, async (page) => {
    await open(page, gateway.url);
    const answer = await ask(page, "Where is the rope?");
    await untilStatus(answer, "complete");
    await page.keyboard.press("Control+Shift+Y");
    await page.getByText("The answer is copied.").waitFor();
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert.equal(squeeze(copied), squeeze(await answer.locator(".markdown").innerText()));
    await page.keyboard.press("Control+Shift+E");
    assert.equal(await page.getByLabel("Your question").inputValue(), "Where is the rope?");
    await page.keyboard.press("Escape");
    await page.keyboard.press("Control+/");
    await page.getByRole("heading", { name: "Keyboard shortcuts" }).waitFor();
    await screenshot(page, "shortcuts");
  }));

/** A small picture of water. */
const PICTURE =
  "iVBORw0KGgoAAAANSUhEUgAAADAAAAAgCAIAAADbtmxLAAAAQklEQVR42u3OQQoAEABEUSdwQAdw/8jeBVhQorz6y5l6obT6VAEICAgICAgI6HdQTHnY7HB6D7QNuhUQEBAQENBiHUfY7kb42IjoAAAAAElFTkSuQmCC";

test("pictures go with the question", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    const files = { name: "gate.png", mimeType: "image/png", buffer: Buffer.from(PICTURE, "base64") };
    await page.getByLabel("Pictures to attach").setInputFiles(files);
    await page.getByRole("img", { name: "gate.png" }).waitFor();
    await page.getByLabel("Pictures to attach").setInputFiles({ ...files, name: "n.png", buffer: Buffer.from("no") });
    await page.getByText("n.png is not a picture that this browser can read.").waitFor();
    await answerWith(page, [piece("A gate.", "stop"), "[DONE]"]);
    const sent = page.waitForRequest("**/v1/chat/completions");
    await untilStatus(await ask(page, "What is it?"), "complete");
    assert.deepEqual((await sent).postDataJSON().messages, [
      {
        role: "user",
        content: [
          { type: "image_url", image_url: { url: `data:image/png;base64,${PICTURE}` } },
          { type: "text", text: "What is it?" },
        ],
      },
    ]);
    await page.locator(".question").getByRole("img", { name: "gate.png" }).waitFor();
    await screenshot(page, "picture");
  }));

test("conversations can be renamed, deleted and brought back", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await untilStatus(await ask(page, "Who keeps the ledger?"), "complete");
    const item = page.locator(".page__side .conversation");
    await chooseInMenu(page, item, "Rename");
    await page.getByLabel("Title of the conversation").fill("The ledger");
    await page.keyboard.press("Enter");
    await chooseInMenu(page, item, "Delete");
    await item.waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Undo" }).click();
    await page.locator(".question__text").getByText("Who keeps the ledger?").waitFor();
    assert.equal(await item.innerText(), "The ledger");
  }));

test("system prompt and sampling settings go with the request", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await page.getByRole("button", { name: "Settings", exact: true }).click();
    await page.getByLabel("System prompt").fill("Answer in one word.");
    await page.getByLabel("Temperature").fill("0.3");
    await page.getByLabel("Most tokens in an answer").fill("40");
    await page.getByLabel("Seed").fill("7");
    await page.getByLabel("Stop at").fill("THE END\n\\n\\n");
    await screenshot(page, "settings");
    await page.keyboard.press("Escape");
    const sent = page.waitForRequest("**/v1/chat/completions");
    await untilStatus(await ask(page, "Where?"), "complete");
    const body = (await sent).postDataJSON();
    assert.deepEqual(body.messages, [
      { role: "system", content: "Answer in one word." },
      { role: "user", content: "Where?" },
    ]);
    assert.deepEqual([body.temperature, body.max_tokens, body.top_p], [0.3, 40, undefined]);
    assert.deepEqual([body.seed, body.stop], [7, ["THE END", "\n\n"]]);
    assert.deepEqual([body.stream, body.stream_options], [true, { include_usage: true }]);
  }));
