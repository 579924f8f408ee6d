import { useEffect, useState } from "react";
import { AdminClient } from "../../fleet/admin";
import { CacheBoard, type CacheChunk } from "../../fleet/cache";
import { Poller } from "../../fleet/poller";
import { authorization } from "../../openai/client";
import "../../styles/board.css";
import { useApp, useStore } from "../context";
import { BoardFailure } from "../fleet/BoardFailure";
import { CacheTiles } from "./CacheTiles";
import { Chunks } from "./Chunks";
import { HitSources } from "./HitSources";
import { Tiers } from "./Tiers";

interface Cache {
  readonly board: CacheBoard;
  readonly chunks: readonly CacheChunk[];
}

/** Of each worker: enough for the largest to be among them, few enough to ask for every second. */
const CHUNKS = 500;

function watch(client: AdminClient): Poller<Cache> {
  return new Poller<Cache>({ board: new CacheBoard(), chunks: [] }, async ({ board }, signal) => {
    const [overview, chunks] = await Promise.all([client.cache(signal), client.chunks(CHUNKS, signal)]);
    return { board: board.look(performance.now() / 1000, overview), chunks };
  });
}

/** The KV cache of all workers, live. Loaded when it is first opened. */
export default function CachePage({ onKey }: { readonly onKey: () => void }) {
  const { preferences } = useApp();
  const [poller] = useState(() => watch(new AdminClient(() => authorization(preferences.get().apiKey))));
  const { value, failure } = useStore(poller.state);
  const { board, chunks } = value;
  const { overview } = board;
  useEffect(() => {
    poller.start();
    return () => {
      poller.stop();
    };
  }, [poller]);
  return (
    <main className="board" id="main" tabIndex={-1}>
      {failure && <BoardFailure failure={failure} onKey={onKey} />}
      {overview?.errors.map((error) => (
        <p key={error} className="board__notice">
          {error}
        </p>
      ))}
      {overview && overview.workers.length > 0 && (
        <>
          <CacheTiles overview={overview} />
          <Tiers tiers={overview.tiers} />
          <HitSources tiers={overview.tiers} moments={board.moments} />
          <Chunks chunks={chunks} />
        </>
      )}
      {overview?.workers.length === 0 && overview.errors.length === 0 && (
        <div className="board__empty">
          <h2>No worker has a KV layer</h2>
          <p>
            Workers that Sluice starts have one unless it is switched off; others need Sluice&apos;s connector in their
            engine. Without it an engine keeps KV in its own memory alone, which the Fleet page shows as cache hits.
          </p>
        </div>
      )}
    </main>
  );
}
