import * as Popover from "@radix-ui/react-popover";
import * as Switch from "@radix-ui/react-switch";
import { CloudLightning, Rss, Zap } from "lucide-react";
import { useEffect, useId, useState } from "react";
import type { ChannelState } from "../eloquent";
import { LINKS } from "../network/links";
import { useApp, usePreferences, useStore } from "./context";
import { useLinkDown } from "./use-link-down";

/** How answers come here, and a switch that makes the network bad. */
export function ConnectionBadge() {
  const { channel } = useApp();
  const state = useStore(channel);
  const [{ transport, link }] = usePreferences();
  const down = useLinkDown(link !== null);
  const overChannel = transport === "auto" && state.kind === "open";
  const carrier = overChannel ? "Eloquent" : "SSE";
  const Icon = link !== null ? CloudLightning : overChannel ? Zap : Rss;
  const mood = link === null ? "good" : down ? "down" : "bad";
  return (
    <Popover.Root>
      <Popover.Trigger
        className={`badge badge--${mood}`}
        aria-label={`Connection: ${carrier}${link === null ? "" : ", bad network"}`}
      >
        <Icon aria-hidden="true" />
        <span>{link === null ? carrier : `${carrier}, bad network`}</span>
      </Popover.Trigger>
      <Popover.Content
        className="popover connection"
        align="end"
        sideOffset={8}
        collisionPadding={8}
        aria-label="Connection"
      >
        <TransportChoice state={state} />
        <BadNetwork down={down} />
        <Popover.Close asChild>
          <a href="#/race">See both transports side by side</a>
        </Popover.Close>
      </Popover.Content>
    </Popover.Root>
  );
}

function channelWords(state: ChannelState, roundTrip: number | undefined): string {
  switch (state.kind) {
    case "unknown":
      return "A data channel is opened beside the first answer.";
    case "unavailable":
      return state.reason;
    case "connecting":
      return "The data channel is being opened…";
    case "open":
      return `The data channel is open${roundTrip === undefined ? "" : `, ${Math.round(roundTrip)} ms away`}.`;
    case "closed":
      return `The data channel is closed. ${state.reason}`;
  }
}

function TransportChoice({ state }: { readonly state: ChannelState }) {
  const [{ transport }, change] = usePreferences();
  const roundTrip = useRoundTrip(state.kind === "open");
  return (
    <section aria-labelledby="connection-transport">
      <h2 id="connection-transport">How answers come</h2>
      <fieldset className="choices choices--rows">
        <legend className="visually-hidden">How answers come</legend>
        <Choice
          name="transport"
          title="Eloquent where it can be had"
          words="Begins as server-sent events and moves to a data channel, where a lost packet holds nothing back."
          checked={transport === "auto"}
          onChoose={() => {
            change({ transport: "auto" });
          }}
        />
        <Choice
          name="transport"
          title="Server-sent events alone"
          words="One TCP connection: what is lost is sent again before anything after it is shown."
          checked={transport === "sse"}
          onChoose={() => {
            change({ transport: "sse" });
          }}
        />
      </fieldset>
      {transport === "auto" && (
        <p className="connection__state" role="status">
          {channelWords(state, roundTrip)}
        </p>
      )}
    </section>
  );
}

function BadNetwork({ down }: { readonly down: boolean }) {
  const [{ link }, change] = usePreferences();
  const id = useId();
  return (
    <section aria-labelledby={id}>
      <div className="connection__switch">
        <h2 id={id}>Bad network</h2>
        <Switch.Root
          className="switch"
          aria-labelledby={id}
          checked={link !== null}
          onCheckedChange={(on) => {
            change({ link: on ? LINKS[0].name : null });
          }}
        >
          <Switch.Thumb className="switch__thumb" />
        </Switch.Root>
      </div>
      {link === null ? (
        <p className="connection__state">Feel what a bad network does to an answer, with either transport.</p>
      ) : (
        <>
          <fieldset className="choices choices--rows">
            <legend className="visually-hidden">Which bad network</legend>
            {LINKS.map(({ name, title, words }) => (
              <Choice
                key={name}
                name="link"
                title={title}
                words={words}
                checked={link === name}
                onChoose={() => {
                  change({ link: name });
                }}
              />
            ))}
          </fieldset>
          <p className="connection__state" data-down={down}>
            {down
              ? "The network is gone at this moment."
              : "The page pretends to be there. Every answer meets the same outages: regenerate one over the other transport."}
          </p>
        </>
      )}
    </section>
  );
}

interface ChoiceProps {
  readonly name: string;
  readonly title: string;
  readonly words: string;
  readonly checked: boolean;
  readonly onChoose: () => void;
}

function Choice({ name, title, words, checked, onChoose }: ChoiceProps) {
  return (
    <label className="choice">
      <input type="radio" name={name} checked={checked} onChange={onChoose} />
      <span>
        {title}
        <small>{words}</small>
      </span>
    </label>
  );
}

const ROUND_TRIP_EVERY_MS = 2_000;

/** Measured while the popover is open. */
function useRoundTrip(open: boolean): number | undefined {
  const { streams } = useApp();
  const [roundTrip, setRoundTrip] = useState<number>();
  useEffect(() => {
    if (!open) return;
    const measure = (): void => void streams.channelRoundTripMs().then(setRoundTrip);
    measure();
    const timer = setInterval(measure, ROUND_TRIP_EVERY_MS);
    return () => {
      clearInterval(timer);
    };
  }, [open, streams]);
  return open ? roundTrip : undefined;
}
