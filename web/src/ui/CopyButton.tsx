import { Check, Copy, TriangleAlert } from "lucide-react";
import { useEffect, useState } from "react";
import { copyText } from "../app/clipboard";

type Outcome = "copied" | "failed" | null;

const SHOWN_MS = 1800;

export function CopyButton({ text, label }: { readonly text: string; readonly label: string }) {
  const [outcome, setOutcome] = useState<Outcome>(null);
  useEffect(() => {
    if (outcome === null) return;
    const timer = setTimeout(() => {
      setOutcome(null);
    }, SHOWN_MS);
    return () => {
      clearTimeout(timer);
    };
  }, [outcome]);
  const Icon = outcome === null ? Copy : outcome === "copied" ? Check : TriangleAlert;
  const copy = async (): Promise<void> => {
    setOutcome((await copyText(text)) ? "copied" : "failed");
  };
  return (
    <button
      type="button"
      className="icon-button icon-button--small"
      aria-label={outcome === null ? label : outcome === "copied" ? "Copied" : "Copying failed"}
      data-outcome={outcome}
      onClick={() => void copy()}
    >
      <Icon aria-hidden="true" />
    </button>
  );
}
