// What a linear probe can still tell of the source from the decoder's state: percent of the bits of each piece.

import type { Probe, View } from "./data.ts";
import type { Moment } from "./timeline.ts";

/** Percent from which on a piece counts as told. */
export const TOLD = 50;

/** Return what is told of each source piece at a moment; -1: not asked; null: there is no probe, or no state yet. */
export function toldAt(view: Pick<View, "told" | "target">, moment: Moment): number[] | null {
  if (!view.told || (moment.phase !== "hand-over" && moment.phase !== "write")) return null;
  return view.told[moment.phase === "write" ? Math.min(moment.step, view.target.length - 1) + 1 : 0];
}

/** Return how much ink a piece has, from 0 to 1: pale pieces can still be read. */
export const ink = (told: number): number => (told < 0 ? 1 : 0.32 + 0.0068 * told);

/** Return how many pieces are told, of those that are asked for. */
export function countTold(told: number[]): { told: number; asked: number } {
  return { told: told.filter(one => one >= TOLD).length, asked: told.filter(one => one >= 0).length };
}

/** Return how often the probe is right at a moment on held-out sentences, in percent, and how often chance is. */
export function quality(probe: Probe, moment: Moment): { right: number; chance: number } | null {
  const step = moment.phase === "write" ? moment.step + 1 : 0;
  const group = probe.first.filter(first => first <= step).length - 1;
  return group < 0 ? null : { right: probe.right[group], chance: probe.chance[group] };
}
