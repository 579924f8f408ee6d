import { describe, expect, it } from "vitest";
import { splitBlocks } from "../src/chat/markdown-blocks";

describe("splitBlocks", () => {
  it.each<[string, string[]]>([
    ["", [""]],
    ["one\ntwo", ["one\ntwo"]],
    ["one\n\ntwo\n\n\nthree", ["one\n", "two\n\n", "three"]],
    ["# a\n\n| b |\n| - |\n\nc", ["# a\n", "| b |\n| - |\n", "c"]],
  ])("cuts %j at its blank lines", (text, blocks) => {
    expect(splitBlocks(text)).toEqual(blocks);
  });

  it.each([
    "```py\na\n\nb\n```",
    "~~~~\na\n\n~~~\n\nb\n~~~~",
    "```\nopen\n\nand growing",
    "1. a\n\n2. b\n\n   more of b\n\n- c",
    "a [link][1]\n\n[1]: http://x",
    "para\n\n    indented",
  ])("keeps %j whole", (text) => {
    expect(splitBlocks(text)).toEqual([text]);
  });

  it("cuts again after a fence is closed", () => {
    expect(splitBlocks("```\na\n\nb\n```\n\nc")).toEqual(["```\na\n\nb\n```\n", "c"]);
  });

  it("changes only the last piece as the text grows, and loses nothing", () => {
    const text = "Intro.\n\n1. a\n\n- b\n\n```js\nx\n\ny\n```\n\nEnd of it.\n\nDone.";
    let before: string[] = [];
    for (let end = 1; end <= text.length; end++) {
      const blocks = splitBlocks(text.slice(0, end));
      expect(blocks.join("\n")).toBe(text.slice(0, end));
      const settled = before.slice(0, -1);
      expect(blocks.slice(0, settled.length)).toEqual(settled);
      before = blocks;
    }
    expect(before).toHaveLength(4);
  });
});
