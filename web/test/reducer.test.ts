import { describe, expect, it } from "vitest";
import { type ChatAction, type ChatState, currentConversation, initialState, reduce } from "../src/chat/reducer";
import { branch, versions } from "../src/chat/tree";
import { type AnswerStats, type Conversation, PLAIN_SETTINGS } from "../src/chat/types";

const STATS: AnswerStats = {
  ttftMs: 10,
  tokensPerSecond: 50,
  tokens: 3,
  counted: true,
  promptTokens: 5,
  cachedTokens: null,
};

function play(...actions: ChatAction[]): ChatState {
  return actions.reduce(reduce, initialState(PLAIN_SETTINGS));
}

function asked(q: string, parent: string | null, a: string, text = `question ${q}`): ChatAction {
  return { type: "asked", id: "c", now: 1, question: { id: q, parent, text }, answer: { id: a, model: "m" } };
}

function began(answerId: string): ChatAction {
  return { type: "began", id: "c", answerId, model: "m", source: { worker: "w0" } };
}

function grew(answerId: string, text: string): ChatAction {
  return { type: "grew", id: "c", answerId, text, reasoning: "" };
}

function ended(answerId: string, now = 2): ChatAction {
  return { type: "ended", id: "c", answerId, now, ending: { status: "complete", finishReason: "stop", stats: STATS } };
}

function shown(state: ChatState): string[] {
  const conversation = currentConversation(state);
  return conversation ? branch(conversation).map(({ id }) => id) : [];
}

function only(state: ChatState): Conversation {
  const [conversation] = state.conversations;
  if (!conversation) throw new Error("there is no conversation");
  return conversation;
}

describe("asking", () => {
  it("begins a conversation with the draft's settings and shows it", () => {
    const settings = { ...PLAIN_SETTINGS, systemPrompt: "Be brief." };
    const state = play({ type: "settings", id: null, settings }, asked("q1", null, "a1", "Where is the lamp?"));
    expect(only(state)).toMatchObject({ id: "c", title: "Where is the lamp?", settings, leaf: "a1" });
    expect(state.currentId).toBe("c");
    expect(shown(state)).toEqual(["q1", "a1"]);
  });

  it("grows an answer piece by piece and ends it with its figures", () => {
    const state = play(asked("q1", null, "a1"), began("a1"), grew("a1", "in the "), grew("a1", "mill"), ended("a1", 9));
    expect(only(state).messages[1]).toEqual({
      role: "assistant",
      id: "a1",
      parent: "q1",
      model: "m",
      text: "in the mill",
      reasoning: "",
      status: "complete",
      finishReason: "stop",
      stats: STATS,
      source: { worker: "w0" },
    });
    expect(only(state).updatedAt).toBe(9);
  });

  it("lets nothing change an answer that has ended", () => {
    const before = play(asked("q1", null, "a1"), began("a1"), ended("a1"));
    const after = [grew("a1", "late"), began("a1")].reduce(reduce, before);
    expect(after.conversations).toEqual(before.conversations);
  });

  it("ignores answers of a conversation that was deleted meanwhile", () => {
    const state = play(
      asked("q1", null, "a1"),
      { type: "removed", id: "c" },
      began("a1"),
      grew("a1", "x"),
      ended("a1"),
    );
    expect(state.conversations).toEqual([]);
    expect(state.currentId).toBeNull();
  });
});

describe("versions", () => {
  const regenerated: ChatAction = {
    type: "asked-again",
    id: "c",
    now: 3,
    questionId: "q1",
    answer: { id: "a2", model: "m" },
  };

  it("puts a regenerated answer beside the first and shows it", () => {
    const state = play(asked("q1", null, "a1"), ended("a1"), regenerated);
    expect(shown(state)).toEqual(["q1", "a2"]);
    const [, first] = only(state).messages;
    expect(first && versions(only(state), first).map(({ id }) => id)).toEqual(["a1", "a2"]);
  });

  it("puts an edited question beside the first, without what followed it", () => {
    const state = play(
      asked("q1", null, "a1"),
      ended("a1"),
      asked("q2", "a1", "a2"),
      ended("a2"),
      asked("q3", "a1", "a3"),
    );
    expect(shown(state)).toEqual(["q1", "a1", "q3", "a3"]);
  });

  it("goes back to a version together with what followed it", () => {
    const state = play(
      asked("q1", null, "a1"),
      ended("a1"),
      asked("q2", "a1", "a2"),
      ended("a2"),
      asked("q1b", null, "a1b"),
      ended("a1b"),
      { type: "version", id: "c", messageId: "q1" },
    );
    expect(shown(state)).toEqual(["q1", "a1", "q2", "a2"]);
  });
});

describe("the list", () => {
  it("renames, but not to nothing", () => {
    const state = play(asked("q1", null, "a1"), { type: "renamed", id: "c", title: "  Lamps " });
    expect(only(state).title).toBe("Lamps");
    expect(only(reduce(state, { type: "renamed", id: "c", title: " " })).title).toBe("Lamps");
  });

  it("brings a deleted conversation back; an answer that was running then is interrupted", () => {
    const before = play(asked("q1", null, "a1"), began("a1"), grew("a1", "half"));
    const state = [
      { type: "removed", id: "c" } as const,
      { type: "restored", conversation: only(before) } as const,
    ].reduce<ChatState>(reduce, before);
    expect(shown(state)).toEqual(["q1", "a1"]);
    expect(only(state).messages[1]).toMatchObject({ status: "interrupted", text: "half" });
  });

  it("takes stored conversations in, and settles answers that the closing of the page cut off", () => {
    const stored = only(play(asked("q1", null, "a1"), began("a1")));
    const state = play({ type: "loaded", conversations: [stored] });
    expect(state.loaded).toBe(true);
    expect(state.currentId).toBeNull();
    expect(only(state).messages[1]).toMatchObject({ status: "interrupted" });
  });

  it("keeps the settings of each conversation and of the next apart", () => {
    const settings = { ...PLAIN_SETTINGS, temperature: 0.2 };
    const state = play(asked("q1", null, "a1"), { type: "settings", id: "c", settings });
    expect(only(state).settings).toEqual(settings);
    expect(state.draft).toEqual(PLAIN_SETTINGS);
  });
});

describe("an answer that the gateway keeps", () => {
  const asked = reduce(initialState(PLAIN_SETTINGS), {
    type: "asked",
    id: "c",
    now: 1,
    question: { id: "q", parent: null, text: "?" },
    answer: { id: "a", model: "m" },
  });
  const of = { id: "c", answerId: "a" };
  const began = reduce(asked, { type: "began", ...of, model: "m", source: { worker: "w0", streamId: "st" } });
  const grown = reduce(began, { type: "grew", ...of, text: "half", reasoning: "", after: 7 });
  const answerOf = ({ conversations }: ChatState) => conversations[0]?.messages.at(-1);

  it("remembers with every text which step it goes up to", () => {
    expect(answerOf(began)).toMatchObject({ place: { streamId: "st", after: 0 } });
    expect(answerOf(grown)).toMatchObject({ text: "half", place: { streamId: "st", after: 7 } });
  });

  it("is still running after a reload, and goes on where it was", () => {
    const { conversations } = grown;
    const reloaded = reduce(initialState(PLAIN_SETTINGS), { type: "loaded", conversations });
    expect(answerOf(reloaded)).toMatchObject({ status: "streaming" });
    const resumed = reduce(reloaded, { type: "began", ...of, model: "m", source: { streamId: "st" } });
    const more = reduce(resumed, { type: "grew", ...of, text: " and half", reasoning: "", after: 12 });
    expect(answerOf(more)).toMatchObject({
      text: "half and half",
      place: { streamId: "st", after: 12 },
      source: { worker: "w0" },
    });
  });

  it("has no place any more once it has ended", () => {
    const ended = reduce(grown, { type: "ended", ...of, now: 2, ending: { status: "complete", stats: STATS } });
    expect(answerOf(ended)).not.toHaveProperty("place");
  });
});
