// What the ink of the source pieces means, where a probe of the decoder's state was recorded.

import { show, type Variant, type View } from "./data.ts";
import type { Moment } from "./timeline.ts";
import { countTold, quality, TOLD, toldAt } from "./told.ts";

interface Props {
  variant: Variant;
  view: View;
  moment: Moment;
  lit: number | null; // the source position that is pointed at
}

export function Told({ variant, view, moment, lit }: Props) {
  const told = toldAt(view, moment);
  if (!variant.probe || !told) return null;
  const { told: count, asked } = countTold(told);
  const known = quality(variant.probe, moment);
  return (
    <div class="faint toldlegend">
      <p><strong>A linear probe tells {count} of {asked} pieces</strong> from the decoder's state{lit !== null && told[lit] !== undefined
        ? ` (${show(view.source[lit])}: ${told[lit] < 0 ? "not asked" : `${told[lit]} %`})` : ""}.
        {known && ` On held-out sentences it names ${known.right.toFixed(0)} of 100 pieces here; chance: ${known.chance.toFixed(0)}.`}</p>
      <details><summary>What ink and bar mean</summary>
        <p>The paler a source piece, and the shorter the bar under it, the less of it a linear probe can still tell from the
          decoder's state after this step: percent of the bits that name the piece among those that are as frequent at its
          position. 0 % is chance, what the frequencies alone tell; {TOLD} % and more count as told. The probe learnt from {variant.probe.sentences.toLocaleString("en")} training
          sentences, none of those shown. Another reader might find more: it is a lower bound, and it does not say what the
          decoder itself reads. Pieces without a bar are not asked for: rare ones, and those after position {variant.probe.positions}.</p>
      </details>
    </div>
  );
}
