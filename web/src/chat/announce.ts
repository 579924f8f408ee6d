import { endingWords } from "./answer-words";
import type { Answer, Conversation } from "./types";

const LONGEST = 1200;

/** What a screen reader is told about the last answer. It changes when the answer begins and when it ends. */
export function announcement(conversation: Conversation): string {
  const last = conversation.messages.find(({ id }) => id === conversation.leaf);
  return last?.role === "assistant" ? answerWords(last) : "";
}

function answerWords(answer: Answer): string {
  if (answer.status === "waiting" || answer.status === "streaming") return "Answering…";
  if (answer.failure) return `${answer.failure.title}. ${answer.failure.detail}`;
  const text = spoken(answer.text);
  const shown = text.length > LONGEST ? `${text.slice(0, LONGEST)}… The rest is in the conversation.` : text;
  return [`Answer: ${shown}`, endingWords(answer)].filter(Boolean).join(" ");
}

/** Markdown without the marks that would be read out. */
function spoken(markdown: string): string {
  return markdown
    .replace(/```[^\n]*\n[\s\S]*?(```|$)/g, " (a block of code) ")
    .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replace(/^\s*\|?[\s:|-]+\|\s*$/gm, "")
    .replace(/[*_`#>|]+/g, "")
    .replace(/\s+/g, " ")
    .trim();
}
