/** What a user sees when something goes wrong: words, and a way on. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { answerWith, ask, open, piece, screenshot, startGateway, untilStatus, withPage } from "./harness.mjs";

let gateway;
before(async () => {
  gateway = await startGateway();
});
after(() => gateway.stop());

const CHAT = "**/v1/chat/completions";

test("a worker that loads is told in words; a question waits for it", () =>
  withPage(gateway.url, {}, async (page) => {
    let ready = false;
    const worker = {
      id: "w0",
      url: "http://127.0.0.1:1",
      model: "m",
      state: "loading",
      message: "reading weights",
    };
    await page.route("**/health", (route) =>
      ready
        ? route.continue()
        : route.fulfill({
            status: 503,
            json: { status: "loading", workers: [worker] },
          }),
    );
    await page.goto(`${gateway.url}/`);
    await page.locator(".topbar__gate").getByText("Worker w0 is loading the model…").waitFor();
    await page.getByRole("heading", { name: "The gate is opening." }).waitFor();
    const answer = await ask(page, "Where is the lantern?");
    await answer.getByText("Worker w0 is loading the model…").waitFor();
    await screenshot(page, "loading");
    ready = true;
    await untilStatus(answer, "complete");
  }));

test("the gateway's own refusal is shown in its words", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await page.route(CHAT, (route) => {
      const body = {
        ...route.request().postDataJSON(),
        model: "no-such-model",
      };
      return route.continue({ postData: JSON.stringify(body) });
    });
    const answer = await ask(page, "Hello?");
    await untilStatus(answer, "failed");
    assert.match(await answer.locator(".failure").innerText(), /Model not found[\s\S]*no-such-model/);
    await page.unroute(CHAT);
    await answer.getByRole("button", { name: "Try again" }).click();
    await untilStatus(page.locator(".answer"), "complete");
  }));

test("429 tells how long to wait and holds the next try back until then", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    const error = {
      message: "20 requests per minute are used up.",
      type: "rate_limit",
      code: "rate_limit_exceeded",
    };
    await page.route(CHAT, (route) =>
      route.fulfill({
        status: 429,
        headers: { "retry-after": "2" },
        json: { error },
      }),
    );
    const answer = await ask(page, "Hello?");
    await untilStatus(answer, "failed");
    assert.match(await answer.innerText(), /Too many requests[\s\S]*used up[\s\S]*wait 2 s/);
    assert.ok(await answer.getByRole("button", { name: /Try again in \d s/ }).isDisabled());
    await screenshot(page, "too-many-requests");
    await page.unroute(CHAT);
    await answer.getByRole("button", { name: "Try again", exact: true }).click({ timeout: 8000 });
    await untilStatus(page.locator(".answer"), "complete");
  }));

test("401 asks for a key, keeps it and sends it", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    const error = {
      message: "No API key was given.",
      type: "auth",
      code: "invalid_api_key",
    };
    await page.route(CHAT, (route) => {
      const allowed = route.request().headers().authorization === "Bearer sk-test";
      return allowed
        ? route.fulfill({
            contentType: "text/event-stream",
            body: `data: ${JSON.stringify(piece("In.", "stop"))}\n\n`,
          })
        : route.fulfill({ status: 401, json: { error } });
    });
    const answer = await ask(page, "Hello?");
    await untilStatus(answer, "failed");
    await answer.getByRole("button", { name: "Enter an API key" }).click();
    await page.keyboard.type("sk-test");
    await screenshot(page, "api-key");
    await page.keyboard.press("Escape");
    await answer.getByRole("button", { name: "Try again" }).click();
    await untilStatus(page.locator(".answer"), "complete");
    await page.reload();
    await page.locator(".page__side").getByRole("button", { name: "API key is set" }).waitFor();
  }));

test("a gateway that cannot be reached is told, and comes back by itself", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await page.route(CHAT, (route) => route.abort("connectionrefused"));
    const answer = await ask(page, "Hello?");
    await untilStatus(answer, "failed");
    assert.match(await answer.innerText(), /cannot be reached/);
    await page.route("**/health", (route) => route.abort("connectionrefused"));
    await page.reload();
    await page
      .locator(".topbar__gate--broken")
      .getByText(/cannot be reached/)
      .waitFor();
    await page.unroute("**/health");
    await page.locator(".topbar__gate--open").waitFor();
  }));

test("a stream that merely closes is interrupted, never complete", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await answerWith(page, [piece("Half an"), piece(" answer")]);
    const answer = await ask(page, "Hello?");
    await untilStatus(answer, "interrupted");
    assert.match(await answer.innerText(), /Half an answer[\s\S]*closed before the answer was complete/);
    await screenshot(page, "interrupted");
  }));

test("an error inside the stream is shown below what arrived", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await answerWith(page, [
      piece("So far"),
      { error: { message: "worker w0 was lost", code: "worker_lost" } },
      "[DONE]",
    ]);
    const answer = await ask(page, "Hello?");
    await untilStatus(answer, "failed");
    assert.match(await answer.innerText(), /So far[\s\S]*cut off by an error[\s\S]*worker w0 was lost/);
    await screenshot(page, "error-in-stream");
  }));

const HOSTILE = `Look: <img src=x onerror="window.hacked = 1"> <script>window.hacked = 2</script>
![pixel](https://example.org/pixel.png?secret=1) [click](javascript:window.hacked=3) [fine](https://example.org/)

\`\`\`python
print("${"wide ".repeat(60)}")
\`\`\`
`;

test("markdown from a model runs nothing and fetches nothing; code can be copied", () =>
  withPage(gateway.url, { permissions: ["clipboard-read", "clipboard-write"] }, async (page) => {
    await open(page, gateway.url);
    await answerWith(page, [piece(HOSTILE, "stop"), "[DONE]"]);
    const answer = await ask(page, "Show me.");
    await untilStatus(answer, "complete");
    await answer.locator(".hljs-built_in").waitFor();
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.equal(await answer.locator(".markdown :is(img, script)").count(), 0);
    const targets = await answer
      .locator(".markdown a")
      .evaluateAll((links) => links.map((a) => a.getAttribute("href")));
    assert.deepEqual(targets, ["https://example.org/pixel.png?secret=1", "", "https://example.org/"]);
    await answer.getByRole("button", { name: "Copy code" }).click();
    await answer.getByRole("button", { name: "Copied" }).waitFor();
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^print\("wide/);
  }));
