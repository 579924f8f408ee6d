import { useEffect, useState } from "react";
import { AdminClient } from "../../fleet/admin";
import { BoardWatch } from "../../fleet/board-watch";
import { authorization } from "../../openai/client";
import "../../styles/board.css";
import { useApp, useStore } from "../context";
import { FailureNotice } from "../FailureNotice";
import { Charts } from "./Charts";
import { Decisions } from "./Decisions";
import { Tiles } from "./Tiles";
import { Workers } from "./Workers";

/** The fleet behind the gateway, live. Loaded when it is first opened. */
export default function FleetPage({ onKey }: { readonly onKey: () => void }) {
  const { preferences } = useApp();
  const [watch] = useState(() => new BoardWatch(new AdminClient(() => authorization(preferences.get().apiKey))));
  const { board, workers, decisions, failure } = useStore(watch.state);
  useEffect(() => {
    watch.start();
    return () => {
      watch.stop();
    };
  }, [watch]);
  return (
    <main className="board" id="main" tabIndex={-1}>
      {failure && (
        <FailureNotice
          failure={failure.kind === "auth" ? { ...failure, ...FOR_ADMINISTRATORS } : failure}
          onKey={onKey}
        />
      )}
      {board.latest && (
        <>
          <Tiles workers={workers} moment={board.latest} />
          <Charts moments={board.moments} />
          <Workers
            workers={workers}
            board={board}
            onDrain={(id, on) => {
              void watch.drain(id, on);
            }}
          />
          <Decisions decisions={decisions} />
        </>
      )}
    </main>
  );
}

const FOR_ADMINISTRATORS = {
  title: "This page is for administrators",
  detail:
    "Enter a key with admin rights; `sluice key create --admin NAME` makes one. Without keys, open the page on the gateway's own machine.",
} as const;
