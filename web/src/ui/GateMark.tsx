export type GatePosition = "open" | "shut" | "broken";

/** The sluice gate: its paddle is down while nothing can be asked, and up with water under it when it can. */
export function GateMark({ position }: { readonly position: GatePosition }) {
  return (
    <svg className={`gate gate--${position}`} viewBox="0 0 32 32" aria-hidden="true">
      <path className="gate__rack" d="M16 2.500v12" />
      <path
        className="gate__water"
        d="M-1 26q2.125-2.500 4.250 0t4.250 0 4.250 0 4.250 0 4.250 0 4.250 0 4.250 0 4.250 0"
      />
      <g className="gate__paddle">
        <rect x="9.500" y="13.500" width="13" height="13.500" rx="1" />
        <path className="gate__plank" d="M9.500 18h13M9.500 22.500h13" />
      </g>
      <path className="gate__frame" d="M7 5.500V28M25 5.500V28M4.500 6.500h23" />
    </svg>
  );
}
