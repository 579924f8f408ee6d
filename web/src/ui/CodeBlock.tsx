import { isValidElement, lazy, type ReactNode, Suspense } from "react";
import { CopyButton } from "./CopyButton";

const HighlightedCode = lazy(() => import("./HighlightedCode"));

/** Longer code is shown plain: colouring it again at every streamed token would hold the page up. */
const LONGEST_COLOURED = 20_000;

interface Fence {
  readonly language: string;
  readonly code: string;
}

/** Reads the `<code class="language-…">` that markdown puts into `<pre>`. */
function readFence(children: ReactNode): Fence {
  if (!isValidElement<{ className?: string; children?: ReactNode }>(children)) return { language: "", code: "" };
  const { className, children: text } = children.props;
  return {
    language: /language-([\w+#-]+)/.exec(className ?? "")?.[1] ?? "",
    code: typeof text === "string" ? text.replace(/\n$/, "") : "",
  };
}

export function CodeBlock({ children }: { readonly children?: ReactNode }) {
  const { language, code } = readFence(children);
  const plain = <code>{code}</code>;
  return (
    <figure className="code-block">
      <figcaption>
        <span>{language === "" ? "text" : language}</span>
        <CopyButton text={code} label="Copy code" />
      </figcaption>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- wide code must be scrollable by keyboard */}
      <pre tabIndex={0}>
        {language === "" || code.length > LONGEST_COLOURED ? (
          plain
        ) : (
          <Suspense fallback={plain}>
            <HighlightedCode language={language} code={code} />
          </Suspense>
        )}
      </pre>
    </figure>
  );
}
