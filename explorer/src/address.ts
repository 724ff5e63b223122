// Deep links: #sentence=ID&step=write-5&variants=none,luong_general&stage=2&tokens=1000000&beam=open&mode=presenter

import type { Moment } from "./timeline.ts";

export interface Address {
  sentence?: string; // its id
  step?: Moment;
  variants?: string[];
  stage?: number; // of attention, from 1
  tokens?: number; // of the training
  beam?: boolean; // whether the trees of the beam search are open
  presenter?: boolean;
}

export function writeMoment(moment: Moment): string {
  switch (moment.phase) {
    case "read": return `read-${moment.step}`;
    case "write": return `write-${moment.step + 1}`;
    default: return moment.phase;
  }
}

export function readMoment(text: string): Moment | undefined {
  if (text === "neck" || text === "hand-over") return { phase: text };
  const [, phase, number] = /^(read|write)-(\d{1,4})$/.exec(text) ?? [];
  if (!phase || Number(number) < 1) return undefined;
  return phase === "read" ? { phase, step: Number(number) } : { phase: "write", step: Number(number) - 1 };
}

/** Return what comes after the # of a link. */
export function writeAddress(address: Address): string {
  const parts: [string, string | string[]][] = [];
  if (address.sentence !== undefined) parts.push(["sentence", address.sentence]);
  if (address.step) parts.push(["step", writeMoment(address.step)]);
  if (address.variants) parts.push(["variants", address.variants]);
  if (address.stage) parts.push(["stage", String(address.stage)]);
  if (address.tokens) parts.push(["tokens", String(address.tokens)]);
  if (address.beam) parts.push(["beam", "open"]);
  if (address.presenter) parts.push(["mode", "presenter"]);
  // A comma in a name is %2C, and the one between two names is as it is.
  return parts.map(([key, value]) => `${key}=${[value].flat().map(encodeURIComponent).join(",")}`).join("&");
}

/** Read a link; what it does not say, or says wrongly, is left out. */
export function readAddress(hash: string): Address {
  const values = new URLSearchParams(hash.replace(/^#/, ""));
  const names = /[#&]variants=([^&]+)/.exec(`#${hash.replace(/^#/, "")}`)?.[1].split(",") ?? [];
  const stage = Number(values.get("stage"));
  const tokens = Number(values.get("tokens"));
  const step = readMoment(values.get("step") ?? "");
  return {
    ...(values.has("sentence") && { sentence: values.get("sentence")! }),
    ...(step && { step }),
    ...(names.length && { variants: names.map(name => new URLSearchParams(`name=${name}`).get("name")!) }),
    ...(Number.isInteger(stage) && stage > 0 && { stage }),
    ...(Number.isInteger(tokens) && tokens > 0 && { tokens }),
    ...(values.get("beam") === "open" && { beam: true }),
    ...(values.get("mode") === "presenter" && { presenter: true }),
  };
}
