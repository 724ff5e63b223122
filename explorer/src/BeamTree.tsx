// Beam search beside greedy search: the tree of hypotheses, and what it has found.

import { useMemo } from "preact/hooks";
import { lengthPenalty, parent, pathOf, pathTo, rows } from "./beam.ts";
import { type Beam, FATES, show, type Variant, type View } from "./data.ts";
import { textWidth } from "./layout.ts";
import { useWidth } from "./width.ts";

const LINE = 19, HEAD = 20, EDGE = 26; // height of a line, of the number of a step; room of an edge
const MARKS = ["\u00d7", "", "\u25a0", "\u25a1"]; // of FATES: signs, so that nothing hangs on colour

interface Props {
  open: boolean;
  onOpen: (open: boolean) => void;
  shown: { variant: Variant; view: View }[];
  step: number; // of the decoder; -1: it does not write yet
  onStep: (step: number) => void;
}

function Tree({ beam, view, step, onStep }: { beam: Beam; view: View; step: number; onStep: (step: number) => void }) {
  const [box, pixels] = useWidth();
  const [best, greedy] = useMemo(() => [beam.found.length ? pathTo(beam, beam.found[0][1], beam.found[0][2]) : [], pathOf(beam, view.target)], [beam, view]);
  const widths = useMemo(() => beam.steps.map(branches => EDGE + 16 + Math.max(...branches.map(branch => textWidth(show(branch[1]))))), [beam]);
  const drawn = useMemo(() => rows(widths, pixels).map(([first, last]) => {
    const lines = Math.max(...beam.steps.slice(Math.max(0, first - 1), last + 1).map(branches => branches.length));
    const lefts = widths.slice(first, last + 1).reduce((all, one) => [...all, all[all.length - 1] + one], [0]);
    const height = HEAD + lines * LINE + 4;
    const y = (place: number) => HEAD + place * LINE + LINE / 2;
    const own = beam.steps.slice(first, last + 1).map((branches, column) => {
      const at = first + column, left = lefts[column];
      return (
        <g key={at} data-step={at}>
          <text class="small" x={left + EDGE} y={13}>{at + 1}</text>
          {branches.map((branch, place) => {
            const before = parent(beam, at, place);
            const name = `${FATES[branch[3]].replace(" ", "-")} ${best[at] === place ? "best" : ""} ${greedy[at] === place ? "greedy" : ""}`;
            // An edge to the row before begins at the left end.
            return (
              <g key={place} class={`branch ${name}`}>
                {before !== null && <path d={`M${column ? left - 2 : left} ${y(before)}C${left + EDGE / 2} ${y(before)} ${left + EDGE / 2} ${y(place)} ${left + EDGE - 4} ${y(place)}`} />}
                <text x={left + EDGE} y={y(place) + 4}>{MARKS[branch[3]]}{show(branch[1])}</text>
                <title>{`${show(branch[1])}: ${FATES[branch[3]]}, log-probability ${branch[2].toFixed(2)}${branch[4] === undefined ? "" : `, score ${branch[4].toFixed(3)}`}`}</title>
              </g>
            );
          })}
        </g>
      );
    });
    return { first, last, height, width: lefts[lefts.length - 1], lefts, own };
  }), [beam, pixels, widths, best, greedy]);
  return (
    <div ref={box}>
      {drawn.map(row => (
        <svg key={row.first} class="tree" width={Math.min(pixels, row.width)} height={row.height * Math.min(1, pixels / row.width)} viewBox={`0 0 ${row.width} ${row.height}`} role="img"
          aria-label={`hypotheses of steps ${row.first + 1} to ${row.last + 1} of ${beam.steps.length}`}
          onClick={event => { const at = (event.target as Element).closest<SVGElement>("[data-step]"); if (at) onStep(Number(at.dataset.step)); }}>
          {step >= row.first && step <= row.last && <rect class="now" x={row.lefts[step - row.first] + EDGE - 5} y={1} width={widths[step] - EDGE - 2} height={row.height - 3} rx={4} />}
          {row.own}
        </svg>
      ))}
    </div>
  );
}

function Found({ beam }: { beam: Beam }) {
  const [text, logProbability, score, pieces] = beam.greedy;
  const line = (name: string, translation: string, own: [number, number, number], complete: boolean) => (
    <tr key={name}>
      <th scope="row">{name}</th><td dir="auto">{translation || "(nothing)"}{complete ? "" : " \u2026 (cut off at the limit)"}</td>
      <td class="share">{own[0].toFixed(2)}</td><td class="share">{own[1]}</td><td class="share">{lengthPenalty(own[1], beam.alpha).toFixed(2)}</td><td class="share">{own[2].toFixed(3)}</td>
    </tr>
  );
  return (
    <div class="wide" tabIndex={0} role="group" aria-label="table, which may be wider than the page"><table class="found" aria-label="what the searches have found">
      <thead><tr><th scope="col">search</th><th scope="col">translation</th><th scope="col">log-probability</th><th scope="col">pieces</th><th scope="col">length penalty</th><th scope="col">score</th></tr></thead>
      <tbody>
        {line("greedy", text, [logProbability, pieces, score], true)}
        {beam.found.map(([translation, step, place], rank) => {
          const branch = beam.steps[step][place];
          return line(rank ? `beam, ${rank + 1}` : "beam, best", translation, [branch[2], step + 1, branch[4] ?? 0], branch[3] === 2);
        })}
      </tbody>
    </table></div>
  );
}


export function BeamTrees({ open, onOpen, shown, step, onStep }: Props) {
  const own = shown.filter(one => one.view.beam);
  if (!own.length) return null;
  return (
    <section class="meter" id="beam" aria-label="beam search beside greedy search">
      <h2><button id="open-beam" aria-expanded={open} onClick={() => onOpen(!open)} title="open or close (b)">{open ? "\u25be" : "\u25b8"} Beam search beside greedy search</button></h2>
      {open && <>
        <p class="faint">Greedy search takes the likeliest piece at each step. Beam search goes on with several hypotheses: at each step it
          continues all of them, keeps the likeliest, and ends with the one of the best score, which is the log-probability over the length
          penalty. {MARKS[2]} it ends here; {MARKS[0]} pruned, the likeliest of those alone. Thick: what beam search returns. Underlined: greedy
          search, as long as the beam keeps it.</p>
        {own.map(({ variant, view }) => (
          <section key={variant.name} class="searched" data-searched={variant.name} aria-label={`${variant.name}: beam of ${view.beam!.width}`}>
            <h3>{variant.name} <span class="faint">beam of {view.beam!.width}</span></h3>
            <Found beam={view.beam!} />
            <Tree beam={view.beam!} view={view} step={Math.min(step, view.beam!.steps.length - 1)} onStep={onStep} />
          </section>
        ))}
      </>}
    </section>
  );
}
