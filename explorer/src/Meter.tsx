// The bits meter: which words of the reference came through, and how the bits that they save add up.

import { useState } from "preact/hooks";
import type { Bits, Variant } from "./data.ts";
import { fate, saved, summed } from "./bits.ts";
import { DASHES, LineNames, room } from "./LineNames.tsx";
import { useWidth } from "./width.ts";

const HEIGHT = 210, LEFT = 44, TOP = 12, BOTTOM = 26;

interface Props {
  bits: Bits;
  shown: { variant: Variant; index: number }[];
}

/** Return at which heights labels stand so that none covers another; all stay between `least` and `most`. */
export function spread(heights: number[], gap: number, most: number): number[] {
  const order = heights.map((_, at) => at).sort((a, b) => heights[a] - heights[b]);
  const placed = [...heights];
  order.forEach((at, rank) => { if (rank) placed[at] = Math.max(placed[at], placed[order[rank - 1]] + gap); });
  let roof = most;
  for (const at of [...order].reverse()) {
    placed[at] = Math.min(placed[at], roof);
    roof = placed[at] - gap;
  }
  return placed;
}

interface FatesProps {
  name: string;
  words: string[]; // of the reference
  blind: number[]; // bits that each costs the blind decoder
  own: number[];
  word?: number | null; // that is pointed at
  onPoint?: (word: number | null) => void;
}

/** The words of the reference, each written as it came through or not. */
export function Fates({ name, words, blind, own, word = null, onPoint }: FatesProps) {
  const each = saved(blind, own);
  return (
    <p class="fates" data-variant={name}>
      <span class="name">{name}</span>
      {words.map((text, at) => {
        const known = fate(blind[at], own[at]);
        return (
          <span key={at} class={`fate ${known.replaceAll(" ", "-")} ${at === word ? "pointed" : ""}`} title={`${each[at].toFixed(1)} of ${blind[at].toFixed(1)} bits saved`}
            onMouseEnter={() => onPoint?.(at)} onMouseLeave={() => onPoint?.(null)}>
            {known === "needs no source" ? `(${text.replace(/^\(|\)$/g, "")})` : text}
          </span>
        );
      })}
    </p>
  );
}

export function Meter({ bits, shown }: Props) {
  const [box, pixels] = useWidth();
  const width = Math.min(pixels, 900);
  const [word, setWord] = useState<number | null>(null);
  const own = shown.map(({ variant, index }) => {
    const each = saved(bits.blind, bits.variants[index]);
    return { variant, index, each, sums: summed(each) };
  });
  const names = own.map(one => one.variant.name);
  const { beside, right } = room(names, width);
  const need = summed(bits.blind)[bits.blind.length];
  const highest = Math.max(1, ...own.flatMap(one => one.sums)), lowest = Math.min(0, ...own.flatMap(one => one.sums));
  const x = (at: number) => LEFT + (at / bits.words.length) * (width - LEFT - right);
  const y = (value: number) => TOP + ((highest - value) / (highest - lowest)) * (HEIGHT - TOP - BOTTOM);
  const labels = spread(own.map(one => y(one.sums[one.sums.length - 1])), 15, HEIGHT - BOTTOM);
  const totals = own.map(one => `${one.variant.name} ${one.sums[one.sums.length - 1].toFixed(0)}`).join(", ");
  const say = word === null ? "" : `${bits.words[word]}: the blind decoder needs ${bits.blind[word].toFixed(1)} bits; saved by `
    + own.map(one => `${one.variant.name} ${one.each[word].toFixed(1)}`).join(", ");
  return (
    <section class="meter" id="meter" aria-label="bits meter">
      <h2>Bits meter: which words came through?</h2>
      <p class="faint">A decoder that never sees the source needs {need.toFixed(0)} bits for this reference. Saved of them: {totals}. Bold
        and underlined: the word came through, as at least half of its bits are saved. Pale: it did not. In brackets:
        the blind decoder needs less than a bit for it, so that it takes no source.</p>
      {own.map(({ variant, index }) => (
        <Fates key={variant.name} name={variant.name} words={bits.words} blind={bits.blind} own={bits.variants[index]} word={word} onPoint={setWord} />
      ))}
      <div ref={box} />
      <svg class="chart" width={width} height={HEIGHT} viewBox={`0 0 ${width} ${HEIGHT}`} role="img" aria-label={`bits saved over the blind decoder, summed along the sentence: in the end ${totals}`}>
        {[lowest, 0, highest].filter(value => value === 0 || Math.abs(y(value) - y(0)) > 14).map(value => (
          <g key={value}>
            <path class="frame" d={`M${LEFT} ${y(value)}H${width - right}`} />
            <text class="small" x={LEFT - 6} y={y(value) + 4} text-anchor="end">{value.toFixed(0)}</text>
          </g>
        ))}
        <text class="small" x={LEFT} y={HEIGHT - 6}>bits saved so far, by word of the reference</text>
        {own.map((one, rank) => (
          <g key={one.variant.name} class="line" data-variant={one.variant.name}>
            <path class="sum" d={one.sums.map((value, at) => `${at ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("")}
              stroke-dasharray={DASHES[one.index % DASHES.length]} />
            {word !== null && <circle class="dot" cx={x(word + 1)} cy={y(one.sums[word + 1])} r={4} />}
            {beside && <text x={width - right + 6} y={labels[rank] + 4}>{one.variant.name}</text>}
          </g>
        ))}
      </svg>
      {!beside && <LineNames names={names} dashes={own.map(one => one.index)} />}
      <p class="faint tip" dir="auto">{say}</p>
    </section>
  );
}

export function NoMeter() {
  return (
    <section class="meter" id="meter" aria-label="bits meter">
      <h2>Bits meter</h2>
      <p class="faint">No bits here: the page was written without a decoder that never sees the source. Name one to see which
        words came through: <code>python pipelines/explore.py RUN blind=RUN</code>.</p>
    </section>
  );
}
