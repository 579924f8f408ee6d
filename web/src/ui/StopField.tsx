import { useId, useState } from "react";

interface StopFieldProps {
  readonly value: readonly string[];
  readonly onChange: (value: readonly string[]) => void;
}

const MOST = 4;

/** Lines of a text box, in which `\n` stands for a line break. */
export function linesOf(stops: readonly string[]): string {
  return stops.map((stop) => stop.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")).join("\n");
}

/** The inverse of `linesOf`; empty lines are left out. */
export function stopsOf(lines: string): string[] {
  return lines
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.replace(/\\(.)/g, (_, letter: string) => (letter === "n" ? "\n" : letter)));
}

export function StopField({ value, onChange }: StopFieldProps) {
  const id = useId();
  const [lines, setLines] = useState(() => linesOf(value));
  const tooMany = stopsOf(lines).length > MOST;
  return (
    <div className="field">
      <label htmlFor={id}>Stop at</label>
      <textarea
        id={id}
        rows={2}
        spellCheck={false}
        value={lines}
        placeholder="Nothing"
        aria-invalid={tooMany}
        aria-describedby={`${id}-hint`}
        onChange={(event) => {
          setLines(event.target.value);
          const stops = stopsOf(event.target.value);
          if (stops.length <= MOST) onChange(stops);
        }}
      />
      <small id={`${id}-hint`}>
        {tooMany ? `up to ${MOST} texts` : "texts that end the answer, one a line; \\n is a line break"}
      </small>
    </div>
  );
}
