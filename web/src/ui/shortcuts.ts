export type Command = "search" | "new" | "settings" | "help" | "message" | "copy" | "edit";

const IS_APPLE = /Mac|iP(hone|ad|od)/.test(navigator.userAgent);
const CONTROL = IS_APPLE ? "⌘" : "Ctrl";
const SHIFT = IS_APPLE ? "⇧" : "Shift";

/** All shortcuts, as the help shows them. */
export const SHORTCUTS: readonly { readonly keys: readonly string[]; readonly words: string }[] = [
  { keys: ["Enter"], words: "Send the question" },
  { keys: [SHIFT, "Enter"], words: "Start a new line" },
  { keys: ["Esc"], words: "Stop the answer" },
  { keys: ["↑"], words: "Recall the last question, in an empty box" },
  { keys: ["/"], words: "Go to the message box" },
  { keys: [CONTROL, "K"], words: "Search conversations" },
  { keys: [CONTROL, SHIFT, "O"], words: "New conversation" },
  { keys: [CONTROL, SHIFT, "Y"], words: "Copy the last answer" },
  { keys: [CONTROL, SHIFT, "E"], words: "Edit the last question" },
  { keys: [CONTROL, ","], words: "Settings" },
  { keys: ["?"], words: "This list" },
];

/** What a key press asks for; `typing`: it goes into a text, so that a plain key is a letter. */
export function commandOf(event: KeyboardEvent, typing: boolean): Command | undefined {
  const control = IS_APPLE ? event.metaKey : event.ctrlKey;
  const key = event.key.toLowerCase();
  if (event.altKey) return undefined;
  if (!control) {
    if (typing) return undefined;
    return key === "?" ? "help" : key === "/" ? "message" : undefined;
  }
  if (event.shiftKey) return key === "o" ? "new" : key === "y" ? "copy" : key === "e" ? "edit" : undefined;
  return key === "k" ? "search" : key === "," ? "settings" : key === "/" ? "help" : undefined;
}
