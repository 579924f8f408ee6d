export interface Example {
  readonly title: string;
  readonly hint: string;
  readonly prompt: string;
}

const HARBOUR = `Report from the harbour, Tuesday.
Ines hung the copper lantern in the mill before breakfast. Tobias keeps the ledger at the toll house.
At noon Ines carried the copper lantern to the boathouse, because the rain was coming.
Marta found a blue rope on the pier and gave it to Tobias.`;

/** The demo model that ships with Sluice answers questions about a document; the first three are of that kind. */
export const EXAMPLES: readonly Example[] = [
  {
    title: "Find it in a report",
    hint: "Something was moved. Where is it now?",
    prompt: `${HARBOUR}\n\nWhere is the copper lantern now?`,
  },
  {
    title: "Two steps",
    hint: "First who has the rope, then the ledger.",
    prompt: `${HARBOUR}\n\nWhere does the person who has the blue rope keep the ledger?`,
  },
  {
    title: "Say when it is not there",
    hint: "A question that the report leaves open.",
    prompt: `${HARBOUR}\n\nWho owns the boathouse? Say so if the report does not tell.`,
  },
  {
    title: "Explain with code",
    hint: "For larger models: prose, a table and Python.",
    prompt: "Explain how a sluice gate works, with a small table and a Python function for the discharge.",
  },
];
