import type { CacheTier } from "../../fleet/cache";
import { bytes, tierTitle } from "./tiers";

const whole = (value: number): string => value.toLocaleString("en");

/** Every tier: how full, and what it did since the workers started. */
export function Tiers({ tiers }: { readonly tiers: readonly CacheTier[] }) {
  return (
    <section aria-labelledby="tiers-title">
      <h2 id="tiers-title">Tiers, fastest first</h2>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a wide table must be scrollable by keyboard */}
      <div className="table-scroll" tabIndex={0} role="group" aria-label="Tiers">
        <table className="board__table">
          <thead>
            <tr>
              <th scope="col">Tier</th>
              <th scope="col">Fill</th>
              <th scope="col">Chunks</th>
              <th scope="col">Hits</th>
              <th scope="col">Loads</th>
              <th scope="col">Saves</th>
              <th scope="col">Evicted</th>
              <th scope="col">Given up</th>
              <th scope="col">Faults</th>
            </tr>
          </thead>
          <tbody>
            {tiers.map((tier) => (
              <tr key={tier.name}>
                <th scope="row">
                  {tierTitle(tier.name)}
                  {!tier.available && <small data-broken="true">does not answer and is left alone</small>}
                </th>
                <td>
                  <Fill tier={tier} />
                </td>
                <td>{whole(tier.chunks)}</td>
                <td>{whole(tier.hits)}</td>
                <td>{whole(tier.loads)}</td>
                <td>{whole(tier.saves)}</td>
                <td>{whole(tier.evictions)}</td>
                <td>{whole(tier.dropped)}</td>
                <td data-broken={tier.faults > 0}>{whole(tier.faults)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Fill({ tier: { name, usedBytes, capacityBytes } }: { readonly tier: CacheTier }) {
  if (capacityBytes === null) return <span>{bytes(usedBytes)}</span>;
  return (
    <span className="board__bar">
      <meter min={0} max={capacityBytes} value={usedBytes} aria-label={`Fill of ${tierTitle(name)}`} />
      {bytes(usedBytes)} of {bytes(capacityBytes)}
    </span>
  );
}
