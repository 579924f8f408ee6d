/**
 * What stands between this library and the network. A page puts another network here to show what a bad one
 * does, a test to make one.
 */
export interface Network {
  readonly fetch: typeof fetch;
  /** Gives back a function that calls `arrive` for every datagram that is not lost, perhaps later. */
  readonly datagrams: <T>(arrive: (datagram: T) => void) => (datagram: T) => void;
  /** Likewise for messages that are neither lost nor reordered. */
  readonly messages: <T>(arrive: (message: T) => void) => (message: T) => void;
}

/** The network as it is. */
export const PLAIN_NETWORK: Network = {
  fetch: (input, init) => fetch(input, init),
  datagrams: (arrive) => arrive,
  messages: (arrive) => arrive,
};
