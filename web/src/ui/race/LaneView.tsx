import { useLayoutEffect, useRef } from "react";
import type { Lane, RaceState } from "../../race/race";

interface LaneViewProps {
  readonly title: string;
  readonly hint: string;
  readonly lane: Lane;
  readonly stage: RaceState["stage"];
}

function figures({ text, stalls, waitedMs, longestMs }: Lane): string {
  if (text === "") return "–";
  if (stalls === 0) return "no stall yet";
  const word = stalls === 1 ? "stall" : "stalls";
  return `${stalls} ${word}, ${(waitedMs / 1000).toFixed(1)} s in all, longest ${(longestMs / 1000).toFixed(1)} s`;
}

export function LaneView({ title, hint, lane, stage }: LaneViewProps) {
  const box = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lane.text]);
  return (
    <section className="lane" aria-label={title} data-done={lane.done}>
      <header>
        <h2>{title}</h2>
        <small>{hint}</small>
      </header>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- the text must be scrollable by keyboard */}
      <div className="lane__text" ref={box} tabIndex={0} role="group" aria-label={`Text over ${title}`}>
        {lane.text}
        {lane.text === "" && (stage === "connecting" ? "Opening the data channel…" : "The answer comes here.")}
      </div>
      <p className="lane__figures">{figures(lane)}</p>
    </section>
  );
}
