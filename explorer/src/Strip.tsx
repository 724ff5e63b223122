// A vector as a strip of cells: filled above zero, outlined below; the larger the number, the taller the cell.

import { useMemo } from "preact/hooks";

interface Props {
  numbers: number[];
  levels: number;
  x: number;
  y: number;
  width?: number; // of a cell
  height?: number;
  forward?: number; // how many are of the forward direction; 0: all are
  seen?: [boolean, boolean]; // whether the numbers of the forward direction are there, and those of the backward one
  className?: string;
}

/** Return the outlines of the cells above zero, and of those below, as paths. */
export function cells(numbers: number[], levels: number, width: number, height: number, there: (at: number) => boolean = () => true): [string, string] {
  const paths: [string, string] = ["", ""];
  numbers.forEach((value, at) => {
    if (!there(at)) return;
    const size = Math.max((Math.abs(value) / levels) * height, 0.5);
    const left = at * width + 0.5;
    paths[value >= 0 ? 0 : 1] += `M${left} ${height}v${-round(size)}h${width - 1}v${round(size)}z`;
  });
  return paths;
}

const round = (value: number): number => Math.round(value * 10) / 10;

export function Strip({ numbers, levels, x, y, width = 5, height = 12, forward = 0, seen = [true, true], className = "" }: Props) {
  const [first, second] = seen;
  // The same object for the same numbers: then nothing of it is compared again.
  return useMemo(() => {
    const there = (at: number) => (forward && at >= forward ? second : first);
    const [above, below] = cells(numbers, levels, width, height, there);
    return (
      <g class={`strip ${className}`} transform={`translate(${x} ${y})`}>
        <rect class="frame" x={-1} y={-1} width={numbers.length * width + 2} height={height + 2} />
        {above && <path class="plus" d={above} />}
        {below && <path class="minus" d={below} />}
        {forward > 0 && <path class="parting" d={`M${forward * width} -1v${height + 2}`} />}
      </g>
    );
  }, [numbers, levels, x, y, width, height, forward, first, second, className]);
}
