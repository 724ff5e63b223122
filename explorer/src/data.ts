// What Python puts on the page: page_content in src/hourglass/analysis/explorer.py.

export interface Encoder {
  name: string;
  directions: "both" | "forward" | "none";
  reversed: boolean;
  layers: number;
}

export interface Decoder {
  query: "previous" | "current";
  feeding: boolean;
  readout: "tanh" | "deep" | "maxout" | "state";
  start: "dense" | "pass" | "zero";
  width: number;
}

export type Kind = "states" | "summary" | "hidden" | "readouts";

export interface Variant {
  name: string;
  attention: string;
  width: number; // numbers of the fixed vector
  reads: "states" | "vector" | "start";
  encoder: Encoder;
  decoder: Decoder;
  scales: Record<Kind, number>; // the value of a full cell
  forward: number; // numbers shown of the forward direction, of those of a state; 0: there is one direction
  probe?: Probe;
  maps?: WordMap[]; // of its embeddings; a model of features, or of characters, has none
}

/** Frequent words in the plane of most variance of their embeddings. */
export interface WordMap {
  side: "source" | "target" | "source and target";
  words: string[]; // the most frequent first
  places: [number, number][];
  shown: number; // the share of the variance
}

/** How good the linear probes of the decoder's state are on held-out sentences, by groups of steps. */
export interface Probe {
  sentences: number; // of train that they have learnt from
  positions: number; // of the source that they are asked of
  first: number[]; // the first step of each group; 0 is before the first piece
  right: number[]; // percent of pieces that are named
  chance: number[]; // percent that the frequencies name
}

export interface View {
  source: string[]; // S pieces
  target: string[]; // T pieces
  text: string;
  choices: [string, number][][]; // of each step the likeliest pieces, with their parts of Content.parts
  states: number[][]; // [S][F], whole numbers up to Content.levels
  summary: number[];
  start?: number[]; // the decoder's state before its first step
  hidden: number[][]; // [T][F]
  readouts: number[][]; // [T][F]
  parts?: number; // of a weight of 1
  weights?: number[][]; // [T][S]
  contexts?: number[][]; // [T][F], of the kind "states"
  scores?: number[][]; // [T][S]
  told?: number[][]; // [T + 1][S], percent of the bits of each piece that a probe tells from the decoder's state before the first step and after each; -1: not asked
  beam?: Beam;
}

/** A hypothesis of a beam search and one piece more. */
export type Branch = [
  origin: number, // its place among those that the step before kept
  piece: string,
  logProbability: number, // of the whole, in nats
  fate: number, // of FATES
  score?: number, // with the length penalty, of what is finished or cut off
];

export const FATES = ["pruned", "kept", "finished", "cut off"];

export interface Beam {
  width: number;
  alpha: number; // of the length penalty
  steps: Branch[][]; // likeliest first; of those that are pruned, the likeliest alone
  found: [text: string, step: number, place: number][]; // finished hypotheses, the best first
  greedy: [text: string, logProbability: number, score: number, pieces: number]; // in the same search
}

/** A variant at a point of its training. */
export interface Reading {
  name: string;
  family: string; // the same of variants that differ in the width of their vector alone
  width: number;
  variant: number; // of Content.variants; -1: it has no panel
  end: boolean; // it is what its panel shows
  tokens: number; // target tokens read
  lengths: [low: number, high: number | null, score: number | null][]; // recorded scores by source words
}

/** What a reading makes of a sentence; what is missing is not kept, or, of an `end`, is in the view and the bits. */
export interface Read {
  text?: string;
  target?: string[];
  parts?: number;
  weights?: number[][];
  bits?: number[]; // of each word of the reference
}

/** What is read in place of a text: cells row by row, over a picture where they are its patches. */
export interface Grid {
  columns: number;
  cells: number;
  image?: string; // the address of the picture
}

export interface Bits {
  words: string[]; // of the reference, and the end of the sentence
  blind: number[]; // bits that each costs the blind decoder
  variants: number[][]; // bits that each costs each variant
}

export interface Sentence {
  id: string;
  source: string;
  reference: string;
  words: number;
  disorder: number;
  views: View[];
  bits?: Bits;
  readings?: Read[]; // of Content.readings
  grid?: Grid;
}

export interface Content {
  title: string;
  levels: number;
  parts: number;
  live?: boolean; // the page is served, and its models translate
  variants: Variant[];
  sentences: Sentence[];
  readings?: Reading[]; // of each variant in the order of its training
  metric?: { name: string; higher: boolean } | null; // of the recorded scores
}

const SPACE = "\u2581"; // SentencePiece's mark of a space, at the start of a piece
export const END = "(end)";

/** Return a piece as readers see it: one that continues a word begins with +. */
export function show(piece: string): string {
  if (piece === END) return piece;
  if (!piece.startsWith(SPACE)) return "+" + piece;
  return piece.slice(1).replaceAll(SPACE, "\u00a0") || "\u2423";
}

/** Return a source position as readers name it: its piece, or its cell. */
export function nameOf(view: Pick<View, "source">, at: number, grid?: Grid): string {
  if (!grid) return show(view.source[at]);
  return `cell ${at + 1} (row ${Math.floor(at / grid.columns) + 1}, column ${(at % grid.columns) + 1})`;
}

export const percent = (part: number, parts: number): string => `${((100 * part) / parts).toFixed(1)} %`;

/** Return the place of the largest number. */
export const largest = (numbers: number[]): number => numbers.indexOf(Math.max(...numbers));
