// Scores and bits by sentence length, over one scale of lengths, from which a sentence is chosen.

import { saved } from "./bits.ts";
import { readingAt, tokensInWords } from "./compare.ts";
import type { Content, Reading, Variant } from "./data.ts";
import { useWidth } from "./width.ts";

const HEIGHT = 230, LEFT = 44, RIGHT = 16, TOP = 12, BOTTOM = 40;
// Shapes, so that variants differ without colour.
const SHAPES = ["M0 -4L4 4H-4z", "M-3.5 -3.5h7v7h-7z", "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", "M0 -5L5 0L0 5L-5 0z", "M-4 -4L4 4M-4 4L4 -4"];

interface Props {
  content: Content;
  shown: { variant: Variant; index: number }[];
  sentence: number;
  tokens: number | null; // after which scores are shown; null: the end
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

/** Return the test sentences of the page from short to long. */
export function byLength(content: Pick<Content, "sentences">): Pick<Mark, "sentence" | "words">[] {
  return content.sentences.map(({ words }, sentence) => ({ sentence, words })).sort((a, b) => a.words - b.words || a.sentence - b.sentence);
}

/** Return the bucket of a length; null where there is none, or it has no score. */
export function bucketOf(reading: Pick<Reading, "lengths">, words: number): Reading["lengths"][number] | null {
  return reading.lengths.find(([low, high, score]) => score !== null && words >= low && (high === null || words <= high)) ?? null;
}

/** Return the bounds of a bucket in words. */
export const bounds = (low: number, high: number | null): string => (high === null ? `${low} or more words` : `${low} to ${high} words`);

/** Return the sentence whose mark is nearest to a number of words. */
export function nearest(all: Pick<Mark, "sentence" | "words">[], words: number): number {
  return all.reduce((best, one) => (Math.abs(one.words - words) < Math.abs(best.words - words) ? one : best)).sentence;
}

interface FrameProps {
  id: string;
  label: string;
  width: number;
  lowest: number;
  highest: number;
  longest: number; // words
  now: number | null; // words of the sentence that is shown
  onWords: (words: number) => void;
  children: (x: (words: number) => number, y: (value: number) => number) => preact.ComponentChildren;
}

/** The axes of a chart over lengths; a click on it chooses a length. */
function Frame({ id, label, width, lowest, highest, longest, now, onWords, children }: FrameProps) {
  const x = (words: number) => LEFT + (words / longest) * (width - LEFT - RIGHT);
  const y = (value: number) => TOP + ((highest - value) / (highest - lowest)) * (HEIGHT - TOP - BOTTOM);
  const pick = (event: MouseEvent) => {
    const surface = (event.currentTarget as Element).getBoundingClientRect();
    onWords(((event.clientX - surface.left - LEFT) / (width - LEFT - RIGHT)) * longest);
  };
  return (
    <svg id={id} class="chart lengths" width={width} height={HEIGHT} viewBox={`0 0 ${width} ${HEIGHT}`} role="img" onClick={pick} aria-label={label}>
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
      {now !== null && <path class="now" d={`M${x(now)} ${TOP}V${HEIGHT - BOTTOM}`} />}
      {children(x, y)}
    </svg>
  );
}

export function Lengths(props: Props) {
  const { content, shown, tokens } = props;
  const readings = content.readings ?? [];
  const known = marks(content).length > 0 || shown.some(one => readings[readingAt(readings, one.variant.name, tokens)]?.lengths.length);
  return known ? <Charts {...props} /> : null;
}

function Charts({ content, shown, sentence, tokens, onPick }: Props) {
  const [box, pixels] = useWidth();
  const width = Math.min(pixels, 900);
  const all = byLength(content), bits = marks(content);
  const longest = Math.max(...all.map(one => one.words));
  const own = (one: Mark) => shown.map(({ index }) => one.bits[index]);
  const readings = content.readings ?? [];
  const scored = shown.map(one => ({ ...one, reading: readings[readingAt(readings, one.variant.name, tokens)] })).filter(one => one.reading?.lengths.length);
  const without = shown.filter(one => !scored.some(each => each.index === one.index)).map(one => one.variant.name);
  const place = all.findIndex(one => one.sentence === sentence);
  const now = place >= 0 ? all[place].words : null;
  const metric = content.metric?.name ?? "";
  const scores = scored.flatMap(one => one.reading.lengths.map(([, , score]) => score ?? 0));
  const buckets = now === null ? [] : scored.flatMap(one => {
    const bucket = bucketOf(one.reading, now);
    return bucket ? [{ name: one.variant.name, bucket }] : [];
  });
  const frame = { width, longest, now, onWords: (words: number) => onPick(nearest(all, words)) };
  const middle = (low: number, high: number | null) => (low + Math.min(high ?? longest, longest)) / 2;
  const highestBits = Math.max(1, ...bits.flatMap(own)), lowestBits = Math.min(0, ...bits.flatMap(own));
  return (
    <section class="meter" id="lengths" aria-label="by sentence length">
      <h2>By sentence length</h2>
      <p class="faint">{scored.length > 0 && `${metric} of all test sentences, by source words${content.metric?.higher ? "" : " (lower is better)"}. `}
        {bits.length > 0 && "Bits: each mark is a sentence of this page, and the bits that the variant saves over the blind decoder. Do they grow with the sentence, or level off at what one vector holds? "}
        Click to choose a sentence, or move the slider.{scored.length > 0 && without.length > 0 && ` No recorded scores: ${without.join(", ")}.`}</p>
      <p class="legend">{shown.map(({ variant, index }) => (
        <span key={variant.name}><svg width={14} height={14} viewBox="-7 -7 14 14" aria-hidden="true"><path class="mark" d={SHAPES[index % SHAPES.length]} /></svg> {variant.name}</span>
      ))}</p>
      <div ref={box} />
      {scored.length > 0 && <>
        <h3>{metric}{tokens !== null && <span class="faint"> after {tokensInWords(Math.max(...scored.map(one => one.reading.tokens)))} target tokens</span>}</h3>
        <Frame {...frame} id="score-by-length" lowest={0} highest={Math.max(1, ...scores)} label={`${metric} by sentence length: ${scored.map(one => `${one.variant.name} ${one.reading.lengths.map(([low, high, score]) => `${score?.toFixed(1) ?? "none"} at ${bounds(low, high)}`).join(", ")}`).join("; ")}`}>
          {(x, y) => scored.map(({ variant, index, reading }) => {
            const known = reading.lengths.flatMap(([low, high, score]) => (score === null || low > longest ? [] : [{ low, high, score }]));
            return (
              <g key={variant.name} data-scored={variant.name}>
                <path class="sum thin" d={known.map(({ low, high, score }, at) => `${at ? "L" : "M"}${x(middle(low, high)).toFixed(1)} ${y(score).toFixed(1)}`).join("")} />
                {known.map(({ low, high, score }) => (
                  <path key={low} class={`mark ${now !== null && now >= low && (high === null || now <= high) ? "lit" : ""}`} d={SHAPES[index % SHAPES.length]}
                    transform={`translate(${x(middle(low, high)).toFixed(1)} ${y(score).toFixed(1)})`} />
                ))}
              </g>
            );
          })}
        </Frame>
        <p class="faint tip">{buckets.length > 0 && `${bounds(buckets[0].bucket[0], buckets[0].bucket[1])}: ${buckets.map(one => `${one.name} ${one.bucket[2]!.toFixed(1)}`).join(", ")}`}</p>
      </>}
      {bits.length > 0 && <>
        <h3>Bits saved over the blind decoder{tokens !== null && <span class="faint"> at the end of the training</span>}</h3>
        <Frame {...frame} id="bits-by-length" lowest={lowestBits} highest={highestBits} label={`bits saved by sentence length, of ${bits.length} sentences of up to ${longest} words`}>
          {(x, y) => bits.flatMap(one => shown.map(({ index }) => (
            <path key={`${one.sentence} ${index}`} class={`mark ${one.sentence === sentence ? "lit" : ""}`} d={SHAPES[index % SHAPES.length]}
              transform={`translate(${x(one.words).toFixed(1)} ${y(one.bits[index]).toFixed(1)})`} />
          )))}
        </Frame>
      </>}
      {place >= 0 && <input id="length" type="range" min={0} max={all.length - 1} value={place} aria-label="sentence by length"
        aria-valuetext={`${now} words`} onInput={event => onPick(all[Number(event.currentTarget.value)].sentence)} />}
    </section>
  );
}
