/** Networks that the page can pretend to be on, so that a user feels what they do to an answer. */

import { Link, type LinkSettings } from "./link";

interface NamedLink {
  readonly name: string;
  readonly title: string;
  readonly words: string;
  readonly settings: LinkSettings;
}

export const LINKS = [
  {
    name: "wifi",
    title: "Edge of the Wi-Fi",
    words: "60 ms away; gone for a tenth of a second every other second",
    settings: { roundTripMs: 60, loss: 0.01, outageEveryMs: 1500, outageMs: 120 },
  },
  {
    name: "crowd",
    title: "Crowded café",
    words: "90 ms away; one packet in twelve is lost",
    settings: { roundTripMs: 90, loss: 0.08, outageEveryMs: 20_000, outageMs: 100 },
  },
  {
    name: "train",
    title: "On a train",
    words: "120 ms away; gone for half a second every four seconds",
    settings: { roundTripMs: 120, loss: 0.02, outageEveryMs: 4000, outageMs: 500 },
  },
] as const satisfies readonly NamedLink[];

export type LinkName = (typeof LINKS)[number]["name"];

/** The outages of a link are the same each time, counted from `startedAt`, so that two tries can be compared. */
const SEED = 20240112;

export function openLink(name: LinkName, startedAt: number): Link {
  const link = LINKS.find((one) => one.name === name);
  if (!link) throw new RangeError(`There is no link ${name}.`);
  return new Link(link.settings, SEED, startedAt);
}
