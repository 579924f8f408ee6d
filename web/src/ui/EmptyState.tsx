import { readGate } from "../fleet/words";
import { useFleet } from "./context";
import { EXAMPLES } from "./examples";
import { WaterScene } from "./WaterScene";

export function EmptyState({ onExample }: { readonly onExample: (prompt: string) => void }) {
  const { open, broken } = readGate(useFleet().view);
  const headline = open ? "The gate is open." : broken ? "The gate is shut." : "The gate is opening.";
  return (
    <div className="empty">
      <WaterScene open={open} />
      <h1>{headline}</h1>
      <p className="empty__lead">
        {broken
          ? "Nothing answers at the moment. You can write already; your question goes through when a worker is back."
          : "Ask anything. The models behind this gateway answer, and conversations stay in this browser."}
      </p>
      <ul className="examples" aria-label="Examples">
        {EXAMPLES.map(({ title, hint, prompt }) => (
          <li key={title}>
            <button
              type="button"
              className="example"
              onClick={() => {
                onExample(prompt);
                document.getElementById("message")?.focus();
              }}
            >
              <span className="example__title">{title}</span>
              <span className="example__hint">{hint}</span>
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
