/** A user chats: asks, reads, stops, edits, and comes back later. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ask, lengthen, open, screenshot, startGateway, untilKept, untilStatus, withPage } from "./harness.mjs";

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
    const closed = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/chat/completions"));
    await page.keyboard.press("Escape");
    await untilStatus(answer, "stopped");
    const kept = await answer.locator(".markdown").innerText();
    assert.ok(kept.length > 0);
    assert.match(await answer.innerText(), /You stopped/);
    await closed;
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

test("conversations can be renamed, deleted and brought back", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await untilStatus(await ask(page, "Who keeps the ledger?"), "complete");
    const item = page.locator(".page__side .conversation");
    await item.hover();
    await item.getByRole("button", { name: /Rename/ }).click();
    await page.getByLabel("Title of the conversation").fill("The ledger");
    await page.keyboard.press("Enter");
    await item.hover();
    await item.getByRole("button", { name: "Delete “The ledger”" }).click();
    assert.equal(await item.count(), 0);
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
    assert.deepEqual([body.stream, body.stream_options], [true, { include_usage: true }]);
  }));
