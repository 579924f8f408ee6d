import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { usePreferences } from "../context";
import { useShownTheme } from "../theme";

export interface Line<M> {
  readonly label: string;
  readonly of: (moment: M) => number | null;
}

interface ChartProps<M extends { readonly at: number }> {
  readonly title: string;
  /** At most as many as there are colours; the same array as long as it is the same chart. */
  readonly lines: readonly Line<M>[];
  readonly format: (value: number | null) => string;
  readonly least: number;
  /** `at` in seconds. */
  readonly moments: readonly M[];
}

const HEIGHT = 130;
const SPAN_S = 180;

/** A few lines over time. What a screen reader gets is the latest values. */
export function Chart<M extends { readonly at: number }>({ title, lines, format, least, moments }: ChartProps<M>) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const theme = useShownTheme(usePreferences()[0].theme);
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const created = new uPlot(optionsOf(element, lines, format, least), [[], ...lines.map(() => [])], element);
    plot.current = created;
    const observer = new ResizeObserver(() => {
      created.setSize({ width: element.clientWidth, height: HEIGHT });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      created.destroy();
    };
    // A canvas knows no style sheet: other colours need another plot.
  }, [lines, format, least, theme]);
  useEffect(() => {
    const now = moments.at(-1)?.at ?? 0;
    plot.current?.setData([
      moments.map(({ at }) => at - now),
      ...lines.map(({ of }) => moments.map((moment) => of(moment))),
    ]);
  }, [moments, lines, theme]);
  const latest = moments.at(-1);
  return (
    <figure className="chart">
      <figcaption>
        <span className="chart__title">{title}</span>
        {lines.map(({ label, of }, index) => (
          <span key={label} className={`chart__legend chart__legend--${index}`}>
            {label} <b>{format(latest ? of(latest) : null)}</b>
          </span>
        ))}
      </figcaption>
      <div ref={box} className="chart__plot" aria-hidden="true">
        {/* Where the colours of the lines are read from. */}
        {lines.map(({ label }, index) => (
          <i key={label} className={`chart__colour chart__colour--${index}`} />
        ))}
        <i className="chart__colour chart__colour--grid" />
        <i className="chart__colour chart__colour--text" />
      </div>
    </figure>
  );
}

function optionsOf(
  element: HTMLElement,
  lines: readonly unknown[],
  format: (value: number | null) => string,
  least: number,
): uPlot.Options {
  const colour = (name: string): string => {
    const probe = element.querySelector(`.chart__colour--${name}`);
    return probe ? getComputedStyle(probe).color : "currentColor";
  };
  const axis = {
    stroke: colour("text"),
    font: `11px ${getComputedStyle(element).fontFamily}`,
    grid: { stroke: colour("grid"), width: 1 },
    ticks: { show: false },
  };
  return {
    width: element.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, 16, 0, 0],
    scales: {
      x: { time: false, range: [-SPAN_S, 0] },
      y: { range: (_, __, highest) => [0, Math.max(least, (highest || 0) * 1.1)] },
    },
    axes: [
      {
        ...axis,
        size: 22,
        splits: [-180, -120, -60, 0],
        values: ["3 min ago", "2 min", "1 min", "now"],
      },
      { ...axis, size: 54, space: 34, values: (_, values) => values.map((value) => format(value)) },
    ],
    series: [
      {},
      ...lines.map((_, index) => ({
        stroke: colour(String(index)),
        width: 1.75,
        points: { show: false },
        spanGaps: true,
      })),
    ],
  };
}
