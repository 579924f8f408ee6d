import { memo, type ReactNode } from "react";
import ReactMarkdown, { type Components } from "react-markdown";
import remarkBreaks from "remark-breaks";
import remarkGfm from "remark-gfm";
import { splitBlocks } from "../chat/markdown-blocks";
import { CodeBlock } from "./CodeBlock";

interface MarkdownProps {
  readonly text: string;
  readonly live?: boolean;
}

const PLUGINS = [remarkGfm, remarkBreaks];

const COMPONENTS: Components = {
  pre: ({ children }) => <CodeBlock>{children}</CodeBlock>,
  a: ({ href, children }) => (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow">
      {children}
    </a>
  ),
  // A picture named by a model is a request to a stranger's server, with whatever the model put in the address.
  img: ({ src, alt }) => <RemotePicture src={typeof src === "string" ? src : ""}>{alt}</RemotePicture>,
  table: ({ children }) => (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a wide table must be scrollable by keyboard
    <div className="table-scroll" tabIndex={0} role="group" aria-label="Table">
      <table>{children}</table>
    </div>
  ),
};

function RemotePicture({ src, children }: { readonly src: string; readonly children: ReactNode }) {
  return (
    <a className="remote-picture" href={src} target="_blank" rel="noopener noreferrer nofollow">
      {children ?? "Picture"}
    </a>
  );
}

const Block = memo(function Block({ text }: { readonly text: string }) {
  return (
    <ReactMarkdown remarkPlugins={PLUGINS} components={COMPONENTS}>
      {text}
    </ReactMarkdown>
  );
});

/**
 * A model's markdown. It is built as elements, never as HTML: tags in the text are shown as text.
 *
 * While it is `live`, i.e. grows, it is rendered in pieces of which only the last changes; once whole, in one
 * piece, because a reference may point from one end of the text to the other.
 */
const Markdown = memo(function Markdown({ text, live = false }: MarkdownProps) {
  const blocks = live ? splitBlocks(text) : [text];
  return (
    <div className="markdown" data-live={live}>
      {blocks.map((block, index) => (
        <Block key={index} text={block} />
      ))}
    </div>
  );
});

export default Markdown;
