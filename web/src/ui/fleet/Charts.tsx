import type { Moment } from "../../fleet/board";
import { Chart, type Line } from "./Chart";
import { percent, rate, seconds } from "./figures";

interface ChartSpec {
  readonly title: string;
  readonly format: (value: number | null) => string;
  readonly lines: readonly Line<Moment>[];
  /** The least that the scale reaches. */
  readonly least: number;
}

const count = (value: number | null): string => (value === null ? "–" : String(Math.round(value)));

const CHARTS: readonly ChartSpec[] = [
  {
    title: "Time to first token",
    format: seconds,
    least: 0.1,
    lines: [
      { label: "median", of: ({ ttftMedian }) => ttftMedian },
      { label: "95 % in", of: ({ ttftSlow }) => ttftSlow },
    ],
  },
  {
    title: "Requests",
    format: count,
    least: 4,
    lines: [
      { label: "in flight", of: ({ inFlight }) => inFlight },
      { label: "waiting", of: ({ queued }) => queued },
    ],
  },
  {
    title: "Tokens a second",
    format: rate,
    least: 20,
    lines: [{ label: "generated", of: ({ tokensPerSecond }) => tokensPerSecond }],
  },
  {
    title: "Prompt tokens from the prefix cache",
    format: percent,
    least: 1,
    lines: [{ label: "hit rate", of: ({ hitRate }) => hitRate }],
  },
];

/** The last three minutes. */
export function Charts({ moments }: { readonly moments: readonly Moment[] }) {
  return (
    <section className="charts" aria-label="The last three minutes">
      {CHARTS.map((spec) => (
        <Chart key={spec.title} {...spec} moments={moments} />
      ))}
    </section>
  );
}
