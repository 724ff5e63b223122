// The bits meter: what each word of the reference saves over the decoder that never sees the source.

export type Fate = "came through" | "did not" | "needs no source";

/** Bits below which a word is as good as known to the blind decoder. */
export const KNOWN = 1;

/** Return the bits that each word saves. A word can cost more than it does the blind decoder: then it is negative. */
export const saved = (blind: number[], own: number[]): number[] => blind.map((bits, at) => bits - own[at]);

/** Return the sums of the first 0, 1, 2, ... numbers. */
export function summed(numbers: number[]): number[] {
  const sums = [0];
  for (const number of numbers) sums.push(sums[sums.length - 1] + number);
  return sums;
}

/** Return whether a word came through: at least half of the bits that the blind decoder needs for it were saved. */
export function fate(blind: number, own: number): Fate {
  if (blind < KNOWN) return "needs no source";
  return blind - own >= blind / 2 ? "came through" : "did not";
}
