import { type ClientMessage, readMessage } from "./control";
import { type ChannelListener, Followers } from "./follower";
import { Lifeline } from "./lifeline";
import { type CallAnswer, type GatewayAddress, hangUp, type Offer, placeCall } from "./signalling";

/** Candidates that are not found by then are left to the other side's discovery. */
const GATHER_MS = 200;
const CONNECT_MS = 10_000;

/** One WebRTC connection to the gateway; any number of streams can be followed over it. */
export class Call {
  readonly #peer: RTCPeerConnection;
  readonly #followers: Followers;
  readonly #say: (message: ClientMessage) => void;
  #messages = 0;
  #closed = false;
  readonly #onClose: () => void;
  readonly #lifeline = new Lifeline((reason) => {
    this.#end(reason);
  });

  private constructor(
    peer: RTCPeerConnection,
    control: RTCDataChannel,
    tokens: RTCDataChannel,
    gateway: GatewayAddress,
    onClose: () => void,
  ) {
    const { datagrams, messages } = gateway.network;
    this.#peer = peer;
    this.#onClose = onClose;
    const sendDatagram = datagrams((datagram: Uint8Array<ArrayBuffer>) => {
      if (tokens.readyState === "open") tokens.send(datagram);
    });
    const sendMessage = messages((message: ClientMessage) => {
      if (control.readyState === "open") control.send(JSON.stringify(message));
    });
    this.#say = sendMessage;
    this.#followers = new Followers(sendDatagram, () => performance.now());
    const takeDatagram = datagrams((data: ArrayBuffer) => {
      this.#followers.datagram(new Uint8Array(data));
    });
    const takeMessage = messages((data: string | ArrayBuffer) => {
      this.#take(data);
    });
    tokens.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => {
      takeDatagram(data);
    };
    control.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
      takeMessage(data);
    };
    for (const channel of [control, tokens]) {
      channel.onclose = () => {
        this.#end("closed");
      };
    }
    peer.onconnectionstatechange = () => {
      this.#lifeline.changed(peer.connectionState);
    };
    this.#lifeline.changed(peer.connectionState);
  }

  /**
   * Connects to the gateway.
   *
   * @param onClose called once when the connection has ended.
   * @throws Error when the gateway refuses the call or no connection comes about.
   */
  static async open(
    gateway: GatewayAddress,
    offer: Extract<Offer, { readonly kind: "available" }>,
    onClose: () => void,
  ): Promise<Call> {
    const peer = new RTCPeerConnection({ iceServers: offer.iceServers });
    const control = peer.createDataChannel(offer.control);
    const tokens = peer.createDataChannel(offer.tokens, { ordered: false, maxRetransmits: 0 });
    control.binaryType = tokens.binaryType = "arraybuffer";
    const attempt = new AbortController();
    const { signal } = attempt;
    const timer = setTimeout(() => {
      attempt.abort(new Error("No connection came about in time."));
    }, CONNECT_MS);
    peer.onconnectionstatechange = () => {
      if (peer.connectionState === "failed") attempt.abort(new Error("No path to the gateway was found."));
    };
    let answer: CallAnswer | undefined;
    try {
      await peer.setLocalDescription();
      await gathered(peer);
      answer = await placeCall(gateway, peer.localDescription?.sdp ?? "", signal);
      await peer.setRemoteDescription({ type: "answer", sdp: answer.sdp });
      signal.throwIfAborted();
      await Promise.all([opened(control, signal), opened(tokens, signal)]);
    } catch (error) {
      peer.close();
      if (answer?.location !== undefined) hangUp(gateway, answer.location);
      throw error;
    } finally {
      clearTimeout(timer);
    }
    return new Call(peer, control, tokens, gateway, onClose);
  }

  /** Whether no stream is followed: the gateway collects such calls after a while. */
  get idle(): boolean {
    return this.#followers.size === 0;
  }

  /** Follows a stream from the event after `after` on; gives back how to stop that. */
  follow(streamId: string, after: number, listener: ChannelListener): () => void {
    this.#messages += 1;
    const eventId = `follow-${this.#messages}`;
    this.#followers.add(eventId, streamId, after, listener);
    this.#say({ type: "stream.follow", event_id: eventId, stream_id: streamId, starting_after: after });
    return () => {
      this.#followers.remove(listener);
      this.#say({ type: "stream.unfollow", stream_id: streamId });
    };
  }

  /** Round trip of the connection in milliseconds, as the browser measures it; undefined when it has not. */
  async roundTripMs(): Promise<number | undefined> {
    let seconds: number | undefined;
    const report: ReadonlyMap<string, RTCStats> = await this.#peer.getStats();
    for (const entry of report.values()) {
      const { type, currentRoundTripTime } = entry as RTCIceCandidatePairStats;
      if (type === "candidate-pair" && currentRoundTripTime !== undefined) seconds = currentRoundTripTime;
    }
    return seconds === undefined ? undefined : seconds * 1000;
  }

  close(): void {
    this.#end("closed");
  }

  #take(data: string | ArrayBuffer): void {
    if (typeof data !== "string") {
      // A record too long for a datagram comes here, in a packet of the same form.
      this.#followers.datagram(new Uint8Array(data));
      return;
    }
    const message = readMessage(data);
    if (message) this.#followers.message(message);
  }

  #end(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#lifeline.stop();
    this.#onClose();
    this.#followers.failAll(reason);
    // The gateway notices; if the network is gone, by its own checks.
    this.#peer.close();
  }
}

function gathered(peer: RTCPeerConnection): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, GATHER_MS);
    peer.addEventListener("icegatheringstatechange", () => {
      if (peer.iceGatheringState !== "complete") return;
      clearTimeout(timer);
      resolve();
    });
  });
}

function opened(channel: RTCDataChannel, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const closed = (): void => {
      reject(new Error(`The data channel ${channel.label} did not open.`));
    };
    const aborted = (): void => {
      reject(signal.reason as Error);
    };
    if (channel.readyState === "open") resolve();
    channel.addEventListener("open", () => {
      resolve();
    });
    channel.addEventListener("close", closed);
    signal.addEventListener("abort", aborted);
  });
}
