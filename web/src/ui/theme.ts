import type { Theme } from "../storage/preferences";

/** Colours follow `color-scheme`; the attribute overrides what the system prefers. */
export function applyTheme(theme: Theme): void {
  document.documentElement.dataset.theme = theme;
}

/** What the colours are now, whichever way they were chosen. */
export function shownTheme(theme: Theme): "light" | "dark" {
  if (theme !== "system") return theme;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}
