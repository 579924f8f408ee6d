const LONGEST = 60;

/**
 * A title for a conversation, from its first question.
 *
 * A pasted document usually comes with the question as its last line; that line names the conversation
 * better than the document's beginning.
 */
export function titleFrom(question: string): string {
  const lines = question.split(/\r?\n/).map(plain).filter(Boolean);
  const last = lines.at(-1) ?? "";
  const line = lines.length > 1 && last.endsWith("?") ? last : (lines[0] ?? "");
  if (line.length <= LONGEST) return line === "" ? "New conversation" : line;
  const cut = line.slice(0, LONGEST);
  const space = cut.lastIndexOf(" ");
  return `${space > LONGEST / 2 ? cut.slice(0, space) : cut}…`;
}

function plain(line: string): string {
  return line.replace(/^[\s#>*-]+/, "").trim();
}
