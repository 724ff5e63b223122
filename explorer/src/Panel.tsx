// One variant: its picture, what it has written, the likeliest pieces of this step, its stages and its matrix.

import { useMemo, useState } from "preact/hooks";
import { type Content, type Grid, largest, nameOf, percent, show, type Variant, type View } from "./data.ts";
import { Film } from "./Film.tsx";
import { Flow } from "./Flow.tsx";
import { inGroups, Kept } from "./Kept.tsx";
import { Matrix } from "./Matrix.tsx";
import { PictureFlow } from "./PictureFlow.tsx";
import { heaviest, Stages } from "./Stages.tsx";
import type { Moment } from "./timeline.ts";
import { Told } from "./Told.tsx";
import { countTold, toldAt } from "./told.ts";

interface Props {
  content: Content;
  variant: Variant;
  view: View;
  grid?: Grid; // where the source is one
  moment: Moment;
  stage: number; // of attention, from 1; 0: closed
  zoom: number; // of the pictures
  onForce: ((step: number, rank: number) => void) | null; // take another piece at a step, where the page is live
  onStep: (step: number) => void;
}

/** Return a moment of one variant in words, for those who do not see the picture. */
export function describe(variant: Variant, view: View, moment: Moment, grid?: Grid): string {
  if (moment.phase === "read") {
    const step = Math.min(moment.step, view.source.length);
    return variant.encoder.directions === "none" ? `${variant.name} reads all positions at once` : `${variant.name} has read ${step} of ${view.source.length} ${grid ? "cells" : "pieces"}`;
  }
  if (moment.phase === "neck") return variant.width ? `${variant.name}: the source is now one vector of ${variant.width} numbers` : `${variant.name}: no fixed vector`;
  if (moment.phase === "hand-over") {
    return { states: `${variant.name}: all ${view.source.length} states stay within reach`, vector: `${variant.name}: one vector, again at every step`, start: `${variant.name}: one vector, handed over once` }[variant.reads];
  }
  const at = Math.min(moment.step, view.target.length - 1);
  const told = toldAt(view, moment);
  const piece = show(view.target[at]) + (told ? ` (a probe tells ${countTold(told).told} of ${countTold(told).asked} source pieces from its state)` : "");
  return view.weights ? `${variant.name}: ${piece}, looking at ${nameOf(view, largest(view.weights[at]), grid)}` : `${variant.name}: ${piece}`;
}

/** Return the step of the piece under the pointer. */
function stepOf(event: MouseEvent): number | null {
  const piece = (event.target as Element).closest<HTMLElement>("[data-step]");
  return piece ? Number(piece.dataset.step) : null;
}

export function Panel({ content, variant, view, grid, moment, stage, zoom, onForce, onStep }: Props) {
  const [lit, setLit] = useState<{ source: number | null; step: number | null }>({ source: null, step: null });
  const groups = useMemo(() => inGroups(view.target.length), [view]);
  const writing = moment.phase === "write";
  const at = writing ? Math.min(moment.step, view.target.length - 1) : -1;
  const done = writing && moment.step > at;
  const weights = writing && view.weights ? view.weights[at] : null;
  const top = weights ? heaviest(weights, 3).sort((a, b) => weights[b] - weights[a]) : [];
  const both = view.weights && lit.source !== null && lit.step !== null;
  return (
    <section class="variant" data-variant={variant.name} aria-label={variant.name}>
      <h2>{variant.name}</h2>
      {grid
        ? <PictureFlow content={content} grid={grid} variant={variant} view={view} moment={moment} zoom={zoom} lit={lit.source} onPoint={source => setLit({ source, step: null })} />
        : <Flow content={content} variant={variant} view={view} moment={moment} zoom={zoom} lit={lit.source} onPoint={source => setLit({ source, step: null })} />}
      <Told variant={variant} view={view} moment={moment} lit={lit.source} />
      <p class="faint looks" dir="auto">
        {weights ? `looks at ${top.map(source => `${nameOf(view, source, grid)} ${percent(weights[source], view.parts!)}`).join(", ")}` : "\u00a0"}
      </p>
      {writing && stage > 0 && (view.weights
        ? <Stages content={content} variant={variant} view={view} step={at} stage={stage} />
        : <p class="faint stages">Nothing to take apart: this decoder has no attention.</p>)}
      {writing && (
        <table class="choices" aria-label="likeliest pieces at this step"><tbody>
          {view.choices[at].map(([piece, share], rank) => (
            <tr key={piece}>
              <td>{onForce && piece !== view.target[at]
                ? <button class="force" title="write this piece here, and go on" onClick={() => onForce(at, rank)}>{show(piece)}</button> : show(piece)}</td>
              <td class="long"><div style={{ width: `${(100 * share) / content.parts}%` }} /></td>
              <td class="share">{percent(share, content.parts)}</td>
            </tr>
          ))}
        </tbody></table>
      )}
      <div class="output" dir="auto" aria-label="written so far" onClick={event => { const step = stepOf(event); if (step !== null) onStep(step); }}
        onMouseOver={event => setLit({ source: null, step: stepOf(event) })} onMouseLeave={() => setLit({ source: null, step: null })}>
        {groups.map(group => {
          const states = group.map(step => `${step === at && !done ? "now" : step <= at ? "past" : "later"} ${step === lit.step ? "lit" : ""}`);
          return <Kept key={group[0]} on={[view, states.join()]} draw={() => <>{group.map((step, rank) => (
            <span key={step} data-step={step} class={states[rank]}>{show(view.target[step])}</span>
          ))}</>} />;
        })}
      </div>
      <p class="faint whole" dir="auto">Whole translation: {view.text}</p>
      {view.weights && grid && <Film grid={grid} view={view} name={variant.name.replace(/\W/g, "-")} step={at} zoom={zoom} lit={lit.step} onPoint={(source, step) => setLit({ source, step })} onStep={onStep} />}
      {view.weights
        ? !grid && <Matrix view={view} step={at} zoom={zoom} lit={lit} onPoint={(source, step) => setLit({ source, step })} onStep={onStep} />
        : <p class="faint">{variant.reads === "vector" ? "No matrix: the decoder reads the same vector at every step."
          : "No matrix: the decoder receives one vector before its first step, and nothing to look back at."}</p>}
      <p class="faint tip" dir="auto">
        {grid && lit.source !== null ? `${nameOf(view, lit.source, grid)}${weights ? `: ${percent(weights[lit.source], view.parts!)}` : ""}` : ""}
        {both ? `${show(view.target[lit.step!])} looks at ${show(view.source[lit.source!])}: ${percent(view.weights![lit.step!][lit.source!], view.parts!)}` : ""}
      </p>
    </section>
  );
}
