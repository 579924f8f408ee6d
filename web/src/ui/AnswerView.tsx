import { RefreshCw } from "lucide-react";
import { useDeferredValue } from "react";
import { endingWords } from "../chat/answer-words";
import { type Answer, type Conversation, isRunning, type Message } from "../chat/types";
import { readGate } from "../fleet/words";
import { AnswerLine } from "./AnswerLine";
import { AnswerText } from "./AnswerText";
import { useApp, useFleet, useModel } from "./context";
import { CopyButton } from "./CopyButton";
import { FailureNotice } from "./FailureNotice";
import { VersionPicker } from "./VersionPicker";

interface AnswerViewProps {
  readonly conversation: Conversation;
  readonly answer: Answer;
  readonly versions: readonly Message[];
  readonly onKey: () => void;
}

export function AnswerView({ conversation, answer, versions, onKey }: AnswerViewProps) {
  const { session } = useApp();
  const model = useModel();
  const running = isRunning(answer);
  const deferred = useDeferredValue(answer.text);
  // While it grows a busy page may be behind; with its end it is shown whole.
  const text = running ? deferred : answer.text;
  const ending = endingWords(answer);
  const again = (): void => {
    session.regenerate(conversation, answer.parent, model || answer.model);
  };
  return (
    <article className="answer" aria-label="Answer" aria-busy={running} data-status={answer.status}>
      {answer.reasoning !== "" && (
        <details className="reasoning" open={running && text === ""}>
          <summary>Reasoning</summary>
          <AnswerText text={answer.reasoning} />
        </details>
      )}
      {text !== "" && <AnswerText text={text} live={running} />}
      {running && text === "" && <Waiting answer={answer} />}
      {answer.failure && <FailureNotice failure={answer.failure} onRetry={again} onKey={onKey} />}
      {ending !== undefined && <p className="ending">{ending}</p>}
      {!running && (
        <footer className="answer__foot">
          <AnswerLine answer={answer} />
          <div className="tools">
            <VersionPicker conversation={conversation} message={answer} versions={versions} />
            {answer.text !== "" && <CopyButton text={answer.text} label="Copy answer" />}
            <button
              type="button"
              className="icon-button icon-button--small"
              aria-label="Regenerate answer"
              onClick={again}
            >
              <RefreshCw aria-hidden="true" />
            </button>
          </div>
        </footer>
      )}
    </article>
  );
}

function Waiting({ answer }: { readonly answer: Answer }) {
  const gate = readGate(useFleet().view);
  const words = answer.status === "waiting" && !gate.open ? gate.words : "Waiting for the first word…";
  return (
    <p className="waiting">
      <span className="waiting__stream" aria-hidden="true" />
      {words}
    </p>
  );
}
