import { announcement } from "../chat/announce";
import type { Conversation } from "../chat/types";

/** Tells a screen reader when an answer begins and, once and whole, what it says; not every word as it comes. */
export function Announcer({ conversation }: { readonly conversation: Conversation | undefined }) {
  return (
    <div className="visually-hidden" aria-live="polite" aria-atomic="true" id="announcer">
      {conversation && announcement(conversation)}
    </div>
  );
}
