export { type EloquentOptions, type EloquentStream, EloquentClient } from "./client";
export { RefusedError, StreamLostError } from "./errors";
export { type Network, PLAIN_NETWORK } from "./network";
export { type Ack, type DataPacket, decodeData, encodeAck, type Form, PacketError, type Record } from "./packets";
export { type NumberedEvent, Reassembler, type ReassemblerSettings } from "./reassembler";
export { DONE, expand, isLast } from "./records";
export { readEvents, type SseEvent, SseOverflowError, SseParser } from "./sse";
export type { StreamEvent, Transport } from "./stream";
export type { ChannelState } from "./switchboard";
