import type { CacheChunk } from "../../fleet/cache";
import { bytes, tierTitle } from "./tiers";

const SHOWN = 15;
const KEY_DIGITS = 16;
/** A key begins with its namespace, which most chunks have in common. */
const NAMESPACE_DIGITS = 32;

/** The largest entries. */
export function Chunks({ chunks }: { readonly chunks: readonly CacheChunk[] }) {
  if (chunks.length === 0) return null;
  return (
    <section aria-labelledby="chunks-title">
      <h2 id="chunks-title">Largest entries</h2>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a wide table must be scrollable by keyboard */}
      <div className="table-scroll" tabIndex={0} role="group" aria-label="Largest entries">
        <table className="board__table">
          <thead>
            <tr>
              <th scope="col">Chunk</th>
              <th scope="col">Worker</th>
              <th scope="col">Kept in</th>
              <th scope="col">Size</th>
              <th scope="col">From token</th>
              <th scope="col">Tenant</th>
            </tr>
          </thead>
          <tbody>
            {chunks.slice(0, SHOWN).map(({ worker, key, tiers, bytes: size, tenant, position, pinned }) => (
              <tr key={`${worker} ${key}`}>
                <th scope="row">
                  <code title={key}>{key.slice(NAMESPACE_DIGITS).slice(0, KEY_DIGITS)}</code>
                  {pinned && <small>pinned</small>}
                </th>
                <td>{worker}</td>
                <td>{tiers.map(([tier]) => tierTitle(tier)).join(", ")}</td>
                <td>{bytes(size)}</td>
                <td>{position.toLocaleString("en")}</td>
                <td>{tenant === "" ? "–" : tenant}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
