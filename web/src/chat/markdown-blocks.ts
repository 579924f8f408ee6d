const FENCE = /^ {0,3}(`{3,}|~{3,})/;

/**
 * A line that may belong to what stands above the blank line before it: an item of a list, indented text, the
 * target of a link; also the mere beginning of one, since the line may still grow.
 */
const CONTINUES = /^(\s|[-*+](\s|$)|\d{1,9}([.)](\s|$)|$)|\[)/;

/**
 * Cuts growing markdown at blank lines into pieces that can be rendered apart.
 *
 * While an answer streams only its last piece changes, so the others need not be parsed again at every token.
 * Code in fences and lists stay whole. Joined by line breaks the pieces are the text again.
 */
export function splitBlocks(markdown: string): string[] {
  const blocks: string[][] = [[]];
  let fence: string | undefined;
  let blank = false;
  for (const line of markdown.split("\n")) {
    if (fence === undefined && line.trim() === "") {
      blank = true;
      blocks.at(-1)?.push(line);
      continue;
    }
    if (blank && fence === undefined && !CONTINUES.test(line)) blocks.push([]);
    blank = false;
    blocks.at(-1)?.push(line);
    fence = fenceAfter(line, fence);
  }
  return blocks.map((lines) => lines.join("\n"));
}

/** The fence that is open after `line`, given the one open before it. */
function fenceAfter(line: string, open: string | undefined): string | undefined {
  const mark = FENCE.exec(line)?.[1];
  if (mark === undefined) return open;
  if (open === undefined) return mark;
  const closes = mark.startsWith(open) && line.trim() === mark;
  return closes ? undefined : open;
}
