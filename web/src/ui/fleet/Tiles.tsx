import type { FleetWorker } from "../../fleet/admin";
import type { Moment } from "../../fleet/board";
import { percent, rate, seconds } from "./figures";

/** The figures of the moment. */
export function Tiles({ workers, moment }: { readonly workers: readonly FleetWorker[]; readonly moment: Moment }) {
  const ready = workers.filter(({ state }) => state === "ready").length;
  const tiles: readonly (readonly [label: string, value: string, hint: string])[] = [
    ["Workers ready", `${ready} of ${workers.length}`, ""],
    ["In flight", String(moment.inFlight), "requests"],
    ["Queue", String(moment.queued), "waiting for a place"],
    ["First token", seconds(moment.ttftMedian), `95 % in ${seconds(moment.ttftSlow)}`],
    ["Tokens", rate(moment.tokensPerSecond), "a second"],
    ["Cache hits", percent(moment.hitRate), "of prompt tokens"],
  ];
  return (
    <dl className="tiles" aria-label="Now">
      {tiles.map(([label, value, hint]) => (
        <div key={label} className="tile">
          <dt>{label}</dt>
          <dd>
            <strong>{value}</strong> <small>{hint}</small>
          </dd>
        </div>
      ))}
    </dl>
  );
}
