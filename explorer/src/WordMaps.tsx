// Maps of word embeddings: frequent words, near each other where a model takes them for alike. Folded until it is asked for.

import { useMemo, useState } from "preact/hooks";
import type { Variant, View, WordMap } from "./data.ts";
import { textWidth } from "./layout.ts";

const SIDE = 480, EDGE = 34, FONT = 10 / 13;
const SPACE = "\u2581"; // of the pieces that begin a word

type Mark = "source" | "target" | "both";

interface Shown {
  variant: Variant;
  view: View;
}

/** Return which words of a map the sentence has, and on which of its sides. */
export function marked(map: Pick<WordMap, "side" | "words">, view: Pick<View, "source" | "target">): Map<number, Mark> {
  const [source, target] = [view.source, view.target].map(pieces => new Set(pieces));
  const result = new Map<number, Mark>();
  map.words.forEach((word, at) => {
    const read = map.side !== "target" && source.has(SPACE + word), written = map.side !== "source" && target.has(SPACE + word);
    if (read || written) result.set(at, read && written ? "both" : read ? "source" : "target");
  });
  return result;
}

/** Return the words whose labels fit, the first of the order first, so that none covers another. */
export function fitting(boxes: { x: number; y: number; width: number; height: number }[], order: number[]): Set<number> {
  const placed: number[] = [];
  for (const at of order) {
    const one = boxes[at];
    const covers = placed.some(other => {
      const there = boxes[other];
      return one.x < there.x + there.width && there.x < one.x + one.width && one.y < there.y + there.height && there.y < one.y + one.height;
    });
    if (!covers) placed.push(at);
  }
  return new Set(placed);
}

const DOTS: Record<Mark, string> = { source: "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z", target: "M-4 -4h8v8h-8z", both: "M0 -6L6 0L0 6L-6 0z" };

function Drawing({ map, view, name }: { map: WordMap; view: View; name: string }) {
  const [pointed, setPointed] = useState<number | null>(null);
  const drawn = useMemo(() => {
    const [xs, ys] = [0, 1].map(axis => map.places.map(place => place[axis]));
    const place = (values: number[]) => {
      const least = Math.min(...values), most = Math.max(...values);
      return (value: number) => EDGE / 2 + ((value - least) / (most - least || 1)) * (SIDE - 1.5 * EDGE);
    };
    const x = place(xs), y = place(ys);
    return map.words.map((word, at) => {
      const width = textWidth(word) * FONT, left = x(xs[at]) + 5;
      return { x: left + width > SIDE ? left - 10 - width : left, y: SIDE - y(ys[at]) - 6, width, height: 11, dot: [x(xs[at]), SIDE - y(ys[at])] };
    });
  }, [map]);
  const marks = useMemo(() => marked(map, view), [map, view]);
  const labels = useMemo(() => fitting(drawn, [...marks.keys(), ...map.words.map((_, at) => at).filter(at => !marks.has(at))]), [drawn, marks]);
  const nearest = (event: MouseEvent) => {
    const surface = (event.currentTarget as Element).getBoundingClientRect();
    const [x, y] = [((event.clientX - surface.left) / surface.width) * SIDE, ((event.clientY - surface.top) / surface.height) * SIDE];
    const distance = (at: number) => (drawn[at].dot[0] - x) ** 2 + (drawn[at].dot[1] - y) ** 2;
    const best = drawn.reduce((least, _, at) => (distance(at) < distance(least) ? at : least), 0);
    setPointed(distance(best) < 400 ? best : null);
  };
  const words = [...marks.keys()].map(at => map.words[at]).join(", ");
  return (
    <figure>
      <figcaption>{name}: {map.side}, {map.words.length} words, {(100 * map.shown).toFixed(0)} % of the variance</figcaption>
      <svg class="words" viewBox={`0 0 ${SIDE} ${SIDE}`} role="img" aria-label={`map of the ${map.side} embeddings of ${name}; of this sentence it has: ${words || "no word"}`}
        onMouseMove={nearest} onMouseLeave={() => setPointed(null)}>
        {drawn.map(({ dot }, at) => !marks.has(at) && <circle key={at} class="dot" cx={dot[0]} cy={dot[1]} r={1.5} />)}
        {drawn.map(({ x, y }, at) => labels.has(at) && !marks.has(at) && <text key={at} class="small" x={x} y={y + 9}>{map.words[at]}</text>)}
        {[...marks].map(([at, mark]) => (
          <g key={at} class="own" data-word={map.words[at]} data-mark={mark}>
            <path d={DOTS[mark]} transform={`translate(${drawn[at].dot.join(" ")})`} />
            {labels.has(at) && <text x={drawn[at].x + 3} y={drawn[at].y + 9}>{map.words[at]}</text>}
          </g>
        ))}
        {pointed !== null && <g class="own pointed"><text x={drawn[pointed].x + 3} y={drawn[pointed].y + 9}>{map.words[pointed]}</text></g>}
      </svg>
    </figure>
  );
}

export function WordMaps({ shown }: { shown: Shown[] }) {
  const [open, setOpen] = useState(false);
  if (!shown.some(({ variant }) => variant.maps?.length)) return null;
  return (
    <details class="meter" id="words" onToggle={event => setOpen(event.currentTarget.open)}>
      <summary><h2>Map of word embeddings</h2></summary>
      {open && <>
        <p class="faint">The most frequent words that are single pieces, in the plane of the two first principal components of
          their embeddings: near each other, the model takes them for alike, as far as a plane can show it. Bold: words of this
          sentence (circle: of its source; square: of the translation; diamond: of both). A word whose label would cover another
          is a dot: point at it.</p>
        <div class="maps">
          {shown.flatMap(({ variant, view }) => (variant.maps ?? []).map(map => <Drawing key={`${variant.name} ${map.side}`} map={map} view={view} name={variant.name} />))}
        </div>
      </>}
    </details>
  );
}
