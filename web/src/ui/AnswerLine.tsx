import * as Popover from "@radix-ui/react-popover";
import { Info } from "lucide-react";
import { answerFacts } from "../chat/answer-words";
import type { Answer } from "../chat/types";

/** The figures of one answer: how fast, how much, how it came; and on request where from and why. */
export function AnswerLine({ answer }: { readonly answer: Answer }) {
  const facts = answerFacts(answer);
  return (
    <div className="answer-line">
      <dl>
        {facts.map(({ label, brief }) => {
          if (brief === undefined) return null;
          return (
            <div key={label} title={label}>
              <dt className="visually-hidden">{label}</dt>
              <dd>{brief}</dd>
            </div>
          );
        })}
      </dl>
      <Popover.Root>
        <Popover.Trigger className="icon-button icon-button--small" aria-label="All figures of this answer">
          <Info aria-hidden="true" />
        </Popover.Trigger>
        <Popover.Content
          className="popover"
          side="top"
          align="start"
          sideOffset={6}
          collisionPadding={8}
          aria-label="All figures of this answer"
        >
          <dl className="facts">
            {facts.map(({ label, value }) => (
              <div key={label}>
                <dt>{label}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
        </Popover.Content>
      </Popover.Root>
    </div>
  );
}
