import { ChevronDown } from "lucide-react";
import { useFleet, useModel, usePreferences } from "./context";

export function ModelPicker() {
  const { models } = useFleet();
  const [, change] = usePreferences();
  const model = useModel();
  return (
    <div className="model-picker">
      <select
        aria-label="Model"
        value={model}
        disabled={models === null || models.length === 0}
        onChange={(event) => {
          change({ model: event.target.value });
        }}
      >
        {models === null ? (
          <option value={model}>{model === "" ? "No model yet" : model}</option>
        ) : (
          models.map(({ id }) => <option key={id}>{id}</option>)
        )}
      </select>
      <ChevronDown aria-hidden="true" />
    </div>
  );
}
