import { useId, useState } from "react";

interface NumberFieldProps {
  readonly label: string;
  readonly hint: string;
  readonly min: number;
  readonly max: number;
  readonly step: number;
  /** null: left to the model. */
  readonly value: number | null;
  readonly onChange: (value: number | null) => void;
}

/** A number that may be left empty. What is outside of its bounds is marked and not taken. */
export function NumberField({ label, hint, min, max, step, value, onChange }: NumberFieldProps) {
  const id = useId();
  const [text, setText] = useState(value === null ? "" : String(value));
  const [valid, setValid] = useState(true);
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <input
        id={id}
        type="number"
        inputMode="decimal"
        min={min}
        max={max}
        step={step}
        value={text}
        placeholder="Model's default"
        aria-invalid={!valid}
        aria-describedby={`${id}-hint`}
        onChange={(event) => {
          const { value: typed, validity, valueAsNumber } = event.target;
          setText(typed);
          setValid(validity.valid);
          if (validity.valid) onChange(typed === "" ? null : valueAsNumber);
        }}
      />
      <small id={`${id}-hint`}>{valid ? hint : `between ${min} and ${max}, in steps of ${step}`}</small>
    </div>
  );
}
