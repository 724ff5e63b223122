// What reaches the decoder, and its state: the strips under the source.

import type { Scene } from "./Flow.tsx";
import { Strip } from "./Strip.tsx";
import type { Moment } from "./timeline.ts";

const CELL = 9;

/** The height of the drawing. */
export const BELOW = 168;

interface Props {
  scene: Scene;
  moment: Moment;
  levels: number;
  x: number; // the middle
  y: number; // the top
  scale: number;
}

export function Handed({ scene, moment, levels, x, y, scale }: Props) {
  const { vector, decoder, passes, note } = scene;
  const left = (numbers: number[]) => (-numbers.length * CELL) / 2;
  return (
    <g transform={`translate(${x} ${y}) scale(${scale})`}>
      {vector && (
        <g class="vector">
          <Strip numbers={vector.numbers} levels={levels} x={left(vector.numbers)} y={0} width={CELL} height={18} />
          <text x={0} y={36} text-anchor="middle">{vector.caption}</text>
          <text x={0} y={51} text-anchor="middle" class="small">{vector.under}</text>
        </g>
      )}
      {!vector && <text x={0} y={30} text-anchor="middle" class="note">{note}</text>}
      {decoder && (
        <g class="decoder">
          {passes && <path class="pass" d="M0 57v14m-5 -6l5 6l5 -6" />}
          <Strip numbers={decoder} levels={levels} x={left(decoder)} y={76} width={CELL} height={18} />
          <text x={0} y={111} text-anchor="middle" class="small">
            {moment.phase === "hand-over" ? "the decoder's first state" : "the decoder's state after this step"}
          </text>
        </g>
      )}
    </g>
  );
}
