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
}

export interface Content {
  title: string;
  levels: number;
  parts: number;
  live?: boolean; // the page is served, and its models translate
  variants: Variant[];
  sentences: Sentence[];
}

const SPACE = "\u2581"; // SentencePiece's mark of a space, at the start of a piece
export const END = "(end)";

/** Return a piece as readers see it: one that continues a word begins with +. */
export function show(piece: string): string {
  if (piece === END) return piece;
  if (!piece.startsWith(SPACE)) return "+" + piece;
  return piece.slice(1).replaceAll(SPACE, "\u00a0") || "\u2423";
}

export const percent = (part: number, parts: number): string => `${((100 * part) / parts).toFixed(1)} %`;

/** Return the place of the largest number. */
export const largest = (numbers: number[]): number => numbers.indexOf(Math.max(...numbers));
