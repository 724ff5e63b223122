// One variant's picture where the source is a grid: its cells light up as they are read, and where attention looks.

import { useMemo } from "preact/hooks";
import { type Content, type Grid, largest, nameOf, type Variant, type View } from "./data.ts";
import { scene } from "./Flow.tsx";
import { BELOW, Handed } from "./Handed.tsx";
import { filled, type Moment } from "./timeline.ts";
import { useWidth } from "./width.ts";

const SIDE = 252; // of the grid, where there is room

interface Props {
  content: Content;
  grid: Grid;
  variant: Variant;
  view: View;
  moment: Moment;
  zoom: number;
  lit: number | null; // the cell that is pointed at
  onPoint: (source: number | null) => void;
}

/** Return how bright each cell is, from 0 to 1: what is read, what makes the neck, what stays within reach, the weights. */
export function lights(view: View, variant: Variant, moment: Moment): number[] {
  const { threads } = scene(view, variant, moment);
  if (moment.phase === "read") {
    const { encoder } = variant;
    const { forward, backward } = filled(view.source.length, encoder, moment.step);
    return forward.map((there, at) => (encoder.directions === "both" ? (Number(there) + Number(backward[at])) / 2 : Number(there)));
  }
  return relative(threads);
}

/** Return weights as parts of the largest, as what attends evenly to all cells shows all of them. */
export function relative(weights: number[]): number[] {
  const most = Math.max(...weights);
  return weights.map(weight => (most > 0 ? weight / most : 0));
}

interface CellsProps {
  grid: Grid;
  light: number[];
  side: number; // of the whole
  x?: number;
  y?: number;
  numbers?: boolean; // whether cells without a picture have their numbers
}

/** The cells: a shade over a picture, dark where there is no light; without a picture, the more light the fuller. */
export function Cells({ grid, light, side, x = 0, y = 0, numbers = true }: CellsProps) {
  const size = side / grid.columns;
  return <>
    {light.map((one, at) => {
      const left = x + (at % grid.columns) * size, top = y + Math.floor(at / grid.columns) * size;
      const full = size * one;
      return grid.image
        ? <rect key={at} class="shade" x={left} y={top} width={size} height={size} fill-opacity={round(0.88 * (1 - one))} />
        : (
          <g key={at}>
            <rect class="frame" x={left} y={top} width={size} height={size} />
            {one > 0.004 && <rect class="cell" x={left + 1} y={top + size - full} width={size - 2} height={full} fill-opacity={0.45} />}
            {numbers && <text x={left + size / 2} y={top + size / 2 + 5} text-anchor="middle">{at + 1}</text>}
          </g>
        );
    })}
  </>;
}

const round = (value: number): number => Math.round(value * 100) / 100;

export function PictureFlow({ content, grid, variant, view, moment, zoom, lit, onPoint }: Props) {
  const [box, pixels] = useWidth();
  const whole = scene(view, variant, moment);
  const light = lights(view, variant, moment);
  const side = SIDE, rows = Math.ceil(grid.cells / grid.columns), size = side / grid.columns;
  const scale = Math.min(zoom, pixels / 330), width = pixels / scale;
  const left = (width - side) / 2, height = rows * size;
  const now = moment.phase === "read" ? filled(view.source.length, variant.encoder, moment.step).now : [];
  const most = moment.phase === "write" && view.weights ? largest(whole.threads) : -1;
  const corner = (at: number) => ({ x: left + (at % grid.columns) * size, y: 2 + Math.floor(at / grid.columns) * size });
  const dark = moment.phase === "write" && !view.weights;
  // One surface finds the cell under the pointer.
  const cell = (event: MouseEvent): number | null => {
    const surface = (event.currentTarget as Element).getBoundingClientRect();
    const column = Math.floor(((event.clientX - surface.left) / surface.width) * grid.columns);
    const at = Math.floor(((event.clientY - surface.top) / surface.height) * rows) * grid.columns + column;
    return at >= 0 && at < grid.cells ? at : null;
  };
  return (
    <div ref={box}>
      <svg class="flow picture" width={pixels} height={(height + 34 + BELOW) * scale} viewBox={`0 0 ${width} ${height + 34 + BELOW}`} role="img"
        aria-label={`what ${variant.name} sees of the picture${most >= 0 ? `: most of ${nameOf(view, most, grid)}` : dark ? ": nothing any more" : ""}`}>
        {grid.image && <image href={grid.image} x={left} y={2} width={side} height={height} preserveAspectRatio="none" style="image-rendering: pixelated" />}
        {useMemo(() => <Cells grid={grid} light={light} side={side} x={left} y={2} />, [grid, light.join(), left])}
        <rect class="frame" x={left} y={2} width={side} height={height} />
        {now.map(at => <rect key={at} class="now looked" {...corner(at)} width={size} height={size} />)}
        {[most, ...(lit === null ? [] : [lit])].filter(at => at >= 0).map((at, rank) => <rect key={`${rank} ${at}`} class="now looked" {...corner(at)} width={size} height={size} />)}
        {whole.vector && !dark && <path class="pass" d={`M${width / 2} ${height + 8}v16m-5 -6l5 6l5 -6`} />}
        <rect class="surface" x={left} y={2} width={side} height={height} onMouseMove={event => onPoint(cell(event))} onMouseLeave={() => onPoint(null)} />
        <Handed scene={whole} moment={moment} levels={content.levels} x={width / 2} y={height + 30} scale={1} />
      </svg>
    </div>
  );
}
