import { lazy, Suspense } from "react";

const load = (): Promise<typeof import("./Markdown")> => import("./Markdown");
const Markdown = lazy(load);

/** Fetches what draws markdown before the first answer needs it. */
export function preloadMarkdown(): void {
  void load();
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
