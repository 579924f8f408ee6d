/** What the tiers of the KV cache are called on the page. */
const TITLES: Readonly<Record<string, string>> = {
  memory: "Memory",
  pack: "Packed memory",
  file: "Disk",
  valkey: "Valkey",
  object: "S3",
};

export function tierTitle(name: string): string {
  return TITLES[name] ?? name;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** An amount in the largest unit that leaves at least 1. */
export function bytes(amount: number): string {
  let value = amount;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit] ?? ""}`;
}
