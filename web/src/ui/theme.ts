import { useSyncExternalStore } from "react";
import type { Theme } from "../storage/preferences";

const DARK = "(prefers-color-scheme: dark)";

/** Colours follow `color-scheme`; the attribute overrides what the system prefers. */
export function applyTheme(theme: Theme): void {
  document.documentElement.dataset.theme = theme;
}

function subscribeToSystem(listener: () => void): () => void {
  const query = matchMedia(DARK);
  query.addEventListener("change", listener);
  return () => {
    query.removeEventListener("change", listener);
  };
}

/** What the colours are now, whichever way they were chosen. */
export function useShownTheme(theme: Theme): "light" | "dark" {
  const systemIsDark = useSyncExternalStore(subscribeToSystem, () => matchMedia(DARK).matches);
  if (theme !== "system") return theme;
  return systemIsDark ? "dark" : "light";
}
