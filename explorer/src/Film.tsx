// Attention over a grid, step by step: a small picture for each output piece. It takes the place of the matrix.

import { useMemo } from "preact/hooks";
import { type Grid, show, type View } from "./data.ts";
import { Cells, relative } from "./PictureFlow.tsx";
import { useWidth } from "./width.ts";

const SIDE = 54, GAP = 8, TITLE = 16;

interface Props {
  grid: Grid;
  view: Pick<View, "target" | "weights">;
  name: string; // unique on the page
  step: number; // -1: none
  zoom: number;
  lit: number | null; // the step that is pointed at
  onPoint: (source: null, step: number | null) => void;
  onStep: (step: number) => void;
}

export function Film({ grid, view, name, step, zoom, lit, onPoint, onStep }: Props) {
  const [box, pixels] = useWidth();
  const weights = view.weights!;
  const columns = Math.max(1, Math.floor(pixels / zoom / (SIDE + GAP))), rows = Math.ceil(weights.length / columns);
  const high = (SIDE * Math.ceil(grid.cells / grid.columns)) / grid.columns, pitch = high + TITLE + GAP;
  const width = columns * (SIDE + GAP), height = rows * pitch;
  const corner = (at: number): [number, number] => [GAP / 2 + (at % columns) * (SIDE + GAP), TITLE + Math.floor(at / columns) * pitch];
  const pieces = useMemo(() => <g>{weights.map((row, at) => {
    const [x, y] = corner(at);
    return (
      <g key={at} data-step={at}>
        {grid.image && <use href={`#film-${name}`} x={x} y={y} />}
        <Cells grid={grid} light={relative(row)} side={SIDE} x={x} y={y} numbers={false} />
      </g>
    );
  })}</g>, [view, grid, columns, name]);
  const under = (event: MouseEvent): number | null => {
    const surface = (event.currentTarget as Element).getBoundingClientRect();
    const column = Math.floor(((event.clientX - surface.left) / surface.width) * columns);
    const at = Math.floor(((event.clientY - surface.top) / surface.height) * rows) * columns + column;
    return at >= 0 && at < weights.length ? at : null;
  };
  return (
    <div ref={box}>
      <svg class="matrix film" viewBox={`0 0 ${width} ${height}`} style={{ maxWidth: `${width * zoom}px` }} role="img"
        aria-label="where each output piece looks: the brighter a cell, the larger its weight beside the largest of its step">
        {grid.image && <defs><image id={`film-${name}`} href={grid.image} width={SIDE} height={high} preserveAspectRatio="none" style="image-rendering: pixelated" /></defs>}
        {pieces}
        {view.target.map((piece, at) => {
          const [x, y] = corner(at);
          return <text key={at} class={at === lit || at === step ? "small lit" : "small"} x={x + SIDE / 2} y={y - 4} text-anchor="middle">{show(piece)}</text>;
        })}
        {step >= 0 && <rect class="now" x={corner(step)[0] - 2} y={corner(step)[1] - 2} width={SIDE + 4} height={high + 4} />}
        <rect class="surface" x={0} y={0} width={width} height={height} onMouseMove={event => onPoint(null, under(event))} onMouseLeave={() => onPoint(null, null)}
          onClick={event => { const at = under(event); if (at !== null) onStep(at); }} />
      </svg>
    </div>
  );
}
