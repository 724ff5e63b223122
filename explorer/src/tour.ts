// The guided tour: eight steps for someone who has never heard of attention.

import type { Content, Sentence } from "./data.ts";
import type { Moment } from "./timeline.ts";

export interface Stop {
  title: string;
  text: string;
  picture?: string; // the text where the source is a picture
  moment: Moment;
  stage?: number;
  scroll?: string; // the id of what is told of
}

export const TOUR: Stop[] = [
  {
    title: "One sentence, several translators",
    text: "Each panel is a small neural network that has learnt to rewrite a sentence. All read the same source. They differ in one thing: how the source reaches the part that writes.",
    picture: "Each panel is a small neural network that has learnt to describe a picture. All see the same one, cut into cells. They differ in one thing: how the picture reaches the part that writes.",
    moment: { phase: "read", step: 1 },
  },
  {
    title: "Reading, word by word",
    text: "The encoder reads one piece at a time and keeps notes: a row of numbers under each piece, drawn as a strip. Tall and filled is far above zero, outlined is below. Where there are two readers, they go in opposite directions, and each fills half of each strip.",
    picture: "The encoder reads the cells and keeps notes of each: a row of numbers. A cell lights up when it has been read. Some encoders read one cell after the other, others all at once.",
    moment: { phase: "read", step: 4 },
  },
  {
    title: "The neck",
    text: "When all is read, the last notes are squeezed into one row of numbers, always the same length, for three words or for sixty. This is the neck of the hourglass.",
    picture: "When all is read, the notes are squeezed into one row of numbers, always the same length, however much there is to see. This is the neck of the hourglass.",
    moment: { phase: "neck" },
  },
  {
    title: "Hand over",
    text: "Without attention, this one row is all that the writer gets: once (none), or again at every step (fixed). With attention, the notes under all pieces stay within reach as well.",
    picture: "Without attention, this one row is all that the writer gets: once (none), or again at every step (fixed); the picture goes dark. With attention, the notes of all cells stay within reach as well.",
    moment: { phase: "hand-over" },
  },
  {
    title: "Writing with nothing but memory",
    text: "The decoder writes one piece at a time. Without attention it has its own state, the lower strip, which every written piece changes. The variant none has nothing else: what it forgets is gone.",
    moment: { phase: "write", step: 2 },
  },
  {
    title: "Looking back",
    text: "With attention, the decoder asks at every step which notes it needs now. The thicker a line, the more it looks there. What it reads is the weighted sum of the notes.",
    picture: "With attention, the decoder asks at every step which notes it needs now. The brighter a cell, the more it looks there. What it reads is the weighted sum of the notes.",
    moment: { phase: "write", step: 3 },
  },
  {
    title: "Attention, taken apart",
    text: "Every note gets a score for the question of this step. The scores become weights that sum to one; each note is multiplied by its weight, and all are added up. Press the full stop for the next stage, the comma for the one before.",
    moment: { phase: "write", step: 3 },
    stage: 5,
  },
  {
    title: "What came through?",
    text: "A translator that never sees the source must guess. Each word that the others guess better has come through. Long sentences show best how much one row of numbers can hold, and what looking back adds: choose one under By sentence length.",
    moment: { phase: "write", step: 1000 },
    scroll: "meter",
  },
];

/** Return the sentence that the tour shows: of middle length, where strips fit and the neck already fails. */
export function tourSentence(content: Pick<Content, "sentences">): number {
  const distance = (one: Sentence) => Math.abs(one.words - 12);
  const order = content.sentences.map((_, at) => at);
  return order.sort((a, b) => distance(content.sentences[a]) - distance(content.sentences[b]))[0];
}
