export interface Example {
  readonly title: string;
  readonly hint: string;
  readonly prompt: string;
}

const REPORT = `The lamp was put in the kitchen. Nora lives in Maplebury and keeps a raven. The shawl belongs to Percy. \
Percy plays the drum and works for Elise. Elise was born in Eastwick. Then the lamp was taken to the hallway.

The best friend of Nora is Percy. Elise loves chestnuts. The price of the shawl is 93 coins.`;

/**
 * The demo model that ships with Sluice answers questions about a document; the first three are of that kind, in
 * the words of the world that it was trained on.
 */
export const EXAMPLES: readonly Example[] = [
  {
    title: "Find it in a report",
    hint: "One fact among a dozen.",
    prompt: `${REPORT}\n\nWhich animal does Nora keep?`,
  },
  {
    title: "Two steps",
    hint: "First who owns the shawl, then what he plays.",
    prompt: `${REPORT}\n\nWhich instrument does the owner of the shawl play?`,
  },
  {
    title: "Say when it is not there",
    hint: "A question that the report leaves open.",
    prompt: `${REPORT}\n\nWho governs Maplebury?`,
  },
  {
    title: "Explain with code",
    hint: "For larger models: prose, a table and Python.",
    prompt: "Explain how a sluice gate works, with a small table and a Python function for the discharge.",
  },
];
