import type { CacheOverview } from "../../fleet/cache";
import { bytes } from "./tiers";

/** The figures of the moment. */
export function CacheTiles({ overview }: { readonly overview: CacheOverview }) {
  const { workers, tiers, chunkTokens, pinnedChunks, heldChunks, tenants } = overview;
  const used = tiers.reduce((sum, { usedBytes }) => sum + usedBytes, 0);
  const most = Math.max(0, ...tiers.map(({ chunks }) => chunks));
  const tiles: readonly (readonly [label: string, value: string, hint: string])[] = [
    ["KV layers", String(workers.length), "one beside each worker"],
    ["Kept", bytes(used), "in all tiers"],
    ["Chunks", most.toLocaleString("en"), `of ${chunkTokens} tokens`],
    ["In use", String(heldChunks), "held by requests"],
    ["Pinned", String(pinnedChunks), "kept on purpose"],
    ["Tenants", String(tenants.size), "with KV in memory"],
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
