/** What the mock does with one question. With `status` it refuses, else it streams `text`. */
export interface Script {
  readonly text: string;
  readonly firstMs: number;
  readonly gapMs: number;
  readonly ending: "whole" | "cut" | "error";
  readonly status?: number;
  readonly message?: string;
  readonly code?: string;
  readonly retryAfter?: string;
}

const PLAIN: Script = {
  text:
    "Nora keeps a **raven**. The report says so in its second sentence, and nothing that comes later in it " +
    "says that she gave the bird away.",
  firstMs: 180,
  gapMs: 22,
  ending: "whole",
};

const MARKDOWN = `## How a sluice gate works

A *sluice* is a channel whose flow is set by a gate. Three parts do the work:

1. The **sill**, the floor that the gate closes on.
2. The **paddle**, a panel that slides in two grooves.
3. The **rack**, which lifts it tooth by tooth.

> Open it a little and the water runs fast and shallow; open it more and it runs slow and deep.

The discharge under a vertical gate is roughly

\`\`\`python
from math import sqrt

def discharge(width: float, opening: float, head: float) -> float:
    """Cubic metres per second; lengths in metres."""
    return 0.61 * width * opening * sqrt(2 * 9.81 * head)

print(f"{discharge(2.0, 0.25, 1.8):.2f} m³/s")
\`\`\`

| opening | head | discharge |
| ------: | ---: | --------: |
| 0.10 m  | 1.8 m | 0.72 m³/s |
| 0.25 m  | 1.8 m | 1.81 m³/s |

Read more at [a page](https://example.org/sluice), or run \`sluice doctor\`. <script>alert("no")</script>
![a remote picture](https://example.org/pixel.png)
`;

const LONG = Array.from(
  { length: 60 },
  (_, i) => `Line ${i + 1}: the keeper walks the bank, reads the gauge and notes the level in the book.`,
).join("\n\n");

const SCRIPTS: readonly (readonly [RegExp, Script])[] = [
  [/status 429/i, refusal(429, "This key has used its 20 requests of this minute.", "rate_limit_exceeded", "7")],
  [/status 401/i, refusal(401, "Incorrect API key provided.", "invalid_api_key")],
  [/status 503/i, refusal(503, "No worker is ready: w0 is restarting.", "no_worker", "3")],
  [/status 400/i, refusal(400, "max_tokens must be at least 1, got 0.", "invalid_value")],
  [/\bcut\b/i, { ...PLAIN, ending: "cut" }],
  [/error event/i, { ...PLAIN, ending: "error" }],
  [/markdown|gate works|code/i, { ...PLAIN, text: MARKDOWN, gapMs: 12 }],
  [/\b(long|story|write)\b/i, { ...PLAIN, text: LONG, gapMs: 30 }],
];

function refusal(status: number, message: string, code: string, retryAfter?: string): Script {
  return { ...PLAIN, status, message, code, ...(retryAfter !== undefined && { retryAfter }) };
}

export function answerTo(question: string): Script {
  return SCRIPTS.find(([pattern]) => pattern.test(question))?.[1] ?? PLAIN;
}
