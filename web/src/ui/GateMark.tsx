export type GatePosition = "open" | "shut" | "broken" | "flowing";

/** The sluice gate: its paddle is down while nothing can be asked, up when it can, and water runs with an answer. */
export function GateMark({ position, className = "" }: { readonly position: GatePosition; readonly className?: string }) {
  return (
    <svg className={`gate gate--${position} ${className}`} viewBox="0 0 32 32" aria-hidden="true">
      <path className="gate__water" d="M-6 25.500q2.500-2.400 5 0t5 0 5 0 5 0 5 0 5 0 5 0 5 0 5 0" />
      <rect className="gate__paddle" x="10.500" y="15" width="11" height="11" rx="1.200" />
      <path className="gate__frame" d="M8 6v21M24 6v21M5.500 7h21" />
      <path className="gate__rack" d="M16 3v12" />
    </svg>
  );
}
