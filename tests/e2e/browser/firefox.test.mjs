/**
 * The page in Firefox: an answer over server-sent events, one over the data channel, and a reload in mid-answer.
 * BASE_URL names a gateway as eloquent.test.mjs wants it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { withFirefox } from "./firefox.mjs";
import { squeeze } from "./harness.mjs";

const url = new URL(process.env.BASE_URL).origin;
const tokens = Number(process.env.ANSWER_TOKENS);

/** Notes the ids of streams in the page. */
function noteStreams() {
  const { fetch } = window;
  window.streams = [];
  window.fetch = async (...request) => {
    const response = await fetch(...request);
    const id = response.headers.get("x-sluice-stream-id");
    if (id !== null) window.streams.push(id);
    return response;
  };
}

async function isOpen(page) {
  const parts = [".topbar__gate--open", ".model-picker select:enabled", 'textarea[aria-label="Message"]'];
  await page.waitFor("the page was open", (all) => all.every((part) => document.querySelector(part)), parts);
}

/** Asks, and waits for the answer's first words. */
async function ask(page, question) {
  const before = await page.evaluate(() => {
    document.querySelector('textarea[aria-label="Message"]').focus();
    return document.querySelectorAll(".answer").length;
  });
  await page.type(`${question}\uE007`);
  const begun = (n) => document.querySelectorAll(".answer .markdown")[n]?.innerText.length > 40;
  await page.waitFor("the answer began", begun, before);
}

/** What is said below the last answer once it is whole, after a look at its text. */
async function whole(page) {
  const last = await page.waitFor("the answer was complete", () => {
    const answer = [...document.querySelectorAll(".answer")].at(-1);
    const line = answer?.querySelector(".answer-line")?.innerText;
    return answer?.dataset.status === "complete" && line && { line, text: answer.querySelector(".markdown").innerText };
  });
  const kept = await page.evaluate(async () => {
    const response = await fetch(`/v1/streams/${window.streams.at(-1)}`);
    const events = (await response.text()).split("\n").filter((line) => line.startsWith("data: {"));
    return events.map((line) => JSON.parse(line.slice(6)).choices[0]?.delta.content ?? "").join("");
  });
  assert.equal(squeeze(last.text), squeeze(kept), "the very text of the stream");
  assert.match(last.line, new RegExp(`\\b${tokens} tokens`));
  return last.line;
}

test("in Firefox, answers come over server-sent events and over the data channel", () =>
  withFirefox(async (page) => {
    await page.addInitScript(noteStreams);
    await page.goto(`${url}/`);
    await isOpen(page);
    await ask(page, "Tell me of the river.");
    assert.match(await whole(page), /over SSE → Eloquent/);
    await ask(page, "Tell me of the weir.");
    assert.match(await whole(page), /over .*Eloquent/);
    await ask(page, "Tell me of the ferry.");
    await page.reload();
    await isOpen(page);
    assert.match(await whole(page), /resumed/);
    assert.deepEqual(page.complaints, []);
  }));
