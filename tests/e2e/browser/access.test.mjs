/** The page by keyboard alone, by ear, on a phone, in either colours. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  accessibilityFaults,
  answerWith,
  ask,
  lengthen,
  open,
  piece,
  screenshot,
  startGateway,
  untilStatus,
  withPage,
} from "./harness.mjs";

let gateway;
before(async () => {
  gateway = await startGateway();
});
after(() => gateway.stop());

/** What has the focus, and whether a sighted keyboard user can tell. */
function focused(page) {
  return page.evaluate(() => {
    const element = document.activeElement;
    const shown = (el) => {
      const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(el);
      return (outlineStyle !== "none" && outlineWidth !== "0px") || boxShadow.includes("3px");
    };
    return {
      name: element.getAttribute("aria-label") ?? element.textContent.trim(),
      visible: shown(element) || (element.closest(".composer__box") && shown(element.closest(".composer__box"))),
    };
  });
}

test("everything can be done with the keyboard, and the focus can be seen", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    assert.equal((await focused(page)).name, "Message", "the message box has the focus from the start");

    await page.keyboard.type("first line");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("second line");
    assert.equal(await page.getByLabel("Message", { exact: true }).inputValue(), "first line\nsecond line");
    await page.keyboard.press("Enter");
    await untilStatus(page.locator(".answer").first(), "complete");
    assert.equal((await focused(page)).name, "Message", "the focus stays after sending");

    await page.keyboard.press("ArrowUp");
    assert.equal(await page.getByLabel("Message", { exact: true }).inputValue(), "first line\nsecond line");

    const order = [];
    for (let i = 0; i < 6; i++) {
      await page.keyboard.press("Shift+Tab");
      const { name, visible } = await focused(page);
      assert.ok(visible, `the focus on “${name}” can be seen`);
      order.unshift(name);
    }
    assert.deepEqual(order.slice(-5), [
      "Edit question",
      "All figures of this answer",
      "Copy answer",
      "Regenerate answer",
      "Attach pictures",
    ]);
    await screenshot(page, "keyboard-focus");

    await page.keyboard.press("Tab");
    while ((await focused(page)).name !== "Regenerate answer") await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.locator(".answer").getByText("2/2").waitFor();
    await untilStatus(page.locator(".answer"), "complete");
  }));

test("the skip link is the first stop and leads to the message box", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await page.evaluate(() => {
      document.body.tabIndex = -1;
      document.body.focus();
    });
    await page.keyboard.press("Tab");
    const { name, visible } = await focused(page);
    assert.deepEqual([name, visible], ["Skip to the message box", true]);
    await page.keyboard.press("Enter");
    assert.equal((await focused(page)).name, "Message");
  }));

test("a dialog takes the focus, Escape closes it, gives the focus back and stops nothing", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await lengthen(page);
    const answer = await ask(page, "Write a long story about the weir.");
    await answer.locator(".markdown").waitFor();
    await page.getByRole("button", { name: "Settings", exact: true }).focus();
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "system-prompt");
    await page.keyboard.press("Escape");
    assert.equal((await focused(page)).name, "Settings");
    assert.equal(await answer.getAttribute("data-status"), "streaming");
    await page.keyboard.press("Escape");
    await untilStatus(answer, "stopped");
  }));

test("a screen reader hears of an answer when it begins and when it ends, not at every word", () =>
  withPage(gateway.url, {}, async (page) => {
    await open(page, gateway.url);
    await page.evaluate(() => {
      window.heard = [];
      const region = document.getElementById("announcer");
      const note = () => window.heard.push(region.textContent);
      new MutationObserver(note).observe(region, {
        childList: true,
        characterData: true,
        subtree: true,
      });
    });
    const answer = await ask(page, "Where is the lantern?");
    await untilStatus(answer, "complete");
    const heard = await page.evaluate(() => window.heard);
    assert.equal(heard[0], "Answering…");
    assert.match(heard.at(-1), /^Answer: \S/);
    assert.ok(heard.length <= 2, `heard ${heard.length} times`);
  }));

const RICH = `## A heading

1. one, with \`code\` and [a link](https://example.org/)

\`\`\`python
def f(x: int = 3) -> str:  # a comment
    return "text"
\`\`\`

| a | b |
| - | - |
| c | d |`;

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds no fault in ${colorScheme} colours`, () =>
    withPage(gateway.url, { colorScheme }, async (page) => {
      await open(page, gateway.url);
      assert.deepEqual(await accessibilityFaults(page), [], "the empty page");
      await answerWith(page, [piece(RICH, "length"), "[DONE]"]);
      const answer = await ask(page, "Show me.");
      await untilStatus(answer, "complete");
      await answer.locator(".hljs-comment").waitFor();
      assert.deepEqual(await accessibilityFaults(page), [], "an answer");
      await answerWith(page, [{ error: { message: "worker w0 was lost", code: "worker_lost" } }]);
      await untilStatus(await ask(page, "And now?"), "failed");
      assert.deepEqual(await accessibilityFaults(page), [], "a failure");
      await page.getByRole("button", { name: "Settings", exact: true }).click();
      assert.deepEqual(await accessibilityFaults(page), [], "the settings");
      await page.keyboard.press("Escape");
      await page.getByRole("button", { name: /^Connection/ }).click();
      await page.getByRole("switch", { name: "Bad network" }).click();
      assert.deepEqual(await accessibilityFaults(page), [], "the connection");
      await page.keyboard.press("Escape");
      await page.keyboard.press("Control+/");
      assert.deepEqual(await accessibilityFaults(page), [], "the shortcuts");
      await page.keyboard.press("Escape");
      await page.getByRole("link", { name: "Fleet" }).click();
      await page.getByRole("heading", { name: "Workers" }).waitFor();
      assert.deepEqual(await accessibilityFaults(page), [], "the fleet");
    }));
}

const WIDE = `A table and code wider than a phone:

| ${"column | ".repeat(9)}
|${" --- |".repeat(9)}
| ${"some value | ".repeat(9)}

\`\`\`json
{"line": "${"long ".repeat(40)}"}
\`\`\`

and-a-word-without-any-place-to-break-${"x".repeat(90)}`;

const PHONE = {
  viewport: { width: 360, height: 720 },
  hasTouch: true,
  isMobile: true,
  deviceScaleFactor: 2,
};

test("at 360 px nothing is wider than the screen, and the list is a drawer", () =>
  withPage(gateway.url, PHONE, async (page) => {
    const fits = async (what) => {
      await page.waitForFunction(() =>
        [...document.querySelectorAll("dialog *")].every((element) => element.getAnimations().length === 0),
      );
      const wide = await page.evaluate(() =>
        [...document.querySelectorAll("body *")]
          .filter((el) => !el.closest("svg, .visually-hidden, .skip-link, .composer__keys"))
          .filter((el) => !el.closest("pre, .table-scroll") && el.getBoundingClientRect().right > innerWidth + 0.5)
          .map((el) => el.className || el.tagName),
      );
      assert.deepEqual(wide, [], `${what} fits`);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
    };
    await open(page, gateway.url);
    await fits("the empty page");
    await screenshot(page, "phone-empty");
    await answerWith(page, [piece(WIDE, "stop"), "[DONE]"]);
    const answer = await ask(page, `Show me something wide: ${"y".repeat(80)}`);
    await untilStatus(answer, "complete");
    await fits("a conversation");
    await screenshot(page, "phone-conversation");
    await page.getByRole("button", { name: "Conversations" }).click();
    await fits("the drawer");
    await screenshot(page, "phone-drawer");
    await page.getByRole("button", { name: "New conversation" }).click();
    await page.getByRole("heading", { level: 1 }).waitFor();
    await page.getByRole("button", { name: "Settings", exact: true }).click();
    await fits("the settings");
    await screenshot(page, "phone-settings");
  }));

test("buttons on a phone are large enough for a thumb", () =>
  withPage(gateway.url, PHONE, async (page) => {
    await open(page, gateway.url);
    await untilStatus(await ask(page, "Where is the lantern?"), "complete");
    const small = await page.evaluate(() =>
      [...document.querySelectorAll("button, select")]
        .map((el) => ({
          name: el.getAttribute("aria-label") ?? el.textContent,
          box: el.getBoundingClientRect(),
        }))
        .filter(({ box }) => box.width > 0 && (box.width < 36 || box.height < 36))
        .map(({ name }) => name),
    );
    assert.deepEqual(small, []);
  }));

test("colours follow the system until they are chosen, and the choice is kept", () =>
  withPage(gateway.url, { colorScheme: "dark" }, async (page) => {
    const brightness = () =>
      page.evaluate(() => {
        const [r, g, b] = getComputedStyle(document.body)
          .backgroundColor.match(/[\d.]+/g)
          .map(Number);
        return r + g + b;
      });
    await open(page, gateway.url);
    assert.ok((await brightness()) < 150, "dark with the system");
    await screenshot(page, "dark");
    await page.getByRole("button", { name: "Use light colours" }).click();
    assert.ok((await brightness()) > 600, "light when chosen");
    await page.reload();
    await page.getByRole("button", { name: "Use dark colours" }).waitFor();
    assert.ok((await brightness()) > 600, "light after a reload");
  }));
