import { useEffect, useState } from "react";
import { AdminClient, type Decision, type FleetWorker } from "../../fleet/admin";
import { Board } from "../../fleet/board";
import { Poller } from "../../fleet/poller";
import { authorization } from "../../openai/client";
import "../../styles/board.css";
import { useApp, useStore } from "../context";
import { BoardFailure } from "./BoardFailure";
import { Charts } from "./Charts";
import { Decisions } from "./Decisions";
import { Tiles } from "./Tiles";
import { Workers } from "./Workers";

interface Fleet {
  readonly board: Board;
  readonly workers: readonly FleetWorker[];
  readonly decisions: readonly Decision[];
}

const DECISIONS = 12;

function watch(client: AdminClient): Poller<Fleet> {
  return new Poller<Fleet>({ board: new Board(), workers: [], decisions: [] }, async ({ board }, signal) => {
    const [workers, decisions, samples] = await Promise.all([
      client.workers(signal),
      client.decisions(DECISIONS, signal),
      client.metrics(signal),
    ]);
    return { board: board.look(performance.now() / 1000, samples), workers, decisions };
  });
}

/** The fleet behind the gateway, live. Loaded when it is first opened. */
export default function FleetPage({ onKey }: { readonly onKey: () => void }) {
  const { preferences } = useApp();
  const [client] = useState(() => new AdminClient(() => authorization(preferences.get().apiKey)));
  const [poller] = useState(() => watch(client));
  const { value, failure } = useStore(poller.state);
  const { board, workers, decisions } = value;
  useEffect(() => {
    poller.start();
    return () => {
      poller.stop();
    };
  }, [poller]);
  return (
    <main className="board" id="main" tabIndex={-1}>
      {failure && <BoardFailure failure={failure} onKey={onKey} />}
      {board.latest && (
        <>
          <Tiles workers={workers} moment={board.latest} />
          <Charts moments={board.moments} />
          <Workers
            workers={workers}
            board={board}
            onDrain={(id, on) => {
              void poller.after(() => client.drain(id, on));
            }}
          />
          <Decisions decisions={decisions} />
        </>
      )}
    </main>
  );
}
