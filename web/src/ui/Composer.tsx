import { ArrowUp, Square } from "lucide-react";
import { lastQuestion } from "../app/session";
import { type Conversation, isRunning, type Message } from "../chat/types";
import { AttachButton } from "./AttachButton";
import { useApp, useModel, useTakesPictures } from "./context";
import { GrowingTextArea } from "./GrowingTextArea";
import { Pictures } from "./Pictures";
import type { DraftPictures } from "./use-draft-pictures";

interface ComposerProps {
  readonly draft: string;
  readonly onDraft: (draft: string) => void;
  readonly draftPictures: DraftPictures;
  readonly conversation: Conversation | undefined;
  readonly onShortcuts: () => void;
}

function isFlowing(message: Message): boolean {
  return message.role === "assistant" && message.status === "streaming";
}

export function Composer({ draft, onDraft, draftPictures, conversation, onShortcuts }: ComposerProps) {
  const { session } = useApp();
  const model = useModel();
  const takesPictures = useTakesPictures(model) !== false;
  const { pictures, trouble } = draftPictures;
  const running = conversation?.messages.some(isRunning) ?? false;
  const unread = pictures.length > 0 && !takesPictures;
  const empty = draft.trim() === "" && pictures.length === 0;
  const send = (): void => {
    if (running || empty || unread) return;
    session.ask(draft, model, pictures);
    onDraft("");
    draftPictures.clear();
  };
  const recall = (): void => {
    const id = conversation && lastQuestion(conversation);
    const question = conversation?.messages.find((message) => message.id === id);
    if (question) onDraft(question.text);
  };
  const notice = unread ? `${model} reads no pictures. Remove them, or choose another model.` : trouble;
  return (
    <form
      className="composer"
      data-flowing={conversation?.messages.some(isFlowing) ?? false}
      aria-label="Ask"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
      onPaste={(event) => {
        if (event.clipboardData.files.length === 0) return;
        event.preventDefault();
        draftPictures.add(event.clipboardData.files);
      }}
    >
      <p className="composer__notice" role="status">
        {notice}
      </p>
      <div className="composer__box">
        <Pictures pictures={pictures} onRemove={draftPictures.remove} />
        <div className="composer__row">
          <AttachButton enabled={takesPictures} onFiles={draftPictures.add} />
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
            <button type="submit" className="send" aria-label="Send" disabled={empty || unread}>
              <ArrowUp aria-hidden="true" />
            </button>
          )}
        </div>
      </div>
      <p className="composer__keys">
        <span id="composer-keys">
          <kbd>Enter</kbd> sends, <kbd>Shift</kbd>+<kbd>Enter</kbd> starts a line, <kbd>Esc</kbd> stops
        </span>
        <button type="button" className="link-button" onClick={onShortcuts}>
          All shortcuts
        </button>
      </p>
    </form>
  );
}
