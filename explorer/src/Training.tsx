// The same sentence at points of the training, and over widths of the neck: not learnt yet, or too small?

import { useMemo } from "preact/hooks";
import { Chart } from "./Chart.tsx";
import { alongTraining, alongWidth, placeOf, points, readingAt, readOf, tokensInWords } from "./compare.ts";
import type { Content, Read, Sentence, Variant, View } from "./data.ts";
import { Film } from "./Film.tsx";
import { Matrix } from "./Matrix.tsx";
import { Fates } from "./Meter.tsx";

interface Props {
  content: Content;
  sentence: Sentence;
  shown: { variant: Variant; index: number; view: View }[];
  tokens: number | null; // after which the variants are shown; null: the end
  onTokens: (tokens: number) => void;
}

function Earlier({ variant, read, tokens, sentence, source }: { variant: Variant; read: Read | null; tokens: number; sentence: Sentence; source: string[] }) {
  const view = useMemo(() => read?.weights && { source, target: read.target!, weights: read.weights, parts: read.parts }, [read, source]);
  return (
    <section class="earlier" data-earlier={variant.name} aria-label={`${variant.name} after ${tokensInWords(tokens)} target tokens`}>
      <h3>{variant.name} <span class="faint">after {tokensInWords(tokens)} target tokens</span></h3>
      {read?.text === undefined ? <p class="faint">The weights of this point are not kept: no translation.</p>
        : <p class="text" dir="auto">{read.text || "(nothing)"}</p>}
      {read?.bits && sentence.bits && <Fates name="" words={sentence.bits.words} blind={sentence.bits.blind} own={read.bits} />}
      {view && sentence.grid && <Film grid={sentence.grid} view={view} name={`${variant.name.replace(/\W/g, "-")}-earlier`} step={-1} zoom={0.8} lit={null} onPoint={() => undefined} onStep={() => undefined} />}
      {view && !sentence.grid && <Matrix view={view} step={-1} zoom={0.8} lit={{ source: null, step: null }} onPoint={() => undefined} onStep={() => undefined} />}
    </section>
  );
}

export function Training({ content, sentence, shown, tokens, onTokens }: Props) {
  const readings = content.readings ?? [];
  const along = useMemo(() => alongTraining(content, sentence, shown.map(one => one.index)), [content, sentence, shown.map(one => one.index).join()]);
  const widths = useMemo(() => alongWidth(content, sentence, tokens), [content, sentence, tokens]);
  const all = points(readings.filter(one => shown.some(each => each.index === one.variant)));
  if (!sentence.readings || (all.length < 2 && !widths.length)) return null;
  const place = placeOf(all, tokens);
  const now = all[place];
  return <>
    {all.length > 1 && (
      <section class="meter" id="training" aria-label="over training">
        <h2>Over training: not learnt yet, or too small?</h2>
        <p class="faint">The same sentence, translated by the same variant earlier in its training. Where more training brings more, it
          was not learnt yet. A variant that stays where it is, however long it learns, may be too small, or stuck: the widths of
          the neck tell which, where they are shown. Move the slider, or press &lt; and &gt;; widths and scores by length follow it,
          and all else shows the end of the training.</p>
        <input id="tokens" type="range" min={0} max={all.length - 1} value={place} aria-label="point of the training" aria-valuetext={`after ${tokensInWords(now)} target tokens`}
          onInput={event => onTokens(all[Number(event.currentTarget.value)])} />
        <output for="tokens">after {tokensInWords(now)} target tokens</output>
        <div class="earliers">
          {shown.map(({ variant, view }) => {
            const at = readingAt(readings, variant.name, now);
            return at >= 0 && <Earlier key={variant.name} variant={variant} read={readOf(content, sentence, at)} tokens={readings[at].tokens} sentence={sentence} source={view.source} />;
          })}
        </div>
        {along.length > 0 && <Chart lines={along} label="bits saved over the blind decoder in this sentence, by target tokens of training" axis="bits saved in this sentence, by target tokens" now={now} inWords={tokensInWords} />}
      </section>
    )}
    {widths.length > 0 && (
      <section class="meter" id="widths" aria-label="over widths of the neck">
        <h2>Over widths of the neck</h2>
        <p class="faint">Variants that differ in the width of the one vector alone, on this sentence{all.length > 1 ? `, after ${tokensInWords(now)} target tokens` : ""}. If a wider
          neck saves more bits, the vector was too small; if it saves no more, something else is in the way.</p>
        <Chart lines={widths} label="bits saved over the blind decoder in this sentence, by width of the vector" axis="bits saved in this sentence, by numbers of the vector" now={null} inWords={String} />
      </section>
    )}
  </>;
}
