// Bits by sentence length: one mark for each sentence and variant, from which a sentence can be chosen.

import { saved } from "./bits.ts";
import type { Content, Variant } from "./data.ts";
import { useWidth } from "./width.ts";

const HEIGHT = 230, LEFT = 44, RIGHT = 16, TOP = 12, BOTTOM = 40;
// Shapes, so that variants differ without colour.
const SHAPES = ["M0 -4L4 4H-4z", "M-3.5 -3.5h7v7h-7z", "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", "M0 -5L5 0L0 5L-5 0z", "M-4 -4L4 4M-4 4L4 -4"];

interface Props {
  content: Content;
  shown: { variant: Variant; index: number }[];
  sentence: number;
  onPick: (sentence: number) => void;
}

export interface Mark {
  sentence: number;
  words: number;
  bits: number[]; // saved by each variant of the page
}

/** Return what each sentence with bits has saved, from short to long. */
export function marks(content: Pick<Content, "sentences">): Mark[] {
  return content.sentences
    .flatMap(({ words, bits }, sentence) => (bits
      ? [{ sentence, words, bits: bits.variants.map(own => saved(bits.blind, own).reduce((sum, each) => sum + each, 0)) }] : []))
    .sort((a, b) => a.words - b.words || a.sentence - b.sentence);
}

/** Return the sentence whose mark is nearest to a number of words. */
export function nearest(all: Mark[], words: number): number {
  return all.reduce((best, one) => (Math.abs(one.words - words) < Math.abs(best.words - words) ? one : best)).sentence;
}

export function Lengths({ content, shown, sentence, onPick }: Props) {
  const [box, pixels] = useWidth();
  const width = Math.min(pixels, 900);
  const all = marks(content);
  const longest = Math.max(...all.map(one => one.words));
  const own = (one: Mark) => shown.map(({ index }) => one.bits[index]);
  const highest = Math.max(1, ...all.flatMap(own)), lowest = Math.min(0, ...all.flatMap(own));
  const x = (words: number) => LEFT + (words / longest) * (width - LEFT - RIGHT);
  const y = (bits: number) => TOP + ((highest - bits) / (highest - lowest)) * (HEIGHT - TOP - BOTTOM);
  const place = all.findIndex(one => one.sentence === sentence);
  const now = all[place];
  const pick = (event: MouseEvent) => {
    const surface = (event.currentTarget as Element).getBoundingClientRect();
    onPick(nearest(all, ((event.clientX - surface.left - LEFT) / (width - LEFT - RIGHT)) * longest));
  };
  return (
    <section class="meter" id="lengths" aria-label="bits by sentence length">
      <h2>Bits by sentence length</h2>
      <p class="faint">Each mark is a sentence of this page: bits that the variant saves over the blind decoder. Do they
        grow with the sentence, or level off at what one vector holds? Click to choose a sentence, or move the slider.</p>
      <p class="legend">{shown.map(({ variant, index }) => (
        <span key={variant.name}><svg width={14} height={14} viewBox="-7 -7 14 14" aria-hidden="true"><path class="mark" d={SHAPES[index % SHAPES.length]} /></svg> {variant.name}</span>
      ))}</p>
      <div ref={box} />
      <svg class="chart lengths" width={width} height={HEIGHT} viewBox={`0 0 ${width} ${HEIGHT}`} role="img" onClick={pick}
        aria-label={`bits saved by sentence length, of ${all.length} sentences of up to ${longest} words`}>
        {[lowest, 0, highest].filter(value => value === 0 || Math.abs(y(value) - y(0)) > 14).map(value => (
          <g key={value}>
            <path class="frame" d={`M${LEFT} ${y(value)}H${width - RIGHT}`} />
            <text class="small" x={LEFT - 6} y={y(value) + 4} text-anchor="end">{value.toFixed(0)}</text>
          </g>
        ))}
        {[1, Math.round(longest / 2), longest].map(words => (
          <text key={words} class="small" x={x(words)} y={HEIGHT - BOTTOM + 18} text-anchor="middle">{words}</text>
        ))}
        <text class="small" x={LEFT} y={HEIGHT - 6}>source words</text>
        {now && <path class="now" d={`M${x(now.words)} ${TOP}V${HEIGHT - BOTTOM}`} />}
        {all.flatMap(one => shown.map(({ index }) => (
          <path key={`${one.sentence} ${index}`} class={`mark ${one.sentence === sentence ? "lit" : ""}`} d={SHAPES[index % SHAPES.length]}
            transform={`translate(${x(one.words).toFixed(1)} ${y(one.bits[index]).toFixed(1)})`} />
        )))}
      </svg>
      {place >= 0 && <input id="length" type="range" min={0} max={all.length - 1} value={place} aria-label="sentence by length"
        aria-valuetext={`${now.words} words`} onInput={event => onPick(all[Number(event.currentTarget.value)].sentence)} />}
    </section>
  );
}
