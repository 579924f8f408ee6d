import { describe, expect, it } from "vitest";
import { announcement } from "../src/chat/announce";
import { answerFacts, endingWords } from "../src/chat/answer-words";
import { groupByAge } from "../src/chat/groups";
import { buildRequest } from "../src/chat/request";
import { Stopwatch } from "../src/chat/stopwatch";
import { titleFrom } from "../src/chat/title";
import { type Answer, type Conversation, type Message, PLAIN_SETTINGS } from "../src/chat/types";

function answer(part: Partial<Answer>): Answer {
  return { role: "assistant", id: "a", parent: "q", model: "m", text: "", reasoning: "", status: "complete", ...part };
}

function conversation(...messages: Message[]): Conversation {
  return { id: "c", title: "t", updatedAt: 0, settings: PLAIN_SETTINGS, messages, leaf: messages.at(-1)?.id ?? null };
}

describe("titleFrom", () => {
  it.each([
    ["Where is the lamp?", "Where is the lamp?"],
    ["# A heading\nand text", "A heading"],
    ["A report.\nInes went out.\n\nWhere is Ines?", "Where is Ines?"],
    ["Two lines\nwithout a question", "Two lines"],
    [" \n ", "New conversation"],
  ])("names %j", (question, title) => {
    expect(titleFrom(question)).toBe(title);
  });

  it("cuts a long line between words", () => {
    const title = titleFrom("word ".repeat(40));
    expect(title.length).toBeLessThanOrEqual(61);
    expect(title).toMatch(/word…$/);
  });
});

describe("buildRequest", () => {
  const messages: Message[] = [
    { role: "user", id: "q1", parent: null, text: "one" },
    answer({ id: "a1", parent: "q1", text: "first" }),
    answer({ id: "a1b", parent: "q1", text: "another branch" }),
    { role: "user", id: "q2", parent: "a1", text: "two" },
    answer({ id: "a2", parent: "q2", status: "failed" }),
    { role: "user", id: "q3", parent: "a2", text: "three" },
    answer({ id: "a3", parent: "q3", status: "waiting" }),
  ];

  it("sends the branch up to the question, without other branches and empty answers", () => {
    expect(buildRequest(conversation(...messages), "q3", "m")).toEqual({
      model: "m",
      messages: [
        { role: "user", content: "one" },
        { role: "assistant", content: "first" },
        { role: "user", content: "two" },
        { role: "user", content: "three" },
      ],
    });
  });

  it("sends the system prompt first and only the settings that were made", () => {
    const settings = {
      ...PLAIN_SETTINGS,
      systemPrompt: "Be brief.",
      temperature: 0,
      maxTokens: 64,
      seed: 7,
      stop: ["\n"],
    };
    expect(buildRequest({ ...conversation(...messages), settings }, "q1", "m")).toEqual({
      model: "m",
      messages: [
        { role: "system", content: "Be brief." },
        { role: "user", content: "one" },
      ],
      temperature: 0,
      maxTokens: 64,
      seed: 7,
      stop: ["\n"],
    });
  });

  it("sends pictures before the text of their question", () => {
    const url = "data:image/png;base64,AAAA";
    const picture = { id: "p", name: "gate.png", url, width: 1, height: 1 };
    const question: Message = { role: "user", id: "q", parent: null, text: "What is it?", pictures: [picture] };
    expect(buildRequest(conversation(question), "q", "m").messages).toEqual([
      {
        role: "user",
        content: [
          { type: "image_url", image_url: { url } },
          { type: "text", text: "What is it?" },
        ],
      },
    ]);
  });
});

describe("Stopwatch", () => {
  it("times the first token and the rate after it, with the server's count", () => {
    const watch = new Stopwatch(1000);
    watch.piece(1200);
    watch.piece(1700);
    watch.piece(2200);
    watch.usage({ promptTokens: 40, completionTokens: 11, cachedTokens: 32 });
    expect(watch.stats()).toEqual({
      ttftMs: 200,
      tokensPerSecond: 10,
      tokens: 11,
      counted: true,
      promptTokens: 40,
      cachedTokens: 32,
      stalls: { count: 2, longestMs: 500 },
      transports: [],
    });
  });

  it("counts as a stall what a reader notices, and not the wait for the first piece", () => {
    const watch = new Stopwatch(0);
    for (const at of [900, 1100, 1301, 1400, 2100]) watch.piece(at);
    expect(watch.stats().stalls).toEqual({ count: 2, longestMs: 700 });
  });

  it("counts pieces where the server counted nothing, and gives no rate for a single one", () => {
    const watch = new Stopwatch(0);
    expect(watch.stats()).toMatchObject({ ttftMs: null, tokensPerSecond: null, tokens: 0 });
    watch.piece(5);
    expect(watch.stats()).toMatchObject({ ttftMs: 5, tokensPerSecond: null, tokens: 1, counted: false });
  });

  it("gives no rate for an answer that came all but at once", () => {
    const watch = new Stopwatch(0);
    for (const at of [50, 50.4, 51]) watch.piece(at);
    watch.usage({ promptTokens: 4, completionTokens: 64, cachedTokens: 0 });
    expect(watch.stats()).toMatchObject({ ttftMs: 50, tokensPerSecond: null, tokens: 64 });
  });
});

describe("words about an answer", () => {
  const stats = {
    ttftMs: 82.4,
    tokensPerSecond: 46.23,
    tokens: 128,
    counted: true,
    promptTokens: 120,
    cachedTokens: 96,
  };

  const briefs = (part: Partial<Answer>): string[] =>
    answerFacts(answer(part)).flatMap(({ brief }) => (brief === undefined ? [] : [brief]));
  const valueOf = (part: Partial<Answer>, label: string): string | undefined =>
    answerFacts(answer(part)).find((fact) => fact.label === label)?.value;

  it("gives the figures in order, in few words", () => {
    const delivery = { stalls: { count: 2, longestMs: 640 }, transports: ["sse", "datachannel"] as const };
    const source = { worker: "w0", route: "ttft:hit=96/120B,est=84ms" };
    expect(briefs({ stats: { ...stats, ...delivery }, source })).toEqual([
      "82 ms to first token",
      "46.2 tok/s",
      "128 tokens",
      "96 of 120 cached",
      "over SSE → Eloquent",
      "2 stalls, longest 640 ms",
      "worker w0",
    ]);
  });

  it("keeps the model, and a route with its reason, for who asks", () => {
    const part = { source: { route: "ttft:hit=96/120B,est=84ms" } };
    expect(valueOf(part, "Model")).toBe("m");
    expect(valueOf(part, "Routing policy")).toBe("ttft");
    expect(valueOf(part, "Why this worker")).toBe("hit=96/120B, est=84ms");
  });

  it("tells where the prompt's tokens came from", () => {
    const sources = { tiers: [["engine", 64] as const, ["valkey", 32] as const], computed: 24 };
    expect(valueOf({ stats: { ...stats, sources } }, "Prompt tokens from")).toBe(
      "the worker 64, Valkey 32, computed 24",
    );
  });

  it("leaves out what is not known, and says when it did not get a count", () => {
    const partial = {
      ...stats,
      ttftMs: 1500,
      tokensPerSecond: null,
      tokens: 1,
      counted: false,
      promptTokens: null,
      cachedTokens: null,
    };
    expect(briefs({ stats: partial })).toEqual(["1.50 s to first token", "about 1 token"]);
    expect(briefs({ stats: { ...partial, tokens: 0 } })).toEqual([]);
  });

  it.each([
    [{ status: "stopped", text: "a" }, /^You stopped this answer/],
    [{ status: "stopped" }, /before the first word/],
    [{ status: "interrupted", text: "a" }, /before the answer was complete/],
    [{ finishReason: "length", text: "a" }, /token limit/],
    [{ finishReason: "stop" }, /without a word/],
  ] as const)("says how %j ended", (part, words) => {
    expect(endingWords(answer(part))).toMatch(words);
  });

  it("says nothing of an answer that ended by itself", () => {
    expect(endingWords(answer({ text: "a", finishReason: "stop" }))).toBeUndefined();
  });
});

describe("announcement", () => {
  const question: Message = { role: "user", id: "q", parent: null, text: "?" };

  it("stays the same while an answer grows", () => {
    const heard = ["waiting", "streaming", "streaming"].map((status, i) =>
      announcement(conversation(question, answer({ status: status as "streaming", text: "x".repeat(i) }))),
    );
    expect(new Set(heard)).toEqual(new Set(["Answering…"]));
  });

  it("tells the whole answer once it is there, without marks", () => {
    const text = "## Find\n\nIn the **mill**, see [here](http://x).\n\n```py\nprint()\n```\n\n| a | b |\n| - | - |\n";
    expect(announcement(conversation(question, answer({ text })))).toBe(
      "Answer: Find In the mill, see here. (a block of code) a b",
    );
  });

  it("tells how it ended and what failed", () => {
    expect(announcement(conversation(question, answer({ text: "x", status: "interrupted" })))).toMatch(
      /^Answer: x The/,
    );
    const failure = { kind: "busy", title: "Too many requests", detail: "Wait." } as const;
    expect(announcement(conversation(question, answer({ status: "failed", failure })))).toBe(
      "Too many requests. Wait.",
    );
  });
});

describe("groupByAge", () => {
  const now = new Date(2026, 4, 20, 12).getTime();
  const at = (id: string, ...day: [number, number, number]): Conversation => ({
    ...conversation(),
    id,
    updatedAt: new Date(2026, ...day).getTime(),
  });

  it("sorts by last use, newest first, and leaves empty groups out", () => {
    const groups = groupByAge([at("old", 3, 1, 9), at("early", 4, 20, 0), at("late", 4, 20, 11)], now);
    expect(groups.map(({ title, conversations }) => [title, conversations.map(({ id }) => id)])).toEqual([
      ["Today", ["late", "early"]],
      ["Earlier", ["old"]],
    ]);
  });

  it("puts yesterday and six days ago into the past seven days", () => {
    const groups = groupByAge([at("a", 4, 19, 23), at("b", 4, 14, 0), at("c", 4, 13, 23)], now);
    expect(groups.map(({ conversations }) => conversations.map(({ id }) => id))).toEqual([["a", "b"], ["c"]]);
  });
});
