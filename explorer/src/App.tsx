// The whole page: what is shown, what plays, and what keys and links do.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { readAddress, writeAddress } from "./address.ts";
import { BeamTrees } from "./BeamTree.tsx";
import { placeOf, points } from "./compare.ts";
import type { Content } from "./data.ts";
import { savePng, saveSvg } from "./export.ts";
import { Lengths } from "./Lengths.tsx";
import { added, forcedRanks, ranks, translate } from "./live.ts";
import { Meter, NoMeter } from "./Meter.tsx";
import { describe, Panel } from "./Panel.tsx";
import { STAGES } from "./stages.ts";
import { Timeline } from "./timeline.ts";
import { TOUR, tourSentence } from "./tour.ts";
import { Training } from "./Training.tsx";
import { WordMaps } from "./WordMaps.tsx";

type Order = "length" | "disorder";

interface Shown {
  sentence: number;
  at: number; // of the time line
  variants: number[];
  stage: number; // of attention, from 1; 0: closed
  tokens: number | null; // of the training, for what is compared; null: its end
  beam: boolean; // whether the trees of the beam search are open
  presenter: boolean;
}

const AT_FIRST = 3; // variants side by side

const viewsOf = (content: Content, shown: Pick<Shown, "sentence" | "variants">) =>
  shown.variants.map(index => content.sentences[shown.sentence].views[index]);

/** Return the sentences in an order, by their numbers. */
export function inOrder(content: Content, order: Order): number[] {
  const { sentences } = content;
  const compare = { length: (a: number, b: number) => sentences[a].words - sentences[b].words, disorder: (a: number, b: number) => sentences[b].disorder - sentences[a].disorder };
  return sentences.map((_, at) => at).sort(compare[order]);
}

/** Return what a link shows; what it leaves open is as it is, or as at first. */
export function fromAddress(content: Content, hash: string, before?: Shown): Shown {
  const address = readAddress(hash);
  const order = inOrder(content, "length");
  const named = content.sentences.findIndex(one => one.id === address.sentence);
  const chosen = content.variants.map((_, at) => at).filter(at => address.variants?.includes(content.variants[at].name));
  const sentence = named >= 0 ? named : before?.sentence ?? order[Math.floor(order.length / 3)];
  const variants = chosen.length ? chosen : before?.variants ?? content.variants.map((_, at) => at).slice(0, AT_FIRST);
  const timeline = new Timeline(viewsOf(content, { sentence, variants }));
  return {
    sentence, variants,
    at: address.step ? timeline.place(address.step) : before ? timeline.clamp(before.at) : 0,
    stage: Math.min(address.stage ?? 0, STAGES),
    tokens: address.tokens ?? null,
    beam: address.beam ?? false,
    presenter: address.presenter ?? false,
  };
}

export function App({ content: written }: { content: Content }) {
  const [content, setContent] = useState(written);
  const [own, setOwn] = useState(""); // what is typed
  const [failure, setFailure] = useState("");
  const [shown, setShown] = useState(() => fromAddress(content, location.hash));
  const [order, setOrder] = useState<Order>("length");
  const [playing, setPlaying] = useState(false);
  const [stop, setStop] = useState<number | null>(null); // of the tour
  const next = useRef<HTMLButtonElement>(null);
  const sorted = useMemo(() => inOrder(content, order), [content, order]);
  const sentence = content.sentences[shown.sentence];
  const views = viewsOf(content, shown);
  const timeline = useMemo(() => new Timeline(viewsOf(content, shown)), [content, shown.sentence, shown.variants]);
  const at = timeline.clamp(shown.at);
  const moment = timeline.moment(at);
  const panels = shown.variants.map((index, rank) => ({ variant: content.variants[index], index, view: views[rank] }));

  // Keys can come faster than the page is drawn, so that each change is made to what the last one has left.
  const change = (part: Partial<Shown> | ((before: Shown) => Partial<Shown>)) =>
    setShown(before => ({ ...before, ...(typeof part === "function" ? part(before) : part) }));
  const timelineOf = (one: Shown) => new Timeline(viewsOf(content, one));
  const go = (place: number) => { setPlaying(false); change(before => ({ at: timelineOf(before).clamp(place) })); };
  const move = (by: number) => {
    setPlaying(false);
    change(before => {
      const along = timelineOf(before);
      return { at: along.clamp(along.clamp(before.at) + by) };
    });
  };
  // One point of the training on, or back, among those of the variants that are shown.
  const train = (by: number) => change(before => {
    const all = points((content.readings ?? []).filter(one => before.variants.includes(one.variant)));
    return { tokens: all[Math.max(0, Math.min(placeOf(all, before.tokens) + by, all.length - 1))] ?? null };
  });
  const another = (number: number): Partial<Shown> => ({ sentence: number, at: 0, stage: 0 });
  const pick = (number: number) => { setPlaying(false); change(another(number)); };
  const neighbour = (by: number) => {
    setPlaying(false);
    change(before => {
      const number = sorted[sorted.indexOf(before.sentence) + by];
      return number === undefined ? {} : another(number);
    });
  };
  const play = () => {
    if (!playing && at === timeline.length - 1) change({ at: 0 });
    setPlaying(!playing);
  };
  // Stages belong to a step of the decoder: from elsewhere, the first stage goes to its first step.
  const stage = (by: number) => {
    setPlaying(false);
    change(before => {
      const along = timelineOf(before), wanted = before.stage + by;
      const step = Math.max(along.firstWriting, along.clamp(before.at));
      if (wanted > STAGES) return step < along.length - 1 ? { stage: 1, at: step + 1 } : {};
      return { stage: Math.max(0, wanted), at: wanted > 0 ? step : along.clamp(before.at) };
    });
  };
  // Ask the models, and show what they answer from its first step on, or from the step that was changed.
  const ask = async (text: string, forced: number[][] = [], step: number | null = null) => {
    setPlaying(false);
    setFailure("");
    try {
      const [more, number] = added(content, await translate(text, forced));
      const along = new Timeline(viewsOf(more, { sentence: number, variants: shown.variants }));
      setContent(more);
      change({ sentence: number, stage: 0, at: step === null ? 0 : along.place({ phase: "write", step }) });
    } catch (error) {
      setFailure(error instanceof Error ? error.message : String(error));
    }
  };
  const tour = (number: number | null) => {
    setPlaying(false);
    setStop(number);
    if (number === null) return;
    const one = TOUR[number], guided = tourSentence(content);
    const along = new Timeline(viewsOf(content, { sentence: guided, variants: shown.variants }));
    change({ sentence: guided, at: along.place(one.moment), stage: one.stage ?? 0 });
    requestAnimationFrame(() => {
      (one.scroll ? document.getElementById(one.scroll) : document.getElementById("panels"))?.scrollIntoView({ block: "start" });
      next.current?.focus({ preventScroll: true });
    });
  };

  useEffect(() => {
    if (!playing) return undefined;
    const timer = setTimeout(() => (at === timeline.length - 1 ? setPlaying(false) : change({ at: at + 1 })), timeline.duration(at));
    return () => clearTimeout(timer);
  }, [playing, at, timeline]);

  // Before the browser draws: whoever reads the address after a key press reads that of what is shown.
  useLayoutEffect(() => {
    if (playing) return; // The address follows when it stands still.
    const address = writeAddress({ sentence: sentence.id, step: moment, variants: panels.map(one => one.variant.name), stage: shown.stage, tokens: shown.tokens ?? undefined, beam: shown.beam, presenter: shown.presenter });
    if (location.hash !== `#${address}`) history.replaceState(null, "", `#${address}`);
  });

  useEffect(() => {
    const follow = () => { setPlaying(false); setShown(before => fromAddress(content, location.hash, before)); };
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, [content]);

  useLayoutEffect(() => { document.body.classList.toggle("presenter", shown.presenter); }, [shown.presenter]);

  const keys: Record<string, () => void> = {
    " ": play, ArrowLeft: () => move(-1), ArrowRight: () => move(1), "[": () => neighbour(-1), "]": () => neighbour(1),
    Home: () => go(0), End: () => go(timeline.length - 1), ".": () => stage(1), ",": () => stage(-1),
    "<": () => train(-1), ">": () => train(1), b: () => change(before => ({ beam: !before.beam })),
    p: () => change({ presenter: !shown.presenter }), t: () => tour(stop === null ? 0 : null),
    Escape: () => (stop !== null ? tour(null) : change({ presenter: false, stage: 0 })),
  };
  useLayoutEffect(() => {
    const press = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement, inside = target.tagName;
      // Lists, buttons and the slider use some of these keys themselves.
      const types = inside === "SELECT" || target.id === "own";
      if (event.ctrlKey || event.metaKey || event.altKey || types || (inside === "INPUT" && !["Escape", ",", "."].includes(event.key))) return;
      if (inside === "BUTTON" && event.key === " ") return;
      const action = keys[event.key];
      if (action) { event.preventDefault(); action(); }
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });

  const file = `${sentence.id}-${timeline.describe(at)}`.replace(/[^\w.-]+/g, "-");
  const attends = panels.some(one => one.view.weights);
  return <>
    <header class="extra">
      <h1 id="title">{content.title}</h1>
      <p>The encoder reads the source and makes one vector for each {sentence.grid ? "cell of the picture" : "piece, which the page draws as a strip of numbers"}. The
        decoder writes one piece at a time. With attention, it looks back at all vectors at every step; without, it receives
        one fixed vector and nothing else. A + joins a piece to the one before it.</p>
    </header>
    <div class="bar">
      <label>Sentence <select id="sentence" value={shown.sentence} onChange={event => pick(Number(event.currentTarget.value))}>
        {sorted.map(index => {
          const one = content.sentences[index];
          return <option key={index} value={index}>{`${one.grid ? `length ${one.words}` : `${one.words} words`}, ${Math.round(100 * one.disorder)} % reordered: ${one.source.slice(0, 50)}${one.source.length > 50 ? "\u2026" : ""}`}</option>;
        })}
      </select></label>
      <label class="extra">in order of <select id="order" value={order} onChange={event => {
        const chosen = event.currentTarget.value as Order;
        setOrder(chosen);
        pick(inOrder(content, chosen)[0]);
      }}>
        <option value="length">length</option>
        <option value="disorder">reordering, most first</option>
      </select></label>
    </div>
    {content.live && (
      <form class="bar own" onSubmit={event => { event.preventDefault(); if (own.trim()) void ask(own); }}>
        <label>Your own sentence <input id="own" type="text" value={own} onInput={event => setOwn(event.currentTarget.value)} /></label>
        <button id="translate">translate</button>
        <span role="alert">{failure}</span>
      </form>
    )}
    <div class="bar controls">
      <button id="first" title="to the beginning (Home)" aria-label="to the beginning" onClick={() => go(0)}>|&#x25C0;</button>
      <button id="back" title="one step back (left arrow)" aria-label="one step back" onClick={() => move(-1)}>&#x25C0;</button>
      <button id="play" title="play or pause (space)" aria-label={playing ? "pause" : "play"} onClick={play}>{playing ? "\u23f8\ufe0e pause" : "\u25b6\ufe0e play"}</button>
      <button id="on" title="one step on (right arrow)" aria-label="one step on" onClick={() => move(1)}>&#x25B6;</button>
      <div class="track">
        <input id="step" type="range" min={0} max={timeline.length - 1} value={at} aria-label="time: reading, then writing" aria-valuetext={timeline.describe(at)}
          onInput={event => go(Number(event.currentTarget.value))} />
        <div class="phases" aria-hidden="true">
          <span style={{ flexGrow: timeline.reading + 2 }}>the encoder reads</span><span style={{ flexGrow: timeline.writing }}>the decoder writes</span>
        </div>
      </div>
      <output id="count" for="step">{timeline.describe(at)}</output>
      <button id="stage" disabled={!attends} title="take attention apart, a stage a press (full stop; comma: back)" onClick={() => stage(1)}>
        {shown.stage ? `stage ${shown.stage} of ${STAGES}` : "take attention apart"}</button>
    </div>
    <div class="bar extra">
      <fieldset id="choose"><legend>Variants</legend>
        {content.variants.map((variant, index) => (
          <label key={variant.name}>
            <input type="checkbox" value={index} checked={shown.variants.includes(index)} onChange={event => {
              const on = event.currentTarget.checked;
              const variants = content.variants.map((_, each) => each).filter(each => (each === index ? on : shown.variants.includes(each)));
              if (variants.length) change({ variants });
              else event.currentTarget.checked = true; // One stays.
            }} /> {variant.name}
          </label>
        ))}
      </fieldset>
      <button id="tour" onClick={() => tour(0)} title="eight steps in plain words (t)">guided tour</button>
      <button id="presenter" aria-pressed={shown.presenter} onClick={() => change({ presenter: true })} title="large type (p; Escape ends it)">presenter</button>
      <button id="svg" onClick={() => saveSvg(file)} title="save what is seen as SVG">SVG</button>
      <button id="png" onClick={() => void savePng(file)} title="save what is seen as PNG">PNG</button>
    </div>
    <dl class="texts"><dt>{sentence.grid ? "picture" : "source"}</dt><dd id="source" dir="auto">{sentence.source}</dd>{sentence.reference && <><dt>reference</dt><dd id="reference" dir="auto">{sentence.reference}</dd></>}</dl>
    <p id="status" class="unseen" aria-live="polite">{playing ? "" : `${timeline.describe(at)}. ${panels.map(one => describe(one.variant, one.view, moment, sentence.grid)).join("; ")}`}</p>
    <main id="panels">
      {panels.map(({ variant, index, view }) => (
        <Panel key={`${variant.name} ${shown.sentence}`} content={content} variant={variant} view={view} grid={sentence.grid} moment={moment} stage={shown.stage} zoom={shown.presenter ? 1.4 : 1}
          onForce={content.live ? (step, rank) => void ask(sentence.source, content.variants.map((_, each) => (each === index ? forcedRanks(view, step, rank) : ranks(sentence.views[each]))), step) : null}
          onStep={step => go(timeline.place({ phase: "write", step }))} />
      ))}
    </main>
    {sentence.bits ? <Meter key={shown.sentence} bits={sentence.bits} shown={panels} /> : sentence.reference && <NoMeter />}
    <Training content={content} sentence={sentence} shown={panels} tokens={shown.tokens} onTokens={tokens => change({ tokens })} />
    <Lengths content={content} shown={panels} sentence={shown.sentence} tokens={shown.tokens} onPick={pick} />
    <BeamTrees open={shown.beam} onOpen={beam => change({ beam })} shown={panels} step={moment.phase === "write" ? moment.step : -1} onStep={step => go(timeline.place({ phase: "write", step }))} />
    <WordMaps shown={panels} />
    <p class="faint extra">Keys: space plays and pauses; left and right go one step, [ and ] one sentence; Home and End go to the beginning
      and the end; the full stop takes attention apart, stage by stage, and the comma goes back; &lt; and &gt; go through the training, b opens the beam search; p is presenter mode, t the tour. The
      address of the page always names what it shows. Matrix: the stronger a cell, the larger the weight; point at a cell to see its two
      pieces, click it to go to its step. Of each vector, the page shows the numbers that vary most. Translations are
      greedy: each piece is the likeliest one.</p>
    {stop !== null && (
      <div class="tour" role="dialog" aria-label="guided tour">
        <h2>{stop + 1} of {TOUR.length}. {TOUR[stop].title}</h2>
        <p aria-live="polite">{(sentence.grid && TOUR[stop].picture) || TOUR[stop].text}</p>
        <div class="bar">
          <button disabled={stop === 0} onClick={() => tour(stop - 1)}>back</button>
          <button ref={next} onClick={() => tour(stop === TOUR.length - 1 ? null : stop + 1)}>{stop === TOUR.length - 1 ? "done" : "next"}</button>
          <button onClick={() => tour(null)} title="Escape">close</button>
        </div>
      </div>
    )}
  </>;
}
