// Attention taken apart: what a step of the decoder computes, one thing after the other.

import type { Decoder, Variant } from "./data.ts";
import { equation } from "./equations.ts";

export type StageName = "state" | "scores" | "softmax" | "products" | "sum" | "readout" | "choice";

export interface Stage {
  name: StageName;
  title: string;
  equation: string;
}

/** Return how the readout is written, with what it reads. */
export function readoutEquation(decoder: Decoder): string {
  switch (decoder.readout) {
    case "tanh": return "r = tanh(W [h; c])";
    case "deep": return "r = tanh(W [h; c; e])";
    case "maxout": return "r = maxout(W [h; c; e])";
    case "state": return "r = h";
  }
}

/**
 * Return the stages of a step in their order.
 *
 * Luong's decoder takes its step first and asks with the new state; Bahdanau's asks with the state before the step, and
 * the answer enters the step.
 */
export function stages(variant: Pick<Variant, "attention" | "decoder">): Stage[] {
  const { query, feeding } = variant.decoder;
  const early = query === "previous";
  const fed = feeding ? "; r of the last step" : "";
  const state: Stage = early
    ? { name: "state", title: "The step: the decoder reads its last piece and the context", equation: `h = RNN(h of the last step, [e${fed}; c])` }
    : { name: "state", title: "The step: the decoder reads its last piece, and asks with its new state", equation: `h = RNN(h of the last step, [e${fed}]);  q = h` };
  const asking: Stage[] = [
    {
      name: "scores",
      title: early ? "Scores: it asks before the step, with the state of the last one" : "Scores: how well each state answers the question",
      equation: (early ? "q = h of the last step;  " : "") + equation(variant.attention).score,
    },
    { name: "softmax", title: "Softmax: scores become weights that sum to 1", equation: "wₛ = exp(scoreₛ) / Σ exp(score)" },
    { name: "products", title: "Weights times states", equation: "wₛ kₛ" },
    { name: "sum", title: "The sum: one vector, the context of this step", equation: "c = Σ wₛ kₛ" },
  ];
  return [
    ...(early ? [...asking, state] : [state, ...asking]),
    { name: "readout", title: "State and context side by side make the readout", equation: readoutEquation(variant.decoder) },
    { name: "choice", title: "The likeliest piece is written", equation: "p = softmax(V r)" },
  ];
}

/** Return the number of stages that all variants have. */
export const STAGES = 7;
