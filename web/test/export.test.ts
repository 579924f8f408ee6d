import { describe, expect, it } from "vitest";
import { fileName } from "../src/app/download";
import { fromJson, toJson, toMarkdown } from "../src/chat/export";
import { initialState, reduce } from "../src/chat/reducer";
import { search } from "../src/chat/search";
import { type Conversation, PLAIN_SETTINGS } from "../src/chat/types";
import { linesOf, stopsOf } from "../src/ui/StopField";

const CONVERSATION: Conversation = {
  id: "c",
  title: "The lantern",
  updatedAt: 5,
  settings: { ...PLAIN_SETTINGS, systemPrompt: "Be brief.\nBe kind." },
  messages: [
    { role: "user", id: "q", parent: null, text: "Where is the **lantern**?" },
    { role: "assistant", id: "a", parent: "q", model: "m", text: "In the mill.", reasoning: "", status: "complete" },
    { role: "assistant", id: "b", parent: "q", model: "m", text: "Elsewhere.", reasoning: "", status: "complete" },
  ],
  leaf: "a",
};

describe("export", () => {
  it("as Markdown has the branch on show", () => {
    expect(toMarkdown(CONVERSATION)).toBe(
      "# The lantern\n\n> Be brief.\n> Be kind.\n\n## You\n\nWhere is the **lantern**?\n\n## m\n\nIn the mill.\n",
    );
  });

  it("as JSON has everything, and can be read again", () => {
    expect(fromJson(toJson([CONVERSATION]))).toEqual([CONVERSATION]);
  });

  it.each([
    ["no", "not JSON"],
    ["{}", "no conversations"],
    ['{"format":"sluice.conversations","version":2,"conversations":[]}', "newer version"],
    ['{"format":"sluice.conversations","version":1,"conversations":[{"id":"c"}]}', "damaged"],
  ])("refuses %j in words", (text, words) => {
    expect(() => fromJson(text)).toThrow(words);
  });

  it("replaces a conversation that is there already, and settles what was running", () => {
    const running: Conversation = {
      ...CONVERSATION,
      title: "Imported",
      messages: CONVERSATION.messages.map((message) =>
        message.role === "assistant" ? { ...message, status: "streaming" } : message,
      ),
    };
    const before = reduce(initialState(PLAIN_SETTINGS), { type: "loaded", conversations: [CONVERSATION] });
    const { conversations } = reduce(before, { type: "imported", conversations: [running] });
    expect(conversations.map(({ title }) => title)).toEqual(["Imported"]);
    expect(conversations[0]?.messages[1]).toMatchObject({ status: "interrupted" });
  });

  it("names the file after the title", () => {
    expect(fileName("What's up / Köln?", "md")).toBe("What-s-up-Köln.md");
    expect(fileName("…", "json")).toBe("conversation.json");
  });
});

describe("search", () => {
  it.each([
    ["LANTERN", 1],
    ["mill title", 0],
    ["the mill", 1],
    ["  ", 1],
    ["ferry", 0],
  ])("for %j finds %i", (words, count) => {
    expect(search([CONVERSATION], words)).toHaveLength(count);
  });
});

describe("stop texts", () => {
  it.each([[[]], [["END"]], [["\n\n", "a\\n", " x"]]])("survive being typed: %j", (stops) => {
    expect(stopsOf(linesOf(stops))).toEqual(stops);
  });
});
