export { type SseEvent, SseOverflowError, SseParser } from "./parser";
export { readEvents } from "./read";
