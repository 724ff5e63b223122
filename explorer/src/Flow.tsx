// One variant's picture: the source with its states, the vector that reaches the decoder, and the decoder's state.

import { useMemo } from "preact/hooks";
import { type Content, largest, show, type Variant, type View } from "./data.ts";
import { inGroups, Kept } from "./Kept.tsx";
import { BELOW, Handed } from "./Handed.tsx";
import { layOut, type Place } from "./layout.ts";
import { Strip } from "./Strip.tsx";
import { filled, type Moment, readingOrder } from "./timeline.ts";
import { ink, toldAt } from "./told.ts";
import { useWidth } from "./width.ts";

const CELL = 3; // of a state's strip
const TOLD_WIDTH = 36; // of the bar of what a probe tells, where it tells all

interface Props {
  content: Content;
  variant: Variant;
  view: View;
  moment: Moment;
  zoom: number; // pixels of a unit, where there is room
  lit: number | null; // the source position that is pointed at
  onPoint: (source: number | null) => void;
}

/** Return the source positions whose states the neck is made of: where each direction has ended. */
export function finals(view: View, variant: Variant): number[] {
  const { encoder } = variant;
  if (encoder.directions === "none") return view.source.map((_, at) => at);
  const order = readingOrder(view.source.length, encoder);
  return encoder.directions === "both" ? [order[order.length - 1], order[0]] : [order[order.length - 1]];
}

export interface Scene {
  threads: number[]; // of each source position from 0 to 1
  vector: { numbers: number[]; caption: string; under: string } | null;
  decoder: number[] | null;
  passes: boolean; // whether the vector reaches the decoder now
  note: string; // where there is no vector
}

/** Return what the picture shows at a moment. */
export function scene(view: View, variant: Variant, moment: Moment): Scene {
  const none = view.source.map(() => 0);
  const neck = variant.width > 0;
  const numbers = `${variant.width} numbers`;
  if (moment.phase === "read") return { threads: none, vector: null, decoder: null, passes: false, note: reading(variant) };
  if (moment.phase === "neck") {
    const ends = new Set(finals(view, variant));
    if (!neck) return { threads: none, vector: null, decoder: null, passes: false, note: "no neck: this decoder starts from zero" };
    return {
      threads: view.source.map((_, at) => (ends.has(at) ? (ends.size > 2 ? 0.15 : 0.6) : 0)),
      vector: { numbers: view.summary, caption: `the neck: one vector of ${numbers}`, under: ends.size > 2 ? "made of all positions" : "made of the last states, however long the sentence" },
      decoder: null, passes: false, note: "",
    };
  }
  if (moment.phase === "hand-over") {
    const start = view.start ?? null;
    if (variant.reads === "states") {
      return {
        threads: none.map(() => 0.12), decoder: neck ? start : null, passes: neck,
        vector: neck ? { numbers: view.summary, caption: `all ${view.source.length} states, and the neck`, under: "every state stays within reach" } : null,
        note: `all ${view.source.length} states stay within reach`,
      };
    }
    const again = variant.reads === "vector" ? ", again at every step" : ", and never again";
    return {
      threads: none, decoder: start, passes: true, note: "",
      vector: { numbers: view.summary, caption: `one vector of ${numbers}${again}`, under: "nothing else goes over" },
    };
  }
  const at = Math.min(moment.step, view.target.length - 1);
  const decoder = view.hidden[at];
  if (view.weights && view.contexts) {
    const weights = view.weights[at];
    return {
      threads: weights.map(weight => weight / view.parts!), decoder, passes: true, note: "",
      vector: { numbers: view.contexts[at], caption: "context of this step", under: "the weighted sum of the states" },
    };
  }
  if (variant.reads === "vector") {
    return { threads: none, decoder, passes: true, note: "", vector: { numbers: view.summary, caption: `the same ${numbers} again`, under: "the neck of the hourglass" } };
  }
  if (at === 0) {
    return { threads: none, decoder, passes: true, note: "", vector: { numbers: view.summary, caption: `one vector of ${numbers}, received once`, under: "the neck of the hourglass" } };
  }
  return { threads: none, decoder, passes: false, vector: null, note: "nothing to look back at" };
}

function reading(variant: Variant): string {
  const { encoder } = variant;
  if (encoder.directions === "none") return "all positions are read at once";
  const top = encoder.layers > 1 ? " (top layer)" : "";
  if (encoder.directions === "both") return `two readers, \u2192 and \u2190, fill a half of each state${top}`;
  return encoder.reversed ? `one reader, last word first${top}` : `one reader, word by word${top}`;
}

interface WordProps {
  at: number;
  place: Place;
  text: string;
  numbers: number[] | null;
  strip: number;
  levels: number;
  forward: number;
  first: boolean;
  second: boolean;
  lit: boolean;
  now: boolean;
  told: number | null; // percent that a probe tells from the decoder's state; -1: not asked; null: there is no probe
  onPoint: (source: number | null) => void;
}

function Word({ at, place, text, numbers, strip, levels, forward, first, second, lit, now, told, onPoint }: WordProps) {
  const { x, y, width } = place;
  return (
    <g data-source={at} class={`word ${now ? "reading" : ""} ${lit ? "lit" : ""}`} onMouseEnter={() => onPoint(at)} onMouseLeave={() => onPoint(null)}>
      {now && <rect class="now" x={x - width / 2 + 1} y={y + 1} width={width - 2} height={44} rx={4} />}
      <text x={x} y={y + 16} text-anchor="middle" fill-opacity={told === null ? undefined : ink(told)}>{text}</text>
      {told !== null && told >= 0 && <path class="told" d={`M${x - TOLD_WIDTH / 2} ${y + 20.5}h${(TOLD_WIDTH * told) / 100}`} />}
      {numbers && <Strip numbers={numbers} levels={levels} x={x - strip / 2} y={y + 24} width={CELL} height={16} forward={forward} seen={[first, second]} />}
    </g>
  );
}

export function Flow({ content, variant, view, moment, zoom, lit, onPoint }: Props) {
  const [box, pixels] = useWidth();
  const strip = (view.states[0]?.length ?? 0) * CELL;
  const texts = useMemo(() => view.source.map(show), [view]);
  const { places, width, height, scale } = useMemo(() => layOut(texts, strip, pixels, zoom), [texts, strip, pixels, zoom]);
  const whole = scene(view, variant, moment);
  const there = filled(view.source.length, variant.encoder, moment.phase === "read" ? moment.step : view.source.length + 1);
  const groups = useMemo(() => inGroups(view.source.length), [view]);
  const told = toldAt(view, moment);
  const middle = width / 2;
  // Sizes below the source are those of the screen, whatever the scale of the source.
  const k = Math.min(zoom, pixels / 330) / scale;
  const top = height + 40 * k;
  const most = moment.phase === "write" && view.weights ? largest(whole.threads) : -1;
  const total = height + BELOW * k;
  return (
    <div ref={box}>
      <svg class="flow" width={pixels} height={total * scale} viewBox={`0 0 ${width} ${total}`} role="img"
        aria-label={`how the source reaches the decoder of ${variant.name}`}>
        <g class="threads">
          {places.map(({ x, y }, at) => whole.threads[at] > 0.004 && (
            <path key={at} class="thread" d={`M${x} ${y + 42} C ${x} ${y + 42 + (top - y - 42) / 2}, ${middle} ${top - 40 * k}, ${middle} ${top}`}
              stroke-width={(0.5 + 11 * whole.threads[at]) * k} opacity={0.12 + 0.88 * whole.threads[at]} />
          ))}
        </g>
        {groups.map(group => {
          const states = group.map(at => [there.forward[at], there.backward[at], at === most || at === lit, moment.phase === "read" && there.now.includes(at), told && told[at]]);
          return (
            <Kept key={group[0]} on={[places, view, states.join()]} draw={() => (
              <g>
                {group.map((at, rank) => {
                  const [first, second, isLit, now] = states[rank].map(Boolean);
                  return <Word key={at} at={at} place={places[at]} text={texts[at]} numbers={strip > 0 ? view.states[at] : null} strip={strip}
                    levels={content.levels} forward={variant.forward} first={first} second={second} lit={isLit} now={now} told={told && told[at]} onPoint={onPoint} />;
                })}
              </g>
            )} />
          );
        })}
        <Handed scene={whole} moment={moment} levels={content.levels} x={middle} y={top} scale={k} />
      </svg>
    </div>
  );
}
