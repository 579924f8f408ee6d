/** Figures as the board shows them; "–" where there is none. */

export const NONE = "–";

export function seconds(value: number | null): string {
  if (value === null) return NONE;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  return `${value.toFixed(value < 10 ? 2 : 1)} s`;
}

export function percent(value: number | null): string {
  return value === null ? NONE : `${Math.round(value * 100)} %`;
}

export function rate(value: number | null): string {
  if (value === null) return NONE;
  return value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
}
