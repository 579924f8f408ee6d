import { renderToStaticMarkup } from "react-dom/server";
import { describe, expect, it } from "vitest";
import Markdown from "../src/ui/Markdown";

function html(text: string): string {
  return renderToStaticMarkup(<Markdown text={text} />);
}

describe("hostile markdown", () => {
  it.each([
    "<script>alert(1)</script>",
    'text <img src=x onerror="alert(1)"> text',
    "<svg><script>alert(1)</script></svg>",
    '<iframe src="https://example.org"></iframe>',
    '<a href="javascript:alert(1)">x</a>',
    "<style>body{display:none}</style>",
    '<div onclick="alert(1)">x</div>',
    "`<b>`<img src=x onerror=alert(1)>",
  ])("shows the tags of %j as text", (text) => {
    const shown = html(text);
    expect(shown).not.toMatch(/<(script|img|svg|iframe|style|b)\b/i);
    expect(shown).not.toMatch(/<[^>]+\son\w+=/i);
    expect(shown).toContain("&lt;");
  });

  it.each([
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:x)",
    "<javascript:alert(1)>",
    "[x][1]\n\n[1]: javascript:alert(1)",
    "![x](javascript:alert(1))",
  ])("gives %j no target that runs", (text) => {
    const targets = [...html(text).matchAll(/href="([^"]*)"/g)].map(([, target]) => target);
    expect(targets.filter((target) => target !== "")).toEqual([]);
  });

  it("fetches no picture: it becomes a link", () => {
    const shown = html("![a chart](https://example.org/p.png?secret=1)");
    expect(shown).not.toContain("<img");
    expect(shown).toContain('href="https://example.org/p.png?secret=1"');
    expect(shown).toContain("a chart");
  });

  it("opens links apart from the page", () => {
    expect(html("[x](https://example.org)")).toContain('target="_blank" rel="noopener noreferrer nofollow"');
  });
});

describe("markdown", () => {
  it("renders tables, lists, emphasis and line breaks", () => {
    expect(html("a **b**\nc\n\n- d\n\n| e |\n| - |\n| f |")).toMatch(
      /a <strong>b<\/strong><br\/?>\s*c[\s\S]*<li>d<\/li>[\s\S]*<td>f<\/td>/,
    );
  });

  it("gives a fenced block its language, its text unchanged and a copy button", () => {
    const shown = html("```python\nif a < b:\n    pass\n```");
    expect(shown).toContain("<span>python</span>");
    expect(shown).toContain("if a &lt; b:\n    pass</code>");
    expect(shown).toContain('aria-label="Copy code"');
  });

  it.each(["```python\nhalf a bl", "| a | b", "**bold", "[link](http", "1. one\n2."])(
    "renders the unfinished %j of a stream",
    (text) => {
      expect(html(text)).toContain("markdown");
    },
  );
});
