/** Messages on the control channel, as docs/streams.md has them. */

export interface FollowMessage {
  readonly type: "stream.follow";
  readonly event_id: string;
  readonly stream_id: string;
  readonly starting_after: number;
}

export interface UnfollowMessage {
  readonly type: "stream.unfollow";
  readonly stream_id: string;
}

export type ClientMessage = FollowMessage | UnfollowMessage | { readonly type: "session.ping" };

/** What the gateway says, as far as this library listens. */
export type ServerMessage =
  | {
      readonly type: "stream.following";
      readonly stream_id: string;
      readonly client_event_id?: string;
      /** With "eloquent" the events come as packets, else as `stream.event`. */
      readonly transport?: string;
      readonly handle: number;
    }
  | { readonly type: "stream.event"; readonly stream_id: string; readonly number: number; readonly event: string }
  | { readonly type: "stream.fallback"; readonly stream_id: string; readonly reason: string }
  | { readonly type: "response.done"; readonly response: { readonly id: string }; readonly last: number }
  | {
      readonly type: "error";
      readonly client_event_id?: string;
      readonly error: { readonly code?: string | null; readonly message: string };
    };

const HEARD: ReadonlySet<unknown> = new Set<ServerMessage["type"]>([
  "stream.following",
  "stream.event",
  "stream.fallback",
  "response.done",
  "error",
]);

/** Reads a message; undefined for one that is no concern of this library. */
export function readMessage(text: string): ServerMessage | undefined {
  const value = JSON.parse(text) as { readonly type?: unknown } | null;
  return HEARD.has(value?.type) ? (value as ServerMessage) : undefined;
}
