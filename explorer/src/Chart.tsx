// Lines over doublings of something: each doubling is as wide as the others.

import type { Line } from "./compare.ts";
import { DASHES, LineNames, room } from "./LineNames.tsx";
import { spread } from "./Meter.tsx";
import { useWidth } from "./width.ts";

const HEIGHT = 210, LEFT = 44, TOP = 12, BOTTOM = 40;

interface Props {
  lines: Line[];
  label: string; // what it shows, in words
  axis: string;
  now: number | null; // the place that is shown
  inWords: (x: number) => string;
}

export function Chart({ lines, label, axis, now, inWords }: Props) {
  const [box, pixels] = useWidth();
  const width = Math.min(pixels, 900);
  const names = lines.map(line => line.name);
  const { beside, right } = room(names, width);
  const all = lines.flatMap(line => line.marks);
  const places = [...new Set(all.map(mark => mark.x))].sort((a, b) => a - b);
  const first = Math.log2(places[0]), last = Math.log2(places[places.length - 1]);
  const highest = Math.max(1, ...all.map(mark => mark.y)), lowest = Math.min(0, ...all.map(mark => mark.y));
  const x = (value: number) => LEFT + 16 + (last > first ? (Math.log2(value) - first) / (last - first) : 0.5) * (width - LEFT - right - 32);
  const y = (value: number) => TOP + ((highest - value) / (highest - lowest)) * (HEIGHT - TOP - BOTTOM);
  const labels = spread(lines.map(line => y(line.marks[line.marks.length - 1].y)), 15, HEIGHT - BOTTOM);
  const told = lines.map(line => `${line.name}: ${line.marks.map(mark => `${mark.y.toFixed(0)} at ${inWords(mark.x)}`).join(", ")}`).join("; ");
  return <>
    <div ref={box} />
    <svg class="chart" width={width} height={HEIGHT} viewBox={`0 0 ${width} ${HEIGHT}`} role="img" aria-label={`${label}: ${told}`}>
      {[lowest, 0, highest].filter(value => value === 0 || Math.abs(y(value) - y(0)) > 14).map(value => (
        <g key={value}>
          <path class="frame" d={`M${LEFT} ${y(value)}H${width - right}`} />
          <text class="small" x={LEFT - 6} y={y(value) + 4} text-anchor="end">{value.toFixed(0)}</text>
        </g>
      ))}
      {places.map(place => <text key={place} class="small" x={x(place)} y={HEIGHT - BOTTOM + 18} text-anchor="middle">{inWords(place)}</text>)}
      <text class="small" x={LEFT} y={HEIGHT - 6}>{axis}</text>
      {now !== null && <path class="now" d={`M${x(now)} ${TOP}V${HEIGHT - BOTTOM}`} />}
      {lines.map((line, rank) => (
        <g key={line.name} class="line" data-line={line.name}>
          <path class="sum" d={line.marks.map((mark, at) => `${at ? "L" : "M"}${x(mark.x).toFixed(1)} ${y(mark.y).toFixed(1)}`).join("")} stroke-dasharray={DASHES[rank % DASHES.length]} />
          {line.marks.map(mark => <circle key={mark.x} class="dot" cx={x(mark.x)} cy={y(mark.y)} r={mark.x === now ? 5 : 3} />)}
          {beside && <text x={width - right + 6} y={labels[rank] + 4}>{line.name}</text>}
        </g>
      ))}
    </svg>
    {!beside && <LineNames names={names} dashes={names.map((_, rank) => rank)} />}
  </>;
}
