import { isReady, type WorkerHealth } from "../fleet/health";
import { isBroken, readGate, workerWords } from "../fleet/words";
import { useFleet } from "./context";
import { GateMark, type GatePosition } from "./GateMark";

function positionOf(worker: WorkerHealth): GatePosition {
  if (isReady(worker)) return "open";
  return isBroken(worker) ? "broken" : "shut";
}

/** The workers behind the gateway, each as a gate. */
export function FleetList() {
  const { view } = useFleet();
  if (view.kind !== "known" || view.health.workers.length === 0) {
    return <p className="fleet fleet--alone">{readGate(view).words}</p>;
  }
  return (
    <ul className="fleet" aria-label="Workers">
      {view.health.workers.map((worker) => (
        <li key={worker.id} className="fleet__worker" title={worker.message}>
          <GateMark position={positionOf(worker)} />
          {workerWords(worker)}
        </li>
      ))}
    </ul>
  );
}
