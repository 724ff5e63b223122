// The tree of a beam search: paths through it, and how its steps stand in rows.

import type { Beam, Branch } from "./data.ts";

const goesOn = (branch: Branch): boolean => branch[3] === 1 || branch[3] === 3; // kept, or cut off

/** Return the places of the branches of a step that the next step continues, which `origin` counts. */
export const keptPlaces = (branches: Branch[]): number[] => branches.map((_, at) => at).filter(at => goesOn(branches[at]));

/** Return the place that a branch continues at the step before it. */
export function parent(beam: Pick<Beam, "steps">, step: number, place: number): number | null {
  return step > 0 ? keptPlaces(beam.steps[step - 1])[beam.steps[step][place][0]] : null;
}

/** Return the place at each step of the way to a branch. */
export function pathTo(beam: Pick<Beam, "steps">, step: number, place: number): number[] {
  const before = parent(beam, step, place);
  return [...(before === null ? [] : pathTo(beam, step - 1, before)), place];
}

/** Return the place at each step of the way of some pieces, up to where the tree has them no more. */
export function pathOf(beam: Pick<Beam, "steps">, pieces: string[]): number[] {
  const path: number[] = [];
  let origin = 0;
  for (const [step, piece] of pieces.entries()) {
    const branches = beam.steps[step] ?? [];
    const place = branches.findIndex(branch => branch[0] === origin && branch[1] === piece);
    if (place < 0) break;
    path.push(place);
    origin = keptPlaces(branches).indexOf(place);
    if (origin < 0) break;
  }
  return path;
}

/** Return the first and the last column of each row, so that no row is wider than `width`. */
export function rows(widths: number[], width: number): [number, number][] {
  const all: [number, number][] = [];
  let used = Infinity;
  widths.forEach((one, at) => {
    if (used + one > width) {
      all.push([at, at]);
      used = 0;
    }
    all[all.length - 1][1] = at;
    used += one;
  });
  return all;
}

/** Return the length penalty of a number of pieces (Wu et al. 2016, equation 14). */
export const lengthPenalty = (pieces: number, alpha: number): number => ((5 + pieces) / 6) ** alpha;
