import type { Network } from "./network";

const CALLS = "/v1/realtime/calls";

export interface GatewayAddress {
  /** Origin of the gateway, without a slash at the end; "" for the page's own. */
  readonly baseUrl: string;
  /** Asked at every request: authorization and whatever else the gateway wants. */
  readonly headers: () => Readonly<Record<string, string>>;
  readonly network: Network;
}

/** What the gateway offers beside server-sent events; `reason` says in words why there is no data channel. */
export type Offer =
  | {
      readonly kind: "available";
      readonly control: string;
      readonly tokens: string;
      readonly iceServers: RTCIceServer[];
    }
  | { readonly kind: "unavailable"; readonly reason: string };

/** Asks what the gateway offers. @throws TypeError when it cannot be reached. */
export async function readOffer(gateway: GatewayAddress, signal: AbortSignal): Promise<Offer> {
  const response = await gateway.network.fetch(`${gateway.baseUrl}/v1/realtime`, {
    headers: gateway.headers(),
    cache: "no-store",
    signal,
  });
  const body = (await response.json().catch(() => undefined)) as RealtimeBody | undefined;
  if (!response.ok || body?.webrtc === undefined) {
    return { kind: "unavailable", reason: "This gateway has no data channels." };
  }
  if (!body.webrtc || !body.eloquent) {
    return { kind: "unavailable", reason: body.reason ?? "Data channels are switched off at the gateway." };
  }
  return {
    kind: "available",
    control: body.channels?.control ?? "oai-events",
    tokens: body.channels?.tokens ?? "tokens.eloquent.v1",
    iceServers: (body.ice_servers ?? []).map(({ urls, username, credential }) => ({
      urls,
      ...(username && { username }),
      ...(credential && { credential }),
    })),
  };
}

interface RealtimeBody {
  readonly webrtc?: boolean;
  readonly eloquent?: boolean;
  readonly reason?: string;
  readonly channels?: { readonly control?: string; readonly tokens?: string };
  readonly ice_servers?: readonly {
    readonly urls: string[];
    readonly username?: string | null;
    readonly credential?: string | null;
  }[];
}

export interface CallAnswer {
  readonly sdp: string;
  /** Where to hang up; undefined when the gateway does not say. */
  readonly location?: string;
}

/** Offers a call. @throws Error in the gateway's words when it refuses. */
export async function placeCall(gateway: GatewayAddress, sdp: string, signal: AbortSignal): Promise<CallAnswer> {
  const response = await gateway.network.fetch(gateway.baseUrl + CALLS, {
    method: "POST",
    headers: { ...gateway.headers(), "content-type": "application/sdp" },
    body: sdp,
    signal,
  });
  const text = await response.text();
  if (response.status !== 201) throw new Error(`The gateway refused the call (${response.status}): ${text}`);
  const location = response.headers.get("location");
  return { sdp: text, ...(location !== null && { location }) };
}

/** Hangs up; a call that is gone already is none of the caller's worries. */
export function hangUp(gateway: GatewayAddress, location: string): void {
  const url = location.startsWith("/") ? gateway.baseUrl + location : location;
  void fetch(url, { method: "DELETE", headers: gateway.headers(), keepalive: true }).catch(() => undefined);
}
