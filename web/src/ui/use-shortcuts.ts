import { useEffect, useEffectEvent } from "react";
import { type Command, commandOf } from "./shortcuts";

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches("input, textarea, select");
}

/** Calls `run` for every shortcut that is pressed while no dialog is open. */
export function useShortcuts(run: (command: Command) => void): void {
  const onKeyDown = useEffectEvent((event: KeyboardEvent) => {
    if (event.defaultPrevented || event.isComposing || document.querySelector("dialog[open]")) return;
    const command = commandOf(event, isTyping(event.target));
    if (!command) return;
    event.preventDefault();
    run(command);
  });
  useEffect(() => {
    document.addEventListener("keydown", onKeyDown);
    return () => {
      document.removeEventListener("keydown", onKeyDown);
    };
  }, []);
}
