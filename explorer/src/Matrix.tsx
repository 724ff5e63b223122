// The alignment matrix: rows are output pieces, columns source pieces; the larger a weight, the stronger its cell.

import { useMemo } from "preact/hooks";
import { show, type View } from "./data.ts";
import { textWidth } from "./layout.ts";

const CELL = 17;
const FAINT = 0.006; // Weights below this share are not drawn: nobody could see them.

interface Props {
  view: Pick<View, "source" | "target" | "weights" | "parts">;
  step: number; // -1: none
  zoom: number; // pixels of a unit, where there is room
  lit: { source: number | null; step: number | null };
  onPoint: (source: number | null, step: number | null) => void;
  onStep: (step: number) => void;
}

export function Matrix({ view, step, zoom, lit, onPoint, onStep }: Props) {
  const weights = view.weights!;
  const [left, top] = useMemo(() => [view.target, view.source].map(side => 8 + Math.max(...side.map(piece => textWidth(show(piece))))), [view]);
  const columns = view.source.length * CELL, rows = view.target.length * CELL;
  const width = left + columns + 4, height = top + rows + 4;
  // One element, the same at every step: of an array, each cell would be compared.
  const drawn = useMemo(() => <g>{weights.map((row, at) => row.map((weight, source) => weight / view.parts! >= FAINT && (
    <rect key={`${at} ${source}`} x={left + source * CELL} y={top + at * CELL} width={CELL - 1} height={CELL - 1} class="cell"
      fill-opacity={Math.max(0.03, weight / view.parts!)} data-step={at} data-source={source} />
  )))}</g>, [view]);
  // One surface finds the cell under the pointer, so that a long sentence needs no element for each of its cells.
  const cell = (event: MouseEvent): [number, number] | null => {
    const surface = (event.currentTarget as Element).getBoundingClientRect();
    const source = Math.floor(((event.clientX - surface.left) / surface.width) * view.source.length);
    const at = Math.floor(((event.clientY - surface.top) / surface.height) * view.target.length);
    return source >= 0 && at >= 0 && source < view.source.length && at < view.target.length ? [source, at] : null;
  };
  return (
    <svg class="matrix" viewBox={`0 0 ${width} ${height}`} style={{ maxWidth: `${width * zoom}px` }} role="img"
      aria-label="alignment matrix: rows are output pieces, columns source pieces">
      {useMemo(() => <g>{view.source.map((piece, at) => (
        <text key={at} class={at === lit.source ? "lit" : ""} transform={`translate(${left + at * CELL + 12} ${top - 5}) rotate(-90)`}>{show(piece)}</text>
      ))}</g>, [view, lit.source])}
      {useMemo(() => <g>{view.target.map((piece, at) => (
        <text key={at} class={at === lit.step ? "lit" : ""} x={left - 5} y={top + at * CELL + 13} text-anchor="end">{show(piece)}</text>
      ))}</g>, [view, lit.step])}
      {drawn}
      {step >= 0 && <rect x={left - 1} y={top + step * CELL - 1} width={columns + 1} height={CELL + 1} class="now" />}
      <rect class="surface" x={left} y={top} width={columns} height={rows}
        onMouseMove={event => { const at = cell(event); onPoint(at && at[0], at && at[1]); }} onMouseLeave={() => onPoint(null, null)}
        onClick={event => { const at = cell(event); if (at) onStep(at[1]); }} />
    </svg>
  );
}
