// The same sentence at points of a training, and over widths of the neck: what the page compares.

import { saved } from "./bits.ts";
import type { Content, Read, Reading, Sentence } from "./data.ts";

/** Return the numbers of target tokens after which something was read, in ascending order. */
export function points(readings: Pick<Reading, "tokens">[]): number[] {
  return [...new Set(readings.map(one => one.tokens))].sort((a, b) => a - b);
}

/** Return the place of the last point that is not after so many tokens; null: of the last of all. */
export function placeOf(all: number[], tokens: number | null): number {
  return Math.max(0, tokens === null ? all.length - 1 : all.filter(one => one <= tokens).length - 1);
}

/**
 * Return the number of the reading of a variant after so many target tokens, or before, as late as there is one.
 *
 * @param readings of all variants
 * @param name the variant's
 * @param tokens null: the last
 */
export function readingAt(readings: Reading[], name: string, tokens: number | null): number {
  const own = readings.map((_, at) => at).filter(at => readings[at].name === name);
  const before = own.filter(at => tokens === null || readings[at].tokens <= tokens);
  return before.length ? before[before.length - 1] : own[0] ?? -1;
}

/** Return what a reading makes of a sentence, also where that is what its panel shows; null where nothing is known. */
export function readOf(content: Pick<Content, "readings">, sentence: Sentence, at: number): Read | null {
  const reading = content.readings?.[at], read = sentence.readings?.[at];
  if (!reading || !read) return null;
  if (!reading.end) return read;
  const view = sentence.views[reading.variant];
  return { text: view.text, target: view.target, parts: view.parts, weights: view.weights, bits: sentence.bits?.variants[reading.variant] };
}

/** Return the bits that a reading saves over the blind decoder in a sentence; null where they are not known. */
export function bitsSaved(content: Pick<Content, "readings">, sentence: Sentence, at: number): number | null {
  const own = readOf(content, sentence, at)?.bits;
  return own && sentence.bits ? saved(sentence.bits.blind, own).reduce((sum, each) => sum + each, 0) : null;
}

export interface Line {
  name: string;
  marks: { x: number; y: number }[];
}

const withMarks = (lines: Line[], least: number): Line[] => lines.filter(line => new Set(line.marks.map(mark => mark.x)).size >= least);

/** Return the bits saved in a sentence along the training: a line for each variant shown, and for its other widths. */
export function alongTraining(content: Content, sentence: Sentence, variants: number[]): Line[] {
  const readings = content.readings ?? [];
  const families = new Set(readings.filter(one => variants.includes(one.variant)).map(one => one.family));
  const wanted = readings.filter(one => (one.variant < 0 ? families.has(one.family) : variants.includes(one.variant)));
  return withMarks([...new Set(wanted.map(one => one.name))].map(name => ({ name, marks: marksOf(content, sentence, at => readings[at].name === name, at => readings[at].tokens) })), 1);
}

/** Return the bits saved in a sentence by the width of the vector: a line for each family of two widths or more. */
export function alongWidth(content: Content, sentence: Sentence, tokens: number | null): Line[] {
  const readings = content.readings ?? [];
  const latest = new Set(readings.map(one => readingAt(readings, one.name, tokens)));
  const families = [...new Set(readings.map(one => one.family))];
  return withMarks(families.map(name => ({ name, marks: marksOf(content, sentence, at => latest.has(at) && readings[at].family === name, at => readings[at].width) })), 2);
}

function marksOf(content: Content, sentence: Sentence, wanted: (at: number) => boolean, x: (at: number) => number): Line["marks"] {
  const found: Line["marks"] = [];
  content.readings!.forEach((_, at) => {
    const y = wanted(at) ? bitsSaved(content, sentence, at) : null;
    if (y !== null) found.push({ x: x(at), y });
  });
  return found.sort((a, b) => a.x - b.x);
}

/** Return a number of target tokens in words. */
export function tokensInWords(tokens: number): string {
  if (tokens >= 1e6) return `${Number((tokens / 1e6).toPrecision(2))} million`;
  return tokens.toLocaleString("en");
}
