import { Flag, Square } from "lucide-react";
import { useEffect, useState } from "react";
import { type LinkName, LINKS } from "../../network/links";
import { authorization } from "../../openai/client";
import { type Lane, Race } from "../../race/race";
import "../../styles/board.css";
import "../../styles/race.css";
import { useApp, useModel, useStore } from "../context";
import { FailureNotice } from "../FailureNotice";
import { LaneView } from "./LaneView";
import { Timeline } from "./Timeline";

const QUESTION = "Tell me a long story about a gate keeper, his raven and the river.";

/** One answer over both transports at once, on the same bad network. Loaded when it is first opened. */
export default function RacePage({ onKey }: { readonly onKey: () => void }) {
  const { preferences } = useApp();
  const model = useModel();
  const [race] = useState(() => new Race(() => authorization(preferences.get().apiKey)));
  const [link, setLink] = useState<LinkName>("train");
  const { stage, sse, datachannel, slots, failure } = useStore(race.state);
  useEffect(
    () => () => {
      race.stop();
    },
    [race],
  );
  const running = stage === "connecting" || stage === "running";
  return (
    <main className="board race" id="main" tabIndex={-1}>
      <p className="race__lead">
        One answer, read twice at the same moment through the same bad network: once over a single TCP connection, once
        over a data channel where every packet carries what may have been lost before.
      </p>
      <form
        className="race__form"
        onSubmit={(event) => {
          event.preventDefault();
          if (running) race.stop();
          else void race.start(model, QUESTION, link);
        }}
      >
        <fieldset className="race__links" disabled={running}>
          <legend className="visually-hidden">Network</legend>
          {LINKS.map(({ name, title, words }) => (
            <label key={name} className="race__link" data-chosen={name === link}>
              <input
                type="radio"
                name="race-link"
                checked={name === link}
                onChange={() => {
                  setLink(name);
                }}
              />
              <span>
                {title}
                <small>{words}</small>
              </span>
            </label>
          ))}
        </fieldset>
        <button type="submit" className="button button--primary" disabled={model === ""}>
          {running ? <Square aria-hidden="true" /> : <Flag aria-hidden="true" />}
          {running ? "Stop" : stage === "over" ? "Once more" : "Start"}
        </button>
      </form>
      {failure && <FailureNotice failure={failure} onKey={onKey} />}
      <Timeline slots={slots} />
      <div className="race__lanes">
        <LaneView title="Server-sent events" hint="one TCP connection" lane={sse} stage={stage} />
        <LaneView title="Eloquent" hint="a WebRTC data channel" lane={datachannel} stage={stage} />
      </div>
      <p className="race__verdict" role="status">
        {stage === "over" && sse.done && datachannel.done && verdict(sse, datachannel)}
      </p>
    </main>
  );
}

function verdict(sse: Lane, datachannel: Lane): string {
  const same = sse.text === datachannel.text ? "The text is the same." : "The texts differ: that is a fault.";
  const saved = (sse.waitedMs - datachannel.waitedMs) / 1000;
  if (saved < 0.2) return `This time there was little between them. ${same}`;
  return `Over the data channel the reader waited ${saved.toFixed(1)} s less. ${same}`;
}
