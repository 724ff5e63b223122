// Attention taken apart, on the numbers of one step. A stage shows what it computes, and all stages before it.

import { type Content, percent, show, type Variant, type View } from "./data.ts";
import { stages, type StageName } from "./stages.ts";
import { Strip } from "./Strip.tsx";

const MOST = 10; // rows of the table: the source pieces with the largest weights

interface Props {
  content: Content;
  variant: Variant;
  view: View;
  step: number;
  stage: number; // from 1
}

/** Return the source positions with the largest weights, at most `most`, in the order of the source. */
export function heaviest(weights: number[], most: number): number[] {
  const order = weights.map((_, at) => at).sort((a, b) => weights[b] - weights[a] || a - b);
  return order.slice(0, most).sort((a, b) => a - b);
}

/** Return the largest number shown of the context as it is computed: the largest products, and their sum. */
export function workedSum(view: View, variant: Variant, levels: number, step: number): string {
  const weights = view.weights![step].map(weight => weight / view.parts!);
  const sizes = view.contexts![step].map(Math.abs);
  const place = sizes.indexOf(Math.max(...sizes));
  const scale = variant.scales.states / levels;
  const top = heaviest(weights, 3).sort((a, b) => weights[b] - weights[a]);
  const parts = top.map(at => `${weights[at].toFixed(2)} × ${signed(view.states[at][place] * scale)}`);
  const more = weights.length > top.length ? " + …" : "";
  return `${parts.join(" + ")}${more} = ${signed(view.contexts![step][place] * scale)}`;
}

const signed = (value: number): string => (value < 0 ? `(−${Math.abs(value).toFixed(2)})` : value.toFixed(2));

function Vector({ numbers, levels, label, className }: { numbers: number[]; levels: number; label: string; className?: string }) {
  return (
    <svg class="vector" width={numbers.length * 6 + 4} height={20} role="img" aria-label={label}>
      <Strip numbers={numbers} levels={levels} x={2} y={2} width={6} height={16} className={className} />
    </svg>
  );
}

export function Stages({ content, variant, view, step, stage }: Props) {
  const all = stages(variant);
  const now = all[Math.min(stage, all.length) - 1];
  const done = new Set<StageName>(all.slice(0, stage).map(one => one.name));
  const { levels } = content;
  const before = step > 0 ? view.hidden[step - 1] : view.start;
  const rows = heaviest(view.weights![step], MOST);
  const others = view.source.length - rows.length;
  const rest = view.parts! - rows.reduce((sum, at) => sum + view.weights![step][at], 0);
  const last = step > 0 ? show(view.target[step - 1]) : "the start mark";
  const query = variant.decoder.query === "previous" ? before : view.hidden[step];
  return (
    <section class="stages" aria-label={`${variant.name}: attention taken apart`}>
      <p class="stage"><strong>{stage} of {all.length}. {now.title}</strong></p>
      <p class="equation">{now.equation}</p>
      {query && (done.has("scores") || done.has("state")) && (
        <p class="line"><span>{variant.decoder.query === "previous" ? "q, the state of the last step" : "q = h, the new state"}</span>
          <Vector numbers={query} levels={levels} label="the query" /></p>
      )}
      {done.has("scores") && (
        <table class="numbers">
          <thead><tr>
            <th scope="col">piece</th><th scope="col">score</th>
            {done.has("softmax") && <th scope="col">weight</th>}
            {done.has("products") && <><th scope="col">state</th><th scope="col">times weight</th></>}
          </tr></thead>
          <tbody>
            {rows.map(at => {
              const weight = view.weights![step][at] / view.parts!;
              return (
                <tr key={at}>
                  <th scope="row">{show(view.source[at])}</th>
                  <td>{view.scores ? view.scores[step][at].toFixed(2) : "–"}</td>
                  {done.has("softmax") && <td>{percent(weight, 1)}</td>}
                  {done.has("products") && <>
                    <td><Vector numbers={view.states[at]} levels={levels} label="the state" /></td>
                    <td><Vector numbers={view.states[at].map(value => value * weight)} levels={levels} label="the state times its weight" /></td>
                  </>}
                </tr>
              );
            })}
            {others > 0 && <tr><th scope="row">{others} others</th><td />{done.has("softmax") && <td>{percent(Math.max(0, rest), view.parts!)}</td>}</tr>}
          </tbody>
        </table>
      )}
      {done.has("scores") && !view.scores && <p class="faint">Each of its heads has a score of its own; the weights are their mean.</p>}
      {done.has("sum") && <>
        <p class="line"><span>c, the context</span><Vector numbers={view.contexts![step]} levels={levels} label="the context" /></p>
        <p class="faint">Its largest number shown: {workedSum(view, variant, levels, step)}</p>
      </>}
      {variant.decoder.query === "previous" && done.has("state") && (
        <p class="line"><span>h, the new state, from {last} and c</span><Vector numbers={view.hidden[step]} levels={levels} label="the new state" /></p>
      )}
      {done.has("readout") && <>
        <p class="line"><span>[h; c]</span><Vector numbers={view.hidden[step]} levels={levels} label="the state" />
          <Vector numbers={view.contexts![step]} levels={levels} label="the context" /></p>
        <p class="line"><span>r, the readout</span><Vector numbers={view.readouts[step]} levels={levels} label="the readout" /></p>
      </>}
      {done.has("choice") && <p class="line"><span>written: <strong>{show(view.target[step])}</strong>, {percent(view.choices[step][0][1], content.parts)} likely</span></p>}
    </section>
  );
}
