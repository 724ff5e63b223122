// A part of a drawing that stays the same object until what it hangs on changes: then nothing of it is compared again.

import type { VNode } from "preact";
import { useMemo } from "preact/hooks";

interface Props {
  on: unknown[]; // all that the part hangs on; as many at every drawing
  draw: () => VNode;
}

export function Kept({ on, draw }: Props) {
  return useMemo(draw, on);
}

/** How many elements are kept together: a step changes a few of hundreds. */
export const TOGETHER = 20;

/** Return the numbers below a count in groups of TOGETHER. */
export function inGroups(count: number): number[][] {
  const all = Array.from({ length: count }, (_, at) => at);
  return Array.from({ length: Math.ceil(count / TOGETHER) }, (_, group) => all.slice(group * TOGETHER, (group + 1) * TOGETHER));
}
