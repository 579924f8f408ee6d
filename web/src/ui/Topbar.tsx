import { Menu, Moon, SlidersHorizontal, Sun } from "lucide-react";
import { readGate } from "../fleet/words";
import type { View } from "../app/address";
import { ConnectionBadge } from "./ConnectionBadge";
import { useFleet, usePreferences } from "./context";
import { GateMark } from "./GateMark";
import { ModelPicker } from "./ModelPicker";
import { useShownTheme } from "./theme";

const TITLES = { fleet: "Fleet", cache: "Cache", race: "Side by side" } as const;

interface TopbarProps {
  readonly view: View;
  readonly onMenu: () => void;
  readonly onSettings: () => void;
}

export function Topbar({ view, onMenu, onSettings }: TopbarProps) {
  const [{ theme }, change] = usePreferences();
  const gate = readGate(useFleet().view);
  const next = useShownTheme(theme) === "dark" ? "light" : "dark";
  const position = gate.open ? "open" : gate.broken ? "broken" : "shut";
  return (
    <header className="topbar">
      <button type="button" className="icon-button topbar__menu" aria-label="Conversations" onClick={onMenu}>
        <Menu aria-hidden="true" />
      </button>
      {(view === "chat" || view === "race") && <ModelPicker />}
      {view !== "chat" && <h1 className="topbar__title">{TITLES[view]}</h1>}
      <p className={`topbar__gate topbar__gate--${position}`} role="status">
        <GateMark position={position} />
        <span>{gate.words}</span>
      </p>
      {view === "chat" && <ConnectionBadge />}
      <button
        type="button"
        className="icon-button"
        aria-label={`Use ${next} colours`}
        onClick={() => {
          change({ theme: next });
        }}
      >
        {next === "dark" ? <Moon aria-hidden="true" /> : <Sun aria-hidden="true" />}
      </button>
      <button type="button" className="icon-button" aria-label="Settings" onClick={onSettings}>
        <SlidersHorizontal aria-hidden="true" />
      </button>
    </header>
  );
}
