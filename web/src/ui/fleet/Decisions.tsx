import type { Decision } from "../../fleet/admin";
import { NONE, seconds } from "./figures";

function ago(secondsAgo: number): string {
  if (secondsAgo < 60) return `${Math.round(secondsAgo)} s ago`;
  const minutes = Math.round(secondsAgo / 60);
  return minutes < 120 ? `${minutes} min ago` : `${Math.round(minutes / 60)} h ago`;
}

/** The latest routing decisions, newest first, and what came of them. */
export function Decisions({ decisions }: { readonly decisions: readonly Decision[] }) {
  if (decisions.length === 0) return null;
  return (
    <section aria-labelledby="decisions-title">
      <h2 id="decisions-title">Where the latest requests went</h2>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a wide table must be scrollable by keyboard */}
      <div className="table-scroll" tabIndex={0} role="group" aria-label="Where the latest requests went">
        <table className="board__table">
          <thead>
            <tr>
              <th scope="col">When</th>
              <th scope="col">Worker</th>
              <th scope="col">Policy and reason</th>
              <th scope="col">Expected</th>
              <th scope="col">First token</th>
              <th scope="col">Cached</th>
            </tr>
          </thead>
          <tbody>
            {decisions.map((decision, index) => (
              <tr key={index}>
                <td>{ago(decision.secondsAgo)}</td>
                <td>{decision.worker}</td>
                <td>
                  {decision.policy}
                  <small>{decision.reason}</small>
                </td>
                <td>{seconds(decision.estimate)}</td>
                <td>{seconds(decision.ttft)}</td>
                <td>{decision.promptTokens === 0 ? NONE : `${decision.cachedTokens} of ${decision.promptTokens}`}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
