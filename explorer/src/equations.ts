// The equation of each variant's score, as its class in src/hourglass/models/attention.py states it.

export interface Equation {
  score: string;
  source: string;
}

const EQUATIONS: Record<string, Equation> = {
  mean: { score: "scoreₛ = 0, the same for all", source: "a control: all states weigh the same" },
  bahdanau: { score: "scoreₛ = v · tanh(W q + U kₛ)", source: "Bahdanau et al. 2014, appendix A.1.2" },
  bahdanau_normed: { score: "scoreₛ = g v/|v| · tanh(W q + U kₛ + b)", source: "TensorFlow NMT; Salimans and Kingma 2016" },
  luong_dot: { score: "scoreₛ = q · kₛ", source: "Luong et al. 2015, section 3.1" },
  luong_general: { score: "scoreₛ = q · W kₛ", source: "Luong et al. 2015, section 3.1" },
  luong_scaled: { score: "scoreₛ = g q · W kₛ", source: "TensorFlow NMT" },
  luong_concat: { score: "scoreₛ = v · tanh(W [q; kₛ])", source: "Luong et al. 2015, section 3.1" },
  luong_location: { score: "scoreₛ = (W q)ₛ", source: "Luong et al. 2015, section 3.1" },
  luong_local_m: { score: "scoreₛ = q · W kₛ, near position t alone", source: "Luong et al. 2015, section 3.2" },
  luong_local_p: { score: "scoreₛ = q · W kₛ, near a predicted position, times a Gaussian", source: "Luong et al. 2015, equations 9 and 10" },
  multi_head: { score: "scoreₛ = (Wₙ q) · (Uₙ kₛ) / √A, for each head n", source: "Vaswani et al. 2017, section 3.2.2" },
};

/** Return the equation of an attention; one of a plugin has none here. */
export function equation(attention: string): Equation {
  return EQUATIONS[attention] ?? { score: `the scores of ${attention}`, source: "see its class" };
}
