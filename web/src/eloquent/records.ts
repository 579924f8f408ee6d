import type { Form, Record } from "./packets";

/** The data of the event that ends an OpenAI stream. */
export const DONE = "[DONE]";

const ERROR_OBJECT = /^\{\s*"error"\s*:/;

/** Whether nothing follows an event with this data in its stream. */
export function isLast(data: string): boolean {
  return data === DONE || ERROR_OBJECT.test(data);
}

/** Whether nothing follows the record in its stream. */
export function isFinal(record: Record): boolean {
  return record.kind === "end" || record.kind === "error";
}

/**
 * The `data` of the server-sent event that the record stands for, character for character.
 *
 * @throws RangeError when the record's form is not among `forms`; a Reassembler never delivers such a one.
 */
export function expand(record: Record, forms: readonly Form[]): string {
  if (record.kind === "end") return DONE;
  if (record.kind !== "text") return record.payload;
  const form = forms[record.form];
  if (!form) throw new RangeError(`form ${record.form} has not been received; ${forms.length} are known`);
  return `${form.prefix}${record.choice}${form.middle}${JSON.stringify(record.payload)}${form.suffix}`;
}
