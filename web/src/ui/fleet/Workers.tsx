import type { FleetWorker } from "../../fleet/admin";
import type { Board } from "../../fleet/board";
import { isBroken, workerName } from "../../fleet/words";
import { GateMark } from "../GateMark";
import { NONE, percent, rate, seconds } from "./figures";

interface WorkersProps {
  readonly workers: readonly FleetWorker[];
  readonly board: Board;
  readonly onDrain: (workerId: string, on: boolean) => void;
}

/** Every worker with its last minute. */
export function Workers({ workers, board, onDrain }: WorkersProps) {
  const most = Math.max(1, ...workers.map(({ inFlight }) => inFlight));
  return (
    <section aria-labelledby="workers-title">
      <h2 id="workers-title">Workers</h2>
      {workers.length === 0 ? (
        <p className="board__empty">No worker has joined the gateway yet.</p>
      ) : (
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- a wide table must be scrollable by keyboard
        <div className="table-scroll" tabIndex={0} role="group" aria-label="Workers">
          <table className="board__table">
            <thead>
              <tr>
                <th scope="col">Worker</th>
                <th scope="col">State</th>
                <th scope="col">In flight</th>
                <th scope="col">Requests/s</th>
                <th scope="col">First token</th>
                <th scope="col">95 % in</th>
                <th scope="col">Cache hits</th>
                <th scope="col">Tokens/s</th>
                <th scope="col">
                  <span className="visually-hidden">What to do</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {workers.map((worker) => (
                <WorkerRow key={worker.id} worker={worker} board={board} most={most} onDrain={onDrain} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

interface WorkerRowProps {
  readonly worker: FleetWorker;
  readonly board: Board;
  /** Requests in flight at the busiest worker. */
  readonly most: number;
  readonly onDrain: (workerId: string, on: boolean) => void;
}

function WorkerRow({ worker, board, most, onDrain }: WorkerRowProps) {
  const { id, models, url, state, message, draining, inFlight } = worker;
  const figures = board.worker(id);
  const broken = isBroken(worker);
  return (
    <tr>
      <th scope="row">
        <span className="board__worker">
          <GateMark position={state === "ready" ? "open" : broken ? "broken" : "shut"} />
          <span>
            {id}
            <small>{models.join(", ") || url}</small>
          </span>
        </span>
      </th>
      <td data-broken={broken} title={message}>
        {state}
        {broken && message !== "" && <small>{message}</small>}
      </td>
      <td>
        <span className="board__bar">
          <meter min={0} max={most} value={inFlight} aria-label={`Requests in flight at ${workerName(id)}`} />
          {inFlight}
        </span>
      </td>
      <td>{rate(figures.requestsPerSecond)}</td>
      <td>{seconds(figures.ttftMedian)}</td>
      <td>{seconds(figures.ttftSlow)}</td>
      <td>{figures.hitRate === null ? NONE : percent(figures.hitRate)}</td>
      <td>{rate(figures.tokensPerSecond)}</td>
      <td>
        <button
          type="button"
          className="button button--small"
          title={draining ? "Send it requests again" : "Send it no new requests; running ones end as usual"}
          onClick={() => {
            onDrain(id, !draining);
          }}
        >
          {draining ? "Use again" : "Drain"}
        </button>
      </td>
    </tr>
  );
}
