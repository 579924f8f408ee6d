import type { Failure } from "../../openai/types";
import { FailureNotice } from "../FailureNotice";

const FOR_ADMINISTRATORS = {
  title: "This page is for administrators",
  detail:
    "Enter a key with admin rights; `sluice key create --admin NAME` makes one. Without keys, open the page on the gateway's own machine.",
} as const;

/** Why the control plane does not answer; most often the key has no admin rights. */
export function BoardFailure({ failure, onKey }: { readonly failure: Failure; readonly onKey: () => void }) {
  const told = failure.kind === "auth" ? { ...failure, ...FOR_ADMINISTRATORS } : failure;
  return <FailureNotice failure={told} onKey={onKey} />;
}
