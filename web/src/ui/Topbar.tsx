import { Menu, Moon, SlidersHorizontal, Sun } from "lucide-react";
import { readGate } from "../fleet/words";
import { useFleet, usePreferences } from "./context";
import { GateMark } from "./GateMark";
import { ModelPicker } from "./ModelPicker";
import { useShownTheme } from "./theme";

export function Topbar({ onMenu, onSettings }: { readonly onMenu: () => void; readonly onSettings: () => void }) {
  const [{ theme }, change] = usePreferences();
  const gate = readGate(useFleet().view);
  const next = useShownTheme(theme) === "dark" ? "light" : "dark";
  const position = gate.open ? "open" : gate.broken ? "broken" : "shut";
  return (
    <header className="topbar">
      <button type="button" className="icon-button topbar__menu" aria-label="Conversations" onClick={onMenu}>
        <Menu aria-hidden="true" />
      </button>
      <ModelPicker />
      <p className={`topbar__gate topbar__gate--${position}`} role="status">
        <GateMark position={position} />
        <span>{gate.words}</span>
      </p>
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
