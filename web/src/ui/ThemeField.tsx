import type { Theme } from "../storage/preferences";

const CHOICES: readonly (readonly [Theme, string])[] = [
  ["system", "As the system"],
  ["light", "Light"],
  ["dark", "Dark"],
];

export function ThemeField({ value, onChange }: { readonly value: Theme; readonly onChange: (value: Theme) => void }) {
  return (
    <fieldset className="choices">
      <legend>Colours</legend>
      {CHOICES.map(([theme, label]) => (
        <label key={theme}>
          <input
            type="radio"
            name="theme"
            checked={value === theme}
            onChange={() => {
              onChange(theme);
            }}
          />
          {label}
        </label>
      ))}
    </fieldset>
  );
}
