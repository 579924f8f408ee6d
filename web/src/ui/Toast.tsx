import { useEffect } from "react";

export interface Notice {
  /** Tells two notices with the same words apart. */
  readonly key: string;
  readonly words: string;
  readonly action?: { readonly label: string; readonly run: () => void };
}

const SHOWN_MS = 8000;
const SHOWN_WITHOUT_ACTION_MS = 2500;

export function Toast({ notice, onGone }: { readonly notice: Notice; readonly onGone: () => void }) {
  const { words, action } = notice;
  const lasts = action ? SHOWN_MS : SHOWN_WITHOUT_ACTION_MS;
  useEffect(() => {
    const timer = setTimeout(onGone, lasts);
    return () => {
      clearTimeout(timer);
    };
  }, [onGone, lasts]);
  return (
    <div className="toast" role="status">
      <span>{words}</span>
      {action && (
        <button
          type="button"
          className="button button--quiet"
          onClick={() => {
            action.run();
            onGone();
          }}
        >
          {action.label}
        </button>
      )}
    </div>
  );
}
