/** One sample of a metric. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** Reads Prometheus' text form, as far as names begin with `prefix`; lines that are not understood are left out. */
export function readSamples(text: string, prefix: string): Sample[] {
  return text.split("\n").flatMap((line) => {
    if (!line.startsWith(prefix)) return [];
    const [, name, labels = "", number = ""] = LINE.exec(line) ?? [];
    const value = numberOf(number);
    return name === undefined || value === undefined ? [] : [{ name, labels: readLabels(labels), value }];
  });
}

function readLabels(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const [, name = "", value = ""] of text.matchAll(LABEL)) {
    labels[name] = value.replace(/\\(.)/g, (_, letter: string) => (letter === "n" ? "\n" : letter));
  }
  return labels;
}

function numberOf(text: string): number | undefined {
  if (text === "+Inf") return Infinity;
  if (text === "-Inf") return -Infinity;
  const value = Number(text);
  return text === "" || Number.isNaN(value) ? undefined : value;
}

/** A histogram's cumulative counts by upper bound, ascending. */
export type Buckets = readonly (readonly [bound: number, count: number])[];

/** The sum of a metric over those samples that `wanted` lets through. */
export function sum(samples: readonly Sample[], name: string, wanted?: (sample: Sample) => boolean): number {
  return samples.reduce(
    (total, sample) => (sample.name === name && (wanted?.(sample) ?? true) ? total + sample.value : total),
    0,
  );
}

/** The buckets of a histogram, summed over those samples that `wanted` lets through. */
export function buckets(samples: readonly Sample[], name: string, wanted?: (sample: Sample) => boolean): Buckets {
  const counts = new Map<number, number>();
  for (const sample of samples) {
    if (sample.name !== `${name}_bucket` || !(wanted?.(sample) ?? true)) continue;
    const bound = numberOf(sample.labels.le ?? "");
    if (bound !== undefined) counts.set(bound, (counts.get(bound) ?? 0) + sample.value);
  }
  return [...counts].sort(([a], [b]) => a - b);
}

/**
 * A quantile of what was counted between two states of a histogram, by interpolation inside its bucket as
 * Prometheus does it; undefined when nothing was counted.
 *
 * @param before missing buckets count as 0.
 */
export function quantile(share: number, before: Buckets, after: Buckets): number | undefined {
  const earlier = new Map(before);
  const grown = after.map(([bound, count]) => [bound, count - (earlier.get(bound) ?? 0)] as const);
  const total = grown.at(-1)?.[1] ?? 0;
  if (total <= 0) return undefined;
  const rank = share * total;
  const index = grown.findIndex(([, count]) => count >= rank);
  const [bound, count] = grown[index] ?? [Infinity, total];
  const [lower, below] = grown[index - 1] ?? [0, 0];
  if (bound === Infinity) return lower;
  return count === below ? bound : lower + ((bound - lower) * (rank - below)) / (count - below);
}
