import { useMemo } from "react";
import type { CacheMoment, CacheTier } from "../../fleet/cache";
import { Chart, type Line } from "../fleet/Chart";
import { rate } from "../fleet/figures";
import { tierTitle } from "./tiers";

/** Colours that a chart has. */
const MOST_LINES = 5;

interface HitSourcesProps {
  readonly tiers: readonly CacheTier[];
  readonly moments: readonly CacheMoment[];
}

/** Where prompts found their KV in the last three minutes. */
export function HitSources({ tiers, moments }: HitSourcesProps) {
  const names = tiers
    .slice(0, MOST_LINES)
    .map(({ name }) => name)
    .join(" ");
  const lines = useMemo(
    () =>
      names
        .split(" ")
        .map((name): Line<CacheMoment> => ({ label: tierTitle(name), of: ({ hits }) => hits.get(name) ?? null })),
    [names],
  );
  return (
    <section className="charts" aria-label="The last three minutes">
      <Chart
        title="Prompt tokens a second, by the tier that had them"
        lines={lines}
        format={rate}
        least={10}
        moments={moments}
      />
    </section>
  );
}
