/** The fleet behind the gateway, as an administrator sees it. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { accessibilityFaults, ask, open, screenshot, startGateway, untilStatus, withPage } from "./harness.mjs";

let gateway;
before(async () => {
  gateway = await startGateway();
});
after(() => gateway.stop());

test("the fleet page shows every worker and what requests did", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await untilStatus(await ask(page, "Where is the lantern?"), "complete");
    await page.getByRole("link", { name: "Fleet" }).click();
    const workers = page.locator("table").first().locator("tbody tr");
    await workers.first().getByText("ready").waitFor();
    const { workers: told } = await (await page.request.get(`${gateway.url}/admin/workers`)).json();
    assert.deepEqual(
      await workers.locator("th").evaluateAll((cells) => cells.map((cell) => cell.innerText.split("\n")[0])),
      told.map(({ id }) => id),
    );
    await page.getByRole("heading", { name: "Where the latest requests went" }).waitFor();
    assert.equal(await page.locator(".chart canvas").count(), 4);
    await page.waitForTimeout(3000);
    await screenshot(page, "fleet");
    await page.goBack();
    await page.locator(".answer").waitFor();
  }));

test("the cache page shows the tiers of workers that have them, or says that none has", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await page.getByRole("link", { name: "Cache" }).click();
    const { workers, tiers } = await (await page.request.get(`${gateway.url}/admin/cache`)).json();
    if (Object.values(workers).every(({ error }) => error)) {
      await page.getByText(/No worker has a KV layer|does not answer/).waitFor();
      return;
    }
    const rows = page.getByRole("group", { name: "Tiers" }).locator("tbody tr");
    await rows.first().waitFor();
    assert.equal(await rows.count(), Object.keys(tiers).length);
    await page.waitForTimeout(3000);
    await screenshot(page, "cache");
    assert.deepEqual(await accessibilityFaults(page), []);
  }));

test("without admin rights it asks for a key, and works once there is one", () =>
  withPage(gateway.url, {}, async (page) => {
    const allowed = (request) => request.headers().authorization === "Bearer sk-admin";
    const error = { message: "This API key has no admin rights.", type: "permission_error", code: null };
    await page.route("**/admin/**", (route) =>
      allowed(route.request()) ? route.continue() : route.fulfill({ status: 403, json: { error } }),
    );
    await page.goto(`${gateway.url}/#/fleet`);
    await page.getByText("This page is for administrators").waitFor();
    await screenshot(page, "fleet-refused");
    await page.getByRole("button", { name: "Enter an API key" }).click();
    await page.keyboard.type("sk-admin");
    await page.keyboard.press("Escape");
    await page.getByRole("heading", { name: "Workers" }).waitFor();
    assert.equal(await page.getByText("This page is for administrators").count(), 0);
  }));

test("on a phone nothing is wider than the screen", () =>
  withPage(gateway.url, { viewport: { width: 360, height: 720 }, isMobile: true, hasTouch: true }, async (page) => {
    await page.goto(`${gateway.url}/#/fleet`);
    await page.getByRole("heading", { name: "Workers" }).waitFor();
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
    await screenshot(page, "phone-fleet");
  }));
