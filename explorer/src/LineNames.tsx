// The names of the lines of a chart: at their ends where there is room, or else below, each with its dashes.

import { textWidth } from "./layout.ts";

// Dashes, so that lines differ without colour: more than the recorded page has lines, which has seven.
export const DASHES = ["", "7 4", "2 3", "10 3 2 3", "1 5", "14 5", "10 3 2 3 2 3", "4 2", "14 3 6 3", "1 2"];

/** Return whether names fit beside lines in a chart of that width, and the room that is left for them. */
export function room(names: string[], width: number): { beside: boolean; right: number } {
  const longest = Math.max(0, ...names.map(textWidth)) + 12;
  const beside = longest < width * 0.4;
  return { beside, right: beside ? longest : 20 };
}

/** The names below a chart; `dashes` are the places of the lines in DASHES. */
export function LineNames({ names, dashes }: { names: string[]; dashes: number[] }) {
  return (
    <p class="legend">{names.map((name, at) => (
      <span key={name}><svg width={34} height={14} viewBox="0 0 34 14" aria-hidden="true"><path class="sum" d="M0 7H34" stroke-dasharray={DASHES[dashes[at] % DASHES.length]} /></svg> {name}</span>
    ))}</p>
  );
}
