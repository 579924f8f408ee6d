import { KeyRound, RefreshCw, TriangleAlert } from "lucide-react";
import type { Failure } from "../openai/types";
import { useCountdown } from "./use-countdown";

interface FailureNoticeProps {
  readonly failure: Failure;
  readonly onRetry?: () => void;
  readonly onKey: () => void;
}

export function FailureNotice({ failure, onRetry, onKey }: FailureNoticeProps) {
  const wait = useCountdown(failure.retryAfterS ?? 0);
  const { kind, title, detail, status, code } = failure;
  const origin = [status, code].filter((part) => part !== undefined).join(" · ");
  return (
    <div className="failure" role="group" aria-label={title}>
      <TriangleAlert aria-hidden="true" />
      <div className="failure__body">
        <p className="failure__title">{title}</p>
        <p className="failure__detail">{detail}</p>
        {failure.retryAfterS !== undefined && (
          <p className="failure__detail">The gateway asks to wait {failure.retryAfterS} s before the next try.</p>
        )}
        <div className="failure__actions">
          {kind === "auth" && (
            <button type="button" className="button button--primary" onClick={onKey}>
              <KeyRound aria-hidden="true" /> Enter an API key
            </button>
          )}
          {onRetry && (
            <button type="button" className="button" disabled={wait > 0} onClick={onRetry}>
              <RefreshCw aria-hidden="true" /> {wait > 0 ? `Try again in ${wait} s` : "Try again"}
            </button>
          )}
          {origin !== "" && <code className="failure__origin">{origin}</code>}
        </div>
      </div>
    </div>
  );
}
