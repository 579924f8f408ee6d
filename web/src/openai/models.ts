import { asText, isObject } from "./json";
import type { ModelInfo } from "./types";

/** Reads the body of GET /v1/models, in the server's order. */
export function readModels(value: unknown): ModelInfo[] {
  const data: unknown = isObject(value) ? value.data : undefined;
  if (!Array.isArray(data)) return [];
  return data.flatMap((model: unknown) => {
    const id = isObject(model) ? asText(model.id) : undefined;
    if (id === undefined || !isObject(model)) return [];
    const images = takesImages(model.input_modalities) ?? takesImages(architecture(model.architecture));
    return [{ id, ...(images !== undefined && { images }) }];
  });
}

/** Some servers tell it at the top of the entry, some beside the architecture; most do not tell it. */
function architecture(value: unknown): unknown {
  return isObject(value) ? value.input_modalities : undefined;
}

function takesImages(modalities: unknown): boolean | undefined {
  if (!Array.isArray(modalities) || modalities.length === 0) return undefined;
  return modalities.some((one: unknown) => one === "image");
}
