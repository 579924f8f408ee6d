import { ArrowDown } from "lucide-react";
import { branch, versions } from "../chat/tree";
import type { Conversation } from "../chat/types";
import { AnswerView } from "./AnswerView";
import { useFleet } from "./context";
import { EmptyState } from "./EmptyState";
import { FailureNotice } from "./FailureNotice";
import { QuestionView } from "./QuestionView";
import type { SettingsField } from "./SettingsDialog";
import { useStickToBottom } from "./use-stick-to-bottom";

interface ThreadProps {
  readonly conversation: Conversation | undefined;
  readonly editing: string | null;
  readonly onEditing: (questionId: string | null) => void;
  readonly onExample: (prompt: string) => void;
  readonly onSettings: (focus: SettingsField) => void;
}

export function Thread({ conversation, editing, onEditing, onExample, onSettings }: ThreadProps) {
  const { refused } = useFleet();
  const { scroller, content, atBottom, toBottom } = useStickToBottom(conversation?.leaf ?? null);
  const openKey = (): void => {
    onSettings("api-key");
  };
  return (
    <main className="thread" ref={scroller} aria-label="Conversation">
      <div className="thread__content" ref={content}>
        {refused && !conversation && <FailureNotice failure={refused} onKey={openKey} />}
        {conversation && <h1 className="visually-hidden">{conversation.title}</h1>}
        {conversation ? (
          <ol className="turns">
            {branch(conversation).map((message) => {
              const props = { conversation, versions: versions(conversation, message) };
              return (
                <li key={message.id} className={`turn turn--${message.role}`}>
                  {message.role === "user" ? (
                    <QuestionView
                      {...props}
                      question={message}
                      editing={message.id === editing}
                      onEditing={(on) => {
                        onEditing(on ? message.id : null);
                      }}
                    />
                  ) : (
                    <AnswerView {...props} answer={message} onKey={openKey} />
                  )}
                </li>
              );
            })}
          </ol>
        ) : (
          <EmptyState onExample={onExample} />
        )}
      </div>
      {!atBottom && (
        <button type="button" className="to-latest" onClick={toBottom}>
          <ArrowDown aria-hidden="true" /> Latest
        </button>
      )}
    </main>
  );
}
