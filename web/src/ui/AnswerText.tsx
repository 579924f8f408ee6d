import { lazy, Suspense } from "react";

const Markdown = lazy(() => import("./Markdown"));

/** Fetches what draws markdown before the first answer needs it. */
export function preloadMarkdown(): void {
  void import("./Markdown");
}

interface AnswerTextProps {
  readonly text: string;
  readonly live?: boolean;
}

/** A model's text. Until its markdown can be drawn it is shown as it is. */
export function AnswerText({ text, live = false }: AnswerTextProps) {
  return (
    <Suspense fallback={<div className="markdown markdown--plain">{text}</div>}>
      <Markdown text={text} live={live} />
    </Suspense>
  );
}
