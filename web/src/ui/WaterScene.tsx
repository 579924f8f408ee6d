/** A sluice between two water levels: upstream stands high while it is shut, and evens out when it opens. */
export function WaterScene({ open }: { readonly open: boolean }) {
  return (
    <svg className={`scene ${open ? "scene--open" : ""}`} viewBox="0 0 320 120" aria-hidden="true">
      <g className="scene__upstream">
        <path className="scene__deep" d="M0 58q10-5 20 0t20 0 20 0 20 0 20 0 20 0 20 0V108H0Z" />
        <path className="scene__line" d="M0 70q10-4 20 0t20 0 20 0 20 0 20 0 20 0 20 0" />
        <path className="scene__line" d="M0 84q10-4 20 0t20 0 20 0 20 0 20 0 20 0 20 0" />
      </g>
      <g className="scene__downstream">
        <path className="scene__deep" d="M180 82q10-5 20 0t20 0 20 0 20 0 20 0 20 0 20 0V108H180Z" />
        <path className="scene__line" d="M180 95q10-4 20 0t20 0 20 0 20 0 20 0 20 0 20 0" />
      </g>
      <path className="scene__jet" d="M140 100h60" />
      <rect className="scene__pier" x="132" y="22" width="9" height="88" rx="2" />
      <rect className="scene__pier" x="179" y="22" width="9" height="88" rx="2" />
      <rect className="scene__beam" x="122" y="18" width="76" height="8" rx="2" />
      <g className="scene__paddle">
        <path className="scene__rack" d="M160 2v50" />
        <rect x="142" y="46" width="36" height="60" rx="2" />
        <path className="scene__plank" d="M142 61h36M142 76h36M142 91h36" />
      </g>
      <path className="scene__bed" d="M0 109h320" />
    </svg>
  );
}
