import { answerFacts } from "../chat/answer-words";
import type { Answer } from "../chat/types";

/** The figures of one answer: how fast, how much, from where. */
export function AnswerLine({ answer }: { readonly answer: Answer }) {
  return (
    <dl className="answer-line">
      {answerFacts(answer).map(({ label, value }) => (
        <div key={label} title={label}>
          <dt className="visually-hidden">{label}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}
