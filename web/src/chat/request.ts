import type { ChatRequest, ChatTurn } from "../openai/types";
import { upTo } from "./tree";
import type { Conversation, Message } from "./types";

/** An answer without text (failed, stopped at once) is not sent back: engines refuse or imitate it. */
function turnOf(message: Message): ChatTurn[] {
  return message.text === "" ? [] : [{ role: message.role, content: message.text }];
}

/** The request that asks `model` to answer the question `questionId` at the end of its branch. */
export function buildRequest(conversation: Conversation, questionId: string, model: string): ChatRequest {
  const { systemPrompt, temperature, topP, maxTokens } = conversation.settings;
  const system: ChatTurn[] = systemPrompt.trim() === "" ? [] : [{ role: "system", content: systemPrompt }];
  return {
    model,
    messages: [...system, ...upTo(conversation, questionId).flatMap(turnOf)],
    ...(temperature !== null && { temperature }),
    ...(topP !== null && { topP }),
    ...(maxTokens !== null && { maxTokens }),
  };
}
