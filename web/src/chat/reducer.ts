import type { AnswerSource, Failure } from "../openai/types";
import { titleFrom } from "./title";
import { newestLeaf } from "./tree";
import {
  type Answer,
  type AnswerStats,
  type Conversation,
  isRunning,
  type Message,
  type Picture,
  type Settings,
} from "./types";

export interface ChatState {
  /** False until the stored conversations are read. */
  readonly loaded: boolean;
  readonly conversations: readonly Conversation[];
  /** The conversation on show; null for a new one that has no message yet. */
  readonly currentId: string | null;
  /** Settings of the next new conversation. */
  readonly draft: Settings;
}

interface AskAnswer {
  readonly id: string;
  readonly model: string;
}

/** How an answer may end; `failure` only with "failed". */
export interface Ending {
  readonly status: "complete" | "stopped" | "interrupted" | "failed";
  readonly finishReason?: string;
  readonly failure?: Failure;
  readonly stats: AnswerStats;
}

export type ChatAction =
  | { readonly type: "loaded"; readonly conversations: readonly Conversation[] }
  /** From a file; what has the same id is replaced. */
  | { readonly type: "imported"; readonly conversations: readonly Conversation[] }
  | { readonly type: "opened"; readonly id: string | null }
  | { readonly type: "removed"; readonly id: string }
  | { readonly type: "restored"; readonly conversation: Conversation }
  | { readonly type: "renamed"; readonly id: string; readonly title: string }
  | { readonly type: "settings"; readonly id: string | null; readonly settings: Settings }
  | { readonly type: "version"; readonly id: string; readonly messageId: string }
  | {
      readonly type: "asked";
      readonly id: string;
      readonly now: number;
      readonly question: {
        readonly id: string;
        readonly parent: string | null;
        readonly text: string;
        readonly pictures?: readonly Picture[];
      };
      readonly answer: AskAnswer;
    }
  | {
      readonly type: "asked-again";
      readonly id: string;
      readonly now: number;
      readonly questionId: string;
      readonly answer: AskAnswer;
    }
  | {
      readonly type: "began";
      readonly id: string;
      readonly answerId: string;
      readonly model: string;
      readonly source: AnswerSource;
    }
  | {
      readonly type: "grew";
      readonly id: string;
      readonly answerId: string;
      readonly text: string;
      readonly reasoning: string;
      /** Number of the last step that this text comes from, where the gateway numbers them. */
      readonly after?: number;
    }
  | {
      readonly type: "ended";
      readonly id: string;
      readonly answerId: string;
      readonly now: number;
      readonly ending: Ending;
    };

export function initialState(draft: Settings): ChatState {
  return { loaded: false, conversations: [], currentId: null, draft };
}

export function reduce(state: ChatState, action: ChatAction): ChatState {
  switch (action.type) {
    case "loaded":
      return { ...state, loaded: true, conversations: [...state.conversations, ...action.conversations.map(settle)] };
    case "imported": {
      const ids = new Set(action.conversations.map(({ id }) => id));
      const others = state.conversations.filter(({ id }) => !ids.has(id));
      return { ...state, conversations: [...action.conversations.map(settle), ...others] };
    }
    case "opened":
      return { ...state, currentId: action.id };
    case "removed":
      return {
        ...state,
        conversations: state.conversations.filter(({ id }) => id !== action.id),
        currentId: state.currentId === action.id ? null : state.currentId,
      };
    case "restored":
      return {
        ...state,
        conversations: [settle(action.conversation), ...state.conversations],
        currentId: action.conversation.id,
      };
    case "renamed":
      return update(state, action.id, (conversation) => ({
        ...conversation,
        title: action.title.trim() || conversation.title,
      }));
    case "settings":
      if (action.id === null) return { ...state, draft: action.settings };
      return update(state, action.id, (conversation) => ({ ...conversation, settings: action.settings }));
    case "version":
      return update(state, action.id, (conversation) => ({
        ...conversation,
        leaf: newestLeaf(conversation, action.messageId),
      }));
    case "asked": {
      const { question } = action;
      return update(begin(state, action.id, question.text), action.id, (conversation) =>
        append(conversation, action.now, [{ role: "user", ...question }, waiting(action.answer, question.id)]),
      );
    }
    case "asked-again":
      return update(state, action.id, (conversation) =>
        append(conversation, action.now, [waiting(action.answer, action.questionId)]),
      );
    case "began":
      return updateAnswer(state, action, (answer) => ({
        ...answer,
        status: "streaming",
        model: action.model,
        source: { ...answer.source, ...action.source },
        ...placeOf(answer, action.source),
      }));
    case "grew":
      return updateAnswer(state, action, (answer) => ({
        ...answer,
        text: answer.text + action.text,
        reasoning: answer.reasoning + action.reasoning,
        ...(answer.place && action.after !== undefined && { place: { ...answer.place, after: action.after } }),
      }));
    case "ended":
      return update(
        updateAnswer(state, action, ({ place, ...answer }) => ({ ...answer, ...action.ending })),
        action.id,
        (conversation) => ({ ...conversation, updatedAt: action.now }),
      );
  }
}

/** A resumed answer has its place already. */
function placeOf({ place }: Answer, { streamId }: AnswerSource): Pick<Answer, "place"> {
  if (streamId === undefined || place?.streamId === streamId) return {};
  return { place: { streamId, after: 0 } };
}

/** The conversation on show, or undefined for a new one. */
export function currentConversation(state: ChatState): Conversation | undefined {
  return state.conversations.find(({ id }) => id === state.currentId);
}

function update(state: ChatState, id: string, change: (conversation: Conversation) => Conversation): ChatState {
  return {
    ...state,
    conversations: state.conversations.map((conversation) =>
      conversation.id === id ? change(conversation) : conversation,
    ),
  };
}

function updateAnswer(
  state: ChatState,
  { id, answerId }: { readonly id: string; readonly answerId: string },
  change: (answer: Answer) => Answer,
): ChatState {
  const changeOne = (message: Message): Message =>
    message.id === answerId && message.role === "assistant" && isRunning(message) ? change(message) : message;
  return update(state, id, (conversation) => ({ ...conversation, messages: conversation.messages.map(changeOne) }));
}

function begin(state: ChatState, id: string, text: string): ChatState {
  if (state.conversations.some((conversation) => conversation.id === id)) return state;
  const conversation: Conversation = {
    id,
    title: titleFrom(text),
    updatedAt: 0,
    settings: state.draft,
    messages: [],
    leaf: null,
  };
  return { ...state, conversations: [conversation, ...state.conversations], currentId: id };
}

function append(conversation: Conversation, now: number, added: readonly Message[]): Conversation {
  return {
    ...conversation,
    updatedAt: now,
    messages: [...conversation.messages, ...added],
    leaf: added.at(-1)?.id ?? conversation.leaf,
  };
}

function waiting({ id, model }: AskAnswer, parent: string): Answer {
  return { role: "assistant", id, parent, model, text: "", reasoning: "", status: "waiting" };
}

/**
 * An answer that was running when the page was closed can never end and counts as interrupted, unless the
 * gateway keeps it: then it is taken up again.
 */
function settle(conversation: Conversation): Conversation {
  const isLost = (message: Message): message is Answer =>
    message.role === "assistant" && isRunning(message) && message.place === undefined;
  if (!conversation.messages.some(isLost)) return conversation;
  return {
    ...conversation,
    messages: conversation.messages.map((message) =>
      isLost(message) ? { ...message, status: "interrupted" } : message,
    ),
  };
}
