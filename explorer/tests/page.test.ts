// What the page computes, without a browser.
import assert from "node:assert/strict";
import test from "node:test";
import { readAddress, readMoment, writeAddress, writeMoment } from "../src/address.ts";
import { keptPlaces, lengthPenalty, pathOf, pathTo, rows } from "../src/beam.ts";
import { fate, saved, summed } from "../src/bits.ts";
import { alongTraining, alongWidth, bitsSaved, placeOf, points, readingAt, readOf, tokensInWords } from "../src/compare.ts";
import type { Branch, Content, Decoder, Encoder, Reading, Variant, View } from "../src/data.ts";
import { nameOf, show } from "../src/data.ts";
import { wrap } from "../src/export.ts";
import { finals, scene } from "../src/Flow.tsx";
import { bounds, bucketOf, byLength, marks, nearest } from "../src/Lengths.tsx";
import { added, forcedRanks, ranks } from "../src/live.ts";
import { layOut, textWidth } from "../src/layout.ts";
import { spread } from "../src/Meter.tsx";
import { heaviest, workedSum } from "../src/Stages.tsx";
import { STAGES, stages } from "../src/stages.ts";
import { cells } from "../src/Strip.tsx";
import { filled, type Moment, readingOrder, Timeline } from "../src/timeline.ts";
import { lights, relative } from "../src/PictureFlow.tsx";
import { countTold, ink, quality, toldAt } from "../src/told.ts";
import { TOUR, tourSentence } from "../src/tour.ts";
import { fitting, marked } from "../src/WordMaps.tsx";
import { inGroups, TOGETHER } from "../src/Kept.tsx";

const encoder: Encoder = { name: "rnn", directions: "both", reversed: false, layers: 1 };
const decoder: Decoder = { query: "current", feeding: false, readout: "tanh", start: "dense", width: 4 };
const variant: Variant = {
  name: "luong_general", attention: "luong_general", width: 2, reads: "states", encoder, decoder, forward: 1,
  scales: { states: 2, summary: 1, hidden: 1, readouts: 1 },
};
const view: View = {
  source: ["\u2581a", "\u2581b", "(end)"], target: ["\u2581x", "(end)"], text: "x", choices: [[["\u2581x", 900]], [["(end)", 990]]],
  states: [[10, 0], [-50, 20], [0, 40]], summary: [1, 2], hidden: [[1, 1], [2, 2]], readouts: [[3], [4]], start: [0, 0],
  parts: 100, weights: [[10, 90, 0], [0, 0, 100]], contexts: [[-44, 18], [0, 40]], scores: [[0, 2.2, -5], [0, 0, 9]],
};

test("a time line has every moment once, and says where each is", () => {
  const timeline = new Timeline([view, { source: ["\u2581a", "(end)"], target: Array(5).fill("\u2581x") }]);
  assert.equal(timeline.length, 3 + 2 + 5);
  const moments = Array.from({ length: timeline.length }, (_, at) => timeline.moment(at));
  moments.forEach((moment, at) => assert.equal(timeline.place(moment), at));
  assert.deepEqual(moments.map(moment => moment.phase), ["read", "read", "read", "neck", "hand-over", ...Array(5).fill("write")]);
  assert.equal(timeline.describe(0), "reading 1 of 3");
  assert.equal(timeline.describe(9), "writing 5 of 5");
  assert.equal(timeline.clamp(99), 9);
  assert.equal(timeline.place({ phase: "write", step: 99 }), 9);
  assert.equal(timeline.place({ phase: "read", step: 99 }), 2);
});

test("both directions fill the states from their ends", () => {
  const at = filled(3, encoder, 1);
  assert.deepEqual([at.forward, at.backward, at.now], [[true, false, false], [false, false, true], [0, 2]]);
  const all = filled(3, encoder, 3);
  assert.deepEqual([all.forward, all.backward], [[true, true, true], [true, true, true]]);
  assert.deepEqual(filled(3, encoder, 4).now, []);
  assert.deepEqual(filled(3, { ...encoder, directions: "forward" }, 2).backward, [false, false, false]);
  assert.deepEqual(filled(2, { ...encoder, directions: "none" }, 1).forward, [true, true]);
});

test("a reversed source has its words last to first, and the end last", () => {
  assert.deepEqual(readingOrder(4, { reversed: true }), [2, 1, 0, 3]);
  assert.deepEqual(finals(view, { ...variant, encoder: { ...encoder, directions: "forward", reversed: true } }), [2]);
  assert.deepEqual(finals(view, variant), [2, 0]);
});

test("a link says what is shown, and is read back", () => {
  const moments: Moment[] = [{ phase: "read", step: 3 }, { phase: "neck" }, { phase: "hand-over" }, { phase: "write", step: 0 }];
  for (const moment of moments) assert.deepEqual(readMoment(writeMoment(moment)), moment);
  const address = { sentence: "Job 3:1 [2] & so=on", step: moments[3], variants: ["none", "luong general, seed"], stage: 2, tokens: 1000000, beam: true, presenter: true };
  assert.deepEqual(readAddress("#" + writeAddress(address)), address);
  assert.match(writeAddress(address), /&variants=none,luong%20general%2C%20seed&/);
  assert.deepEqual(readAddress("variants=a,b%20c,d%2Ce+f%"), { variants: ["a", "b c", "d,e f%"] });
  assert.deepEqual(readAddress("#step=write-0&stage=x&tokens=-1&beam=shut&variants="), {});
  assert.equal(readMoment("write-1e9"), undefined);
});

test("a word came through where half of its bits are saved", () => {
  assert.deepEqual(saved([8, 1], [2, 3]), [6, -2]);
  assert.deepEqual(summed([6, -2, 1]), [0, 6, 4, 5]);
  assert.equal(fate(8, 4), "came through");
  assert.equal(fate(8, 4.1), "did not");
  assert.equal(fate(0.9, 0), "needs no source");
});

test("all of a sentence fits in the width, in rows or smaller", () => {
  for (const count of [1, 12, 60, 150]) for (const pixels of [300, 420, 1300]) {
    const { places, width, height, scale } = layOut(Array(count).fill("translation"), 48, pixels);
    assert.ok(places.every(one => one.x - one.width / 2 >= -1e-6 && one.x + one.width / 2 <= width + 1e-6));
    assert.ok(Math.abs(width * scale - pixels) < 1e-6);
    if (scale > 0.36) assert.ok(height * scale <= (pixels < 380 ? 560 : 330));
    const seen = new Set(places.map(one => `${one.x} ${one.y}`));
    assert.equal(seen.size, count);
  }
  assert.ok(layOut(["x".repeat(80)], 48, 300).places[0].width <= 300 / 0.36);
  assert.ok(textWidth("漢字") > textWidth("ab"));
});

test("Luong asks after the step, Bahdanau before it", () => {
  const names = (query: "previous" | "current") => stages({ attention: "bahdanau", decoder: { ...decoder, query } }).map(stage => stage.name);
  assert.deepEqual(names("current"), ["state", "scores", "softmax", "products", "sum", "readout", "choice"]);
  assert.deepEqual(names("previous"), ["scores", "softmax", "products", "sum", "state", "readout", "choice"]);
  assert.equal(names("current").length, STAGES);
  assert.match(stages({ attention: "bahdanau", decoder })[1].equation, /tanh\(W q \+ U k/);
  assert.match(stages({ attention: "of_a_plugin", decoder })[1].equation, /of_a_plugin/);
});

test("the worked sum is that of the numbers shown", () => {
  assert.deepEqual(heaviest([1, 5, 3], 2), [1, 2]);
  assert.equal(workedSum(view, variant, 100, 0), "0.90 × (−1.00) + 0.10 × 0.20 + 0.00 × 0.00 = (−0.88)");
});

test("what reaches the decoder, by variant and moment", () => {
  const none: Variant = { ...variant, reads: "start" }, fixed: Variant = { ...variant, reads: "vector" };
  const plain: View = { ...view, weights: undefined, contexts: undefined, scores: undefined };
  const write = (step: number): Moment => ({ phase: "write", step });
  assert.equal(scene(plain, none, write(0)).passes, true);
  assert.equal(scene(plain, none, write(1)).passes, false);
  assert.equal(scene(plain, none, write(1)).note, "nothing to look back at");
  assert.deepEqual(scene(plain, none, write(1)).decoder, [2, 2]);
  assert.deepEqual(scene(plain, fixed, write(1)).vector?.numbers, view.summary);
  assert.deepEqual(scene(view, variant, write(0)).threads, [0.1, 0.9, 0]);
  assert.deepEqual(scene(view, variant, { phase: "hand-over" }).threads, [0.12, 0.12, 0.12]);
  assert.deepEqual(scene(plain, none, { phase: "hand-over" }).threads, [0, 0, 0]);
  assert.deepEqual(scene(view, variant, { phase: "neck" }).threads, [0.6, 0, 0.6]);
});

test("cells above zero are filled, cells below outlined, and what is not read yet is empty", () => {
  const [above, below] = cells([99, -99, 0], 99, 5, 10);
  assert.equal(above.split("M").length - 1, 2);
  assert.equal(below, "M5.5 10v-10h4v10z");
  assert.deepEqual(cells([99, -99], 99, 5, 10, () => false), ["", ""]);
});

test("pieces are shown as words", () => {
  assert.deepEqual(["\u2581the", "s", "\u2581", "(end)"].map(show), ["the", "+s", "\u2423", "(end)"]);
});

test("labels do not cover each other, and lines do not pass the width", () => {
  const heights = spread([10, 11, 180], 15, 184);
  assert.ok(heights[1] - heights[0] >= 15 && heights[2] <= 184);
  assert.deepEqual(spread([184, 184], 15, 184), [169, 184]);
  assert.deepEqual(wrap(["aaaa", "bbbb", "cccc"], textWidth("aaaa bbbb")), ["aaaa bbbb", "cccc"]);
});

test("another piece is forced by ranks: those of the pieces before it, and its own", () => {
  const choices: [string, number][][] = [[["a", 5], ["b", 3]], [["c", 5], ["d", 3]], [["e", 9]]];
  assert.deepEqual(forcedRanks({ choices, target: ["b", "c", "e"] }, 1, 1), [1, 1]);
  assert.deepEqual(forcedRanks({ choices, target: ["b", "c", "e"] }, 0, 1), [1]);
  assert.deepEqual(ranks({ choices, target: ["b", "d", "e"] }), [1, 1, 0]);
  const content = { title: "", levels: 1, parts: 1, variants: [], sentences: [] };
  const own = { id: "", source: "x", reference: "", words: 1, disorder: 0, views: [] };
  const [more, number] = added(content, own);
  assert.deepEqual([more.sentences[number].id, more.sentences[number].source, content.sentences.length], ["own-0", "x", 0]);
});

test("bits by length are the sums of what each word saves, short sentences first", () => {
  const one = { id: "", source: "", reference: "", disorder: 0, views: [] };
  const bits = { words: ["a", "(end)"], blind: [5, 2], variants: [[1, 1], [6, 2]] };
  const all = marks({ sentences: [{ ...one, words: 9, bits }, { ...one, words: 3, bits }, { ...one, words: 4 }] });
  assert.deepEqual(all.map(each => [each.sentence, each.words, ...each.bits]), [[1, 3, 5, -1], [0, 9, 5, -1]]);
  assert.equal(nearest(all, 7), 0);
  assert.equal(nearest(all, -4), 1);
});

const reading = (name: string, variant: number, end: boolean, tokens: number, width: number): Reading =>
  ({ name, family: name.split(" ")[0], width, variant, end, tokens, lengths: [[1, 5, 40], [6, null, null]] });
const compared: Content = {
  title: "", levels: 1, parts: 1, variants: [variant], metric: { name: "BLEU", higher: true },
  readings: [reading("none", 0, false, 100, 256), reading("none", 0, true, 200, 256), reading("none w=16", -1, false, 100, 16), reading("none w=16", -1, false, 190, 16)],
  sentences: [{
    id: "", source: "", reference: "", words: 4, disorder: 0, views: [view], bits: { words: ["a", "(end)"], blind: [8, 2], variants: [[1, 1]] },
    readings: [{ text: "y", target: ["y"], bits: [6, 2] }, {}, { bits: [8, 1] }, { bits: [7, 1] }],
  }],
};

test("a reading of the end is what its panel shows", () => {
  const [sentence] = compared.sentences;
  assert.equal(readOf(compared, sentence, 0)!.text, "y");
  assert.deepEqual(readOf(compared, sentence, 1), { text: "x", target: view.target, parts: 100, weights: view.weights, bits: [1, 1] });
  assert.equal(readOf(compared, { ...sentence, readings: undefined }, 0), null);
  assert.deepEqual([0, 1, 2, 3].map(at => bitsSaved(compared, sentence, at)), [2, 8, 1, 2]);
  assert.equal(bitsSaved(compared, { ...sentence, bits: undefined }, 0), null);
});

test("the point of a training that is shown is the last one until then", () => {
  assert.deepEqual(points(compared.readings!), [100, 190, 200]);
  assert.deepEqual([null, 50, 100, 195, 999].map(tokens => placeOf([100, 190, 200], tokens)), [2, 0, 0, 1, 2]);
  assert.deepEqual([null, 50, 150, 200].map(tokens => readingAt(compared.readings!, "none", tokens)), [1, 0, 0, 1]);
  assert.equal(readingAt(compared.readings!, "unknown", null), -1);
  assert.equal(tokensInWords(2500000), "2.5 million");
  assert.equal(tokensInWords(500), "500");
});

test("lines over the training and over widths have the bits of each reading", () => {
  const [sentence] = compared.sentences;
  assert.deepEqual(alongTraining(compared, sentence, [0]), [
    { name: "none", marks: [{ x: 100, y: 2 }, { x: 200, y: 8 }] }, { name: "none w=16", marks: [{ x: 100, y: 1 }, { x: 190, y: 2 }] }]);
  assert.deepEqual(alongWidth(compared, sentence, null), [{ name: "none", marks: [{ x: 16, y: 2 }, { x: 256, y: 8 }] }]);
  assert.deepEqual(alongWidth(compared, sentence, 100), [{ name: "none", marks: [{ x: 16, y: 1 }, { x: 256, y: 2 }] }]);
  assert.deepEqual(alongWidth({ ...compared, readings: compared.readings!.slice(0, 2) }, sentence, null), []);
});

test("a length has the score of its bucket", () => {
  assert.deepEqual(bucketOf(compared.readings![0], 5), [1, 5, 40]);
  assert.equal(bucketOf(compared.readings![0], 6), null);
  assert.equal(bounds(1, 5), "1 to 5 words");
  assert.equal(bounds(31, null), "31 or more words");
  assert.deepEqual(byLength(compared), [{ sentence: 0, words: 4 }]);
});

test("the way to a hypothesis goes through those that each step kept", () => {
  const steps: Branch[][] = [
    [[0, "a", -0.1, 1], [0, "(end)", -1, 2, -1], [0, "b", -2, 1], [0, "c", -3, 0]],
    [[1, "d", -2.1, 3, -1.5], [0, "(end)", -2.2, 2, -1.7]],
  ];
  assert.deepEqual(keptPlaces(steps[0]), [0, 2]);
  assert.deepEqual(pathTo({ steps }, 1, 0), [2, 0]);
  assert.deepEqual(pathTo({ steps }, 1, 1), [0, 1]);
  assert.deepEqual(pathOf({ steps }, ["a", "(end)"]), [0, 1]);
  assert.deepEqual(pathOf({ steps }, ["c", "d"]), [3]);
  assert.deepEqual(pathOf({ steps }, ["a", "x"]), [0]);
  assert.deepEqual(rows([50, 40, 30, 80], 100), [[0, 1], [2, 2], [3, 3]]);
  assert.deepEqual(rows([500], 100), [[0, 0]]);
  assert.equal(lengthPenalty(7, 1), 2);
});

test("the tour has eight stops and a sentence of middle length", () => {
  assert.equal(TOUR.length, 8);
  const sentences = [3, 11, 40].map(words => ({ id: "", source: "", reference: "", words, disorder: 0, views: [] }));
  assert.equal(tourSentence({ sentences }), 1);
});

test("a picture lights up as it is read, and where attention looks", () => {
  const none: Variant = { ...variant, reads: "start" };
  const plain: View = { ...view, weights: undefined, contexts: undefined };
  assert.deepEqual(lights(view, variant, { phase: "read", step: 1 }), [0.5, 0, 0.5]);
  assert.deepEqual(lights(view, variant, { phase: "read", step: 2 }), [0.5, 1, 0.5]);
  assert.deepEqual(lights(view, variant, { phase: "hand-over" }), [1, 1, 1]);
  assert.deepEqual(lights(plain, none, { phase: "hand-over" }), [0, 0, 0]);
  assert.deepEqual(lights(view, variant, { phase: "write", step: 0 }), [0.1 / 0.9, 1, 0]);
  assert.deepEqual(lights(plain, none, { phase: "write", step: 0 }), [0, 0, 0]);
  assert.deepEqual(relative([0, 0]), [0, 0]);
});

test("cells are named by row and column", () => {
  assert.equal(nameOf(view, 2, { columns: 2, cells: 3 }), "cell 3 (row 2, column 1)");
  assert.equal(nameOf(view, 0), "a");
});

test("what a probe tells is that of the state after the step", () => {
  const probed = { target: view.target, told: [[100, -1, 0], [60, -1, 20], [0, -1, 0]] };
  assert.equal(toldAt(probed, { phase: "read", step: 3 }), null);
  assert.equal(toldAt({ target: view.target }, { phase: "write", step: 0 }), null);
  assert.deepEqual(toldAt(probed, { phase: "hand-over" }), [100, -1, 0]);
  assert.deepEqual(toldAt(probed, { phase: "write", step: 0 }), [60, -1, 20]);
  assert.deepEqual(toldAt(probed, { phase: "write", step: 9 }), [0, -1, 0]);
  assert.deepEqual(countTold([60, -1, 20]), { told: 1, asked: 2 });
  assert.ok(ink(0) < ink(50) && ink(50) < ink(100) && ink(100) === 1 && ink(-1) === 1);
  const probe = { sentences: 9, positions: 3, first: [1, 2], right: [50, 40], chance: [10, 11] };
  assert.equal(quality(probe, { phase: "hand-over" }), null);
  assert.deepEqual(quality(probe, { phase: "write", step: 0 }), { right: 50, chance: 10 });
  assert.deepEqual(quality(probe, { phase: "write", step: 7 }), { right: 40, chance: 11 });
});

test("a map marks the words of the sentence, and no label covers another", () => {
  const words = ["a", "x", "b", "zebra"];
  assert.deepEqual([...marked({ side: "source", words }, view)], [[0, "source"], [2, "source"]]);
  assert.deepEqual([...marked({ side: "target", words }, view)], [[1, "target"]]);
  const both = { source: ["\u2581a"], target: ["\u2581a", "\u2581x"] };
  assert.deepEqual([...marked({ side: "source and target", words }, both)], [[0, "both"], [1, "target"]]);
  const box = (x: number) => ({ x, y: 0, width: 10, height: 10 });
  assert.deepEqual([...fitting([box(0), box(5), box(12)], [1, 0, 2])], [1]);
  assert.deepEqual([...fitting([box(0), box(5), box(12)], [0, 1, 2])], [0, 2]);
});

test("elements are kept in groups that have each once", () => {
  assert.deepEqual(inGroups(2 * TOGETHER + 1).map(group => group.length), [TOGETHER, TOGETHER, 1]);
  assert.deepEqual(inGroups(45).flat(), Array.from({ length: 45 }, (_, at) => at));
});
