import type { ChatRequest, ChatTurn, ContentPart } from "../openai/types";
import { upTo } from "./tree";
import type { Conversation, Message, Question } from "./types";

/** An answer without text (failed, stopped at once) is not sent back: engines refuse or imitate it. */
function turnOf(message: Message): ChatTurn[] {
  if (message.role === "user" && message.pictures?.length) return [illustrated(message)];
  return message.text === "" ? [] : [{ role: message.role, content: message.text }];
}

function illustrated({ text, pictures = [] }: Question): ChatTurn {
  const parts: ContentPart[] = pictures.map(({ url }) => ({ type: "image_url", image_url: { url } }));
  if (text !== "") parts.push({ type: "text", text });
  return { role: "user", content: parts };
}

/** The request that asks `model` to answer the question `questionId` at the end of its branch. */
export function buildRequest(conversation: Conversation, questionId: string, model: string): ChatRequest {
  const { systemPrompt, temperature, topP, maxTokens, seed, stop } = conversation.settings;
  const system: ChatTurn[] = systemPrompt.trim() === "" ? [] : [{ role: "system", content: systemPrompt }];
  return {
    model,
    messages: [...system, ...upTo(conversation, questionId).flatMap(turnOf)],
    ...(temperature !== null && { temperature }),
    ...(topP !== null && { topP }),
    ...(maxTokens !== null && { maxTokens }),
    ...(seed !== null && { seed }),
    ...(stop.length > 0 && { stop }),
  };
}
