import { Pencil } from "lucide-react";
import { useState } from "react";
import type { Conversation, Message, Question } from "../chat/types";
import { useApp, useModel } from "./context";
import { CopyButton } from "./CopyButton";
import { GrowingTextArea } from "./GrowingTextArea";
import { Pictures } from "./Pictures";
import { VersionPicker } from "./VersionPicker";

const FOLD_CHARS = 1200;
const FOLD_LINES = 16;

interface QuestionViewProps {
  readonly conversation: Conversation;
  readonly question: Question;
  readonly versions: readonly Message[];
  readonly editing: boolean;
  readonly onEditing: (editing: boolean) => void;
}

export function QuestionView({ conversation, question, versions, editing, onEditing }: QuestionViewProps) {
  if (editing) {
    return (
      <EditForm
        conversation={conversation}
        question={question}
        onDone={() => {
          onEditing(false);
        }}
      />
    );
  }
  return (
    <article className="question" aria-label="You">
      <div className="question__body">
        <Pictures pictures={question.pictures ?? []} />
        {question.text !== "" && <QuestionText text={question.text} />}
      </div>
      <div className="tools">
        <VersionPicker conversation={conversation} message={question} versions={versions} />
        <CopyButton text={question.text} label="Copy question" />
        <button
          type="button"
          className="icon-button icon-button--small"
          aria-label="Edit question"
          onClick={() => {
            onEditing(true);
          }}
        >
          <Pencil aria-hidden="true" />
        </button>
      </div>
    </article>
  );
}

/** A pasted document is folded: the question and the answer matter more on the page. */
function QuestionText({ text }: { readonly text: string }) {
  const [folded, setFolded] = useState(true);
  const long = text.length > FOLD_CHARS || text.split("\n").length > FOLD_LINES;
  return (
    <>
      <div className="question__text" data-clipped={long && folded}>
        {text}
      </div>
      {long && (
        <div className="question__more">
          <button
            type="button"
            className="button button--quiet"
            aria-expanded={!folded}
            onClick={() => {
              setFolded(!folded);
            }}
          >
            {folded ? "Show all" : "Show less"}
          </button>
        </div>
      )}
    </>
  );
}

interface EditFormProps {
  readonly conversation: Conversation;
  readonly question: Question;
  readonly onDone: () => void;
}

function EditForm({ conversation, question, onDone }: EditFormProps) {
  const { session } = useApp();
  const model = useModel();
  const [text, setText] = useState(question.text);
  const done = (): void => {
    onDone();
    document.getElementById("message")?.focus();
  };
  const send = (): void => {
    if (text.trim() === "") return;
    session.edit(conversation, question.id, text, model);
    done();
  };
  return (
    <form
      className="edit"
      aria-label="Edit question"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <Pictures pictures={question.pictures ?? []} />
      <GrowingTextArea
        label="Your question"
        value={text}
        onChange={setText}
        onEnter={send}
        onEscape={done}
        focusOnMount
      />
      <div className="edit__buttons">
        <button type="button" className="button button--quiet" onClick={done}>
          Cancel
        </button>
        <button type="submit" className="button button--primary" disabled={text.trim() === ""}>
          Ask again
        </button>
      </div>
    </form>
  );
}
