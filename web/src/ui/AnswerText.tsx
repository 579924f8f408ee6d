import { createElement, type ReactNode } from "react";
import { Store } from "../app/store";
import { useStore } from "./context";

interface AnswerTextProps {
  readonly text: string;
  readonly live?: boolean;
}

/** What draws markdown, once it is there; it is half of the page's code and loaded beside the rest. */
const markdown = new Store<((props: AnswerTextProps) => ReactNode) | null>(null);

/** Fetches what draws markdown before the first answer needs it. */
export async function loadMarkdown(): Promise<void> {
  const { default: Markdown } = await import("./Markdown");
  markdown.set((props) => createElement(Markdown, props));
}

/** A model's text. Until its markdown can be drawn it is shown as it is. */
export function AnswerText({ text, live = false }: AnswerTextProps) {
  const draw = useStore(markdown);
  return draw ? draw({ text, live }) : <div className="markdown markdown--plain">{text}</div>;
}
