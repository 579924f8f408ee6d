import { type Slot, SLOT_MS } from "../../race/race";

/** Slots in view. */
const SHOWN = 200;

const ROWS: readonly (readonly [title: string, on: (slot: Slot) => boolean, className: string])[] = [
  ["Network", ({ up }) => !up, "timeline__down"],
  ["SSE", ({ sse }) => sse, "timeline__on"],
  ["Eloquent", ({ datachannel }) => datachannel, "timeline__on"],
];

/** When the network was gone, and when text came: gaps are what a reader feels. */
export function Timeline({ slots }: { readonly slots: readonly Slot[] }) {
  const shown = slots.slice(-SHOWN);
  return (
    <figure className="timeline">
      <figcaption>
        The last {(SHOWN * SLOT_MS) / 1000} seconds: when the network was gone, and when text came
      </figcaption>
      <svg viewBox={`0 0 ${SHOWN} 54`} preserveAspectRatio="none" aria-hidden="true">
        {ROWS.map(([title, on, className], row) => (
          <g key={title}>
            <rect className="timeline__track" x="0" y={row * 18 + 3} width={SHOWN} height="12" />
            <path className={className} d={pathOf(shown, on, row * 18 + 3)} />
          </g>
        ))}
      </svg>
      <ul aria-hidden="true">
        {ROWS.map(([title]) => (
          <li key={title}>{title}</li>
        ))}
      </ul>
    </figure>
  );
}

/** One rectangle for every stretch of slots that are on; the newest slot is at the right end. */
function pathOf(slots: readonly Slot[], on: (slot: Slot) => boolean, y: number): string {
  const offset = SHOWN - slots.length;
  let path = "";
  let from: number | undefined;
  for (let index = 0; index <= slots.length; index++) {
    const slot = slots[index];
    const isOn = slot !== undefined && on(slot);
    if (isOn) from ??= index;
    else if (from !== undefined) {
      path += `M${offset + from} ${y}h${index - from}v12h${from - index}z`;
      from = undefined;
    }
  }
  return path;
}
