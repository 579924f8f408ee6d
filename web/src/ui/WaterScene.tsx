/** Waves of 40 units' length, wide enough to drift by one length inside of the clip. */
const WAVES = "q10-5 20 0" + "t20 0".repeat(9);

interface ReachProps {
  readonly name: "upstream" | "downstream";
  /** Left edge of the reach. */
  readonly x: number;
  /** Water level while the gate is shut. */
  readonly y: number;
}

function Reach({ name, x, y }: ReachProps) {
  const clip = `scene-${name}`;
  const from = x - 40;
  return (
    <g clipPath={`url(#${clip})`}>
      <clipPath id={clip}>
        <rect x={x} y="0" width="136" height="108" />
      </clipPath>
      <g className={`scene__reach scene__reach--${name}`}>
        <g className="scene__drift">
          <path className="scene__deep" d={`M${from} ${y}${WAVES}V140H${from}Z`} />
          <path className="scene__surface" d={`M${from} ${y}${WAVES}`} />
        </g>
        <path className="scene__line" d={`M${from} ${y + 13}${WAVES}`} />
        <path className="scene__line" d={`M${from + 20} ${y + 26}${WAVES}`} />
      </g>
    </g>
  );
}

/** A sluice between two water levels: upstream stands high while it is shut, and evens out when it opens. */
export function WaterScene({ open }: { readonly open: boolean }) {
  return (
    <svg className={`scene ${open ? "scene--open" : ""}`} viewBox="0 0 320 116" aria-hidden="true">
      <Reach name="upstream" x={0} y={56} />
      <Reach name="downstream" x={184} y={84} />
      <rect className="scene__sill" x="136" y="92" width="48" height="16" />
      <path className="scene__jet" d="M138 99h48M142 104h44" />
      <g className="scene__paddle">
        <path className="scene__rack" d="M160 4v44" />
        <rect x="142" y="46" width="36" height="62" rx="1.500" />
        <path className="scene__plank" d="M142 61.500h36M142 77h36M142 92.500h36" />
      </g>
      <rect className="scene__pier" x="133" y="24" width="9" height="86" rx="1.500" />
      <rect className="scene__pier" x="178" y="24" width="9" height="86" rx="1.500" />
      <rect className="scene__pier" x="124" y="20" width="72" height="8" rx="2" />
      <path className="scene__bed" d="M0 109h320" />
    </svg>
  );
}
