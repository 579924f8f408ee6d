/** The gateway refused: asking again does not help. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";

  /** @param response with its body unread. */
  constructor(readonly response: Response) {
    super(`The gateway refused with status ${response.status}.`);
  }
}

/** The stream broke and could not be taken up again in time. */
export class StreamLostError extends Error {
  override readonly name = "StreamLostError";
}
