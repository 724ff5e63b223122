// The page served by explore.py serve=true: its models translate what is typed, and take another piece where one is forced.

import type { Content, Sentence, View } from "./data.ts";

type Written = Pick<View, "choices" | "target">;

/** Return the ranks of a view's pieces among the likeliest of their steps: 0 but where one was forced. */
export function ranks(view: Written): number[] {
  return view.target.map((piece, at) => Math.max(0, view.choices[at].findIndex(([other]) => other === piece)));
}

/** Return the ranks of a view's pieces up to a step, and the rank of the piece that is to be written there. */
export const forcedRanks = (view: Written, step: number, rank: number): number[] => [...ranks(view).slice(0, step), rank];

/** Ask the models for their translations of a text. */
export async function translate(text: string, forced: number[][] = []): Promise<Sentence> {
  const answer = await fetch("/translate", { method: "POST", body: JSON.stringify({ text, forced }) });
  const content = (await answer.json()) as Sentence & { error?: string };
  if (content.error) throw new Error(content.error);
  return content;
}

/** Return the content with one sentence more, which has an id of its own, and the sentence's number. */
export function added(content: Content, sentence: Sentence): [Content, number] {
  const number = content.sentences.length;
  return [{ ...content, sentences: [...content.sentences, { ...sentence, id: `own-${number}` }] }, number];
}
