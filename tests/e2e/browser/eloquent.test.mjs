/**
 * Answers over data channels: the move from server-sent events, the way back, and the same text every time.
 *
 * BASE_URL must name a gateway that offers data channels, before a fake engine that answers with ANSWER_TOKENS
 * tokens, slowly enough for something to happen meanwhile.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ask,
  isCancel,
  keptText,
  nextStream,
  open,
  screenshot,
  squeeze,
  untilKept,
  untilStatus,
  withPage,
} from "./harness.mjs";

const url = new URL(process.env.BASE_URL).origin;
const tokens = Number(process.env.ANSWER_TOKENS);
/** An answer takes seconds, and machines of continuous integration are slow. */
const PATIENT = { timeout: 120_000 };

/** Asks a first question and waits for the data channel, so that the next answer has it from the start. */
async function warmUp(page) {
  await open(page, url);
  await ask(page, "Warm up.");
  await page.getByRole("button", { name: "Connection: Eloquent" }).waitFor(PATIENT);
  await page.keyboard.press("Escape");
  await untilStatus(page.locator(".answer").last(), ["stopped", "complete"], PATIENT);
}

/** What carried an answer, e.g. "SSE → Eloquent". */
async function carriers(answer) {
  return /over ([^\n]+)/.exec(await answer.locator(".answer-line").innerText())?.[1];
}

async function assertWhole(page, answer, stream) {
  const kept = await keptText(page, url, await stream);
  assert.equal(squeeze(await answer.locator(".markdown").innerText()), squeeze(kept), "the very text of the stream");
  assert.match(await answer.locator(".answer-line").innerText(), new RegExp(`\\b${tokens} tokens`));
}

/** Lets the page lose every datagram while `window.datagramsLost` is true. */
function loseDatagrams() {
  const create = RTCPeerConnection.prototype.createDataChannel;
  RTCPeerConnection.prototype.createDataChannel = function (label, options) {
    const channel = create.call(this, label, options);
    if (options?.maxRetransmits !== 0) return channel;
    const send = channel.send.bind(channel);
    channel.send = (data) => window.datagramsLost || send(data);
    Object.defineProperty(channel, "onmessage", {
      set: (handle) => channel.addEventListener("message", (event) => window.datagramsLost || handle(event)),
    });
    return channel;
  };
}

test("an answer begins over server-sent events and moves to the data channel", () =>
  withPage(url, {}, async (page) => {
    await warmUp(page);
    const stream = nextStream(page);
    const closed = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/chat/completions"));
    const answer = await ask(page, "Tell me of the river.");
    await closed;
    await screenshot(page, "eloquent-streaming");
    await untilStatus(answer, "complete", PATIENT);
    assert.match(await carriers(answer), /Eloquent/);
    await assertWhole(page, answer, stream);
    await page.getByRole("button", { name: "Connection: Eloquent" }).click();
    await page.getByText(/The data channel is open, \d+ ms away/).waitFor();
    await screenshot(page, "eloquent-connection");
  }));

test("where the data channel falls silent, server-sent events go on", () =>
  withPage(url, {}, async (page) => {
    await page.addInitScript(loseDatagrams);
    await warmUp(page);
    const stream = nextStream(page);
    const closed = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/chat/completions"));
    const answer = await ask(page, "Tell me of the weir.");
    await closed;
    const again = page.waitForRequest((request) => request.url().includes(`/v1/streams/`));
    await page.evaluate(() => (window.datagramsLost = true));
    assert.match((await again).url(), /starting_after=[1-9]/);
    await untilStatus(answer, "complete", PATIENT);
    // The channel may have fallen silent before it brought anything that was new.
    assert.match(await carriers(answer), /SSE$/);
    await assertWhole(page, answer, stream);
  }));

test("where the gateway hangs up in mid-answer, the answer goes on", () =>
  withPage(url, {}, async (page) => {
    const call = page.waitForResponse("**/v1/realtime/calls");
    await warmUp(page);
    const stream = nextStream(page);
    const closed = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/chat/completions"));
    const answer = await ask(page, "Tell me of the mill.");
    await closed;
    const location = (await call).headers().location;
    assert.equal((await page.request.delete(url + location)).status(), 204);
    await untilStatus(answer, "complete", PATIENT);
    // Events went on, whether or not another call took over from them.
    assert.match(await carriers(answer), /SSE/);
    await assertWhole(page, answer, stream);
  }));

test("a reload in mid-answer loses nothing", () =>
  withPage(url, {}, async (page) => {
    await warmUp(page);
    const stream = nextStream(page);
    const closed = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/chat/completions"));
    await ask(page, "Tell me of the ferry.");
    await closed;
    const id = await stream;
    await untilKept(page, ({ text, place }) => text.length > 40 && place?.streamId === id);
    await page.reload();
    const answer = page.locator(".answer").last();
    await untilStatus(answer, "complete", PATIENT);
    assert.match(await answer.locator(".answer-line").innerText(), /resumed/);
    await assertWhole(page, answer, id);
  }));

test("stopping an answer on the data channel stops the engine too", () =>
  withPage(url, {}, async (page) => {
    await warmUp(page);
    const closed = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/chat/completions"));
    const answer = await ask(page, "Tell me of the gate.");
    await closed;
    const cancelled = page.waitForResponse((response) => isCancel(response.request()));
    await page.keyboard.press("Escape");
    await untilStatus(answer, "stopped");
    assert.equal((await (await cancelled).json()).status, "cancelled");
  }));

for (const [transport, carried] of [
  ["Eloquent where it can be had", /Eloquent/],
  ["Server-sent events alone", /^SSE$/],
]) {
  test(`on a bad network an answer is late but whole: ${transport}`, () =>
    withPage(url, {}, async (page) => {
      await warmUp(page);
      await page.getByRole("button", { name: /^Connection/ }).click();
      await page.getByRole("switch", { name: "Bad network" }).click();
      await page.getByRole("radio", { name: /On a train/ }).click();
      await page.getByRole("radio", { name: transport }).click();
      await screenshot(page, "bad-network");
      await page.keyboard.press("Escape");
      const stream = nextStream(page);
      const answer = await ask(page, "Tell me of the storm.");
      await untilStatus(answer, "complete", PATIENT);
      assert.match(await carriers(answer), carried);
      await assertWhole(page, answer, stream);
    }));
}

test("side by side, both transports bring the same text over the same bad network", () =>
  withPage(url, {}, async (page) => {
    await open(page, url);
    await page.getByRole("link", { name: "Side by side" }).click();
    await page.getByRole("radio", { name: /On a train/ }).check();
    await page.getByRole("button", { name: "Start" }).click();
    await page.getByText("The text is the same.").waitFor(PATIENT);
    await screenshot(page, "side-by-side");
  }));
