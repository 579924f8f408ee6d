import { ArrowUp, Square } from "lucide-react";
import { lastQuestion } from "../app/session";
import { type Conversation, isRunning, type Message } from "../chat/types";
import { useApp, useModel } from "./context";
import { GrowingTextArea } from "./GrowingTextArea";

interface ComposerProps {
  readonly draft: string;
  readonly onDraft: (draft: string) => void;
  readonly conversation: Conversation | undefined;
}

function isFlowing(message: Message): boolean {
  return message.role === "assistant" && message.status === "streaming";
}

export function Composer({ draft, onDraft, conversation }: ComposerProps) {
  const { session } = useApp();
  const model = useModel();
  const running = conversation?.messages.some(isRunning) ?? false;
  const empty = draft.trim() === "";
  const send = (): void => {
    if (running || empty) return;
    session.ask(draft, model);
    onDraft("");
  };
  const recall = (): void => {
    const id = conversation && lastQuestion(conversation);
    const question = conversation?.messages.find((message) => message.id === id);
    if (question) onDraft(question.text);
  };
  return (
    <form
      className="composer"
      data-flowing={conversation?.messages.some(isFlowing) ?? false}
      aria-label="Ask"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div className="composer__box">
        <GrowingTextArea
          id="message"
          label="Message"
          placeholder="Ask something…"
          describedBy="composer-keys"
          value={draft}
          onChange={onDraft}
          onEnter={send}
          onArrowUp={recall}
        />
        {running && conversation ? (
          <button
            type="button"
            className="send send--stop"
            aria-label="Stop answering"
            onClick={() => {
              session.stop(conversation);
              document.getElementById("message")?.focus();
            }}
          >
            <Square aria-hidden="true" />
          </button>
        ) : (
          <button type="submit" className="send" aria-label="Send" disabled={empty}>
            <ArrowUp aria-hidden="true" />
          </button>
        )}
      </div>
      <p className="composer__keys" id="composer-keys">
        <kbd>Enter</kbd> sends, <kbd>Shift</kbd>+<kbd>Enter</kbd> starts a line, <kbd>Esc</kbd> stops, <kbd>↑</kbd>{" "}
        recalls your last question
      </p>
    </form>
  );
}
