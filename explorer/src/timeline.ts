// The one time line of the page: the encoder reads, the neck is made, it is handed over, the decoder writes.

import type { Encoder, View } from "./data.ts";

export type Moment =
  | { phase: "read"; step: number } // `step` pieces have been read by each direction, from 1
  | { phase: "neck" }
  | { phase: "hand-over" }
  | { phase: "write"; step: number }; // of the decoder, from 0

/** The moments of some translations side by side: as many as the longest has. */
export class Timeline {
  readonly reading: number;
  readonly writing: number;

  constructor(views: Pick<View, "source" | "target">[]) {
    this.reading = Math.max(1, ...views.map(view => view.source.length));
    this.writing = Math.max(1, ...views.map(view => view.target.length));
  }

  get length(): number {
    return this.reading + 2 + this.writing;
  }

  /** The place of the first step of the decoder. */
  get firstWriting(): number {
    return this.reading + 2;
  }

  clamp(at: number): number {
    return Math.max(0, Math.min(Math.round(at), this.length - 1));
  }

  moment(at: number): Moment {
    const place = this.clamp(at);
    if (place < this.reading) return { phase: "read", step: place + 1 };
    if (place === this.reading) return { phase: "neck" };
    if (place === this.reading + 1) return { phase: "hand-over" };
    return { phase: "write", step: place - this.firstWriting };
  }

  /** Return the place of a moment; one that there is not has the nearest. */
  place(moment: Moment): number {
    switch (moment.phase) {
      case "read": return Math.max(0, Math.min(moment.step, this.reading) - 1);
      case "neck": return this.reading;
      case "hand-over": return this.reading + 1;
      case "write": return this.clamp(this.firstWriting + Math.max(0, moment.step));
    }
  }

  /** Return a moment in words. */
  describe(at: number): string {
    const moment = this.moment(at);
    switch (moment.phase) {
      case "read": return `reading ${moment.step} of ${this.reading}`;
      case "neck": return "the neck";
      case "hand-over": return "hand over";
      case "write": return `writing ${moment.step + 1} of ${this.writing}`;
    }
  }

  /** Return how long a moment is shown when it plays, in milliseconds. */
  duration(at: number): number {
    const { phase } = this.moment(at);
    return { read: this.reading > 40 ? 120 : 380, neck: 1600, "hand-over": 1600, write: 800 }[phase];
  }
}

/**
 * Return the source positions in the order in which the forward direction reads them.
 *
 * A reversed source has its words last to first, and the end of the sentence last all the same.
 */
export function readingOrder(pieces: number, encoder: Pick<Encoder, "reversed">): number[] {
  const order = Array.from({ length: pieces }, (_, at) => at);
  return encoder.reversed ? [...order.slice(0, -1).reverse(), pieces - 1] : order;
}

/** What of each source position's state is there: that of the forward direction, that of the backward one. */
export interface Filled {
  forward: boolean[];
  backward: boolean[];
  now: number[]; // positions that are being read
}

/** Return what is filled when each direction has read `steps` pieces. */
export function filled(pieces: number, encoder: Encoder, steps: number): Filled {
  if (encoder.directions === "none") {
    const all = Array<boolean>(pieces).fill(steps > 0);
    return { forward: all, backward: all, now: [] };
  }
  const order = readingOrder(pieces, encoder);
  const both = encoder.directions === "both";
  const forward = Array<boolean>(pieces).fill(false);
  const backward = Array<boolean>(pieces).fill(false);
  const back = [...order].reverse();
  for (let step = 0; step < Math.min(steps, pieces); step++) {
    forward[order[step]] = true;
    if (both) backward[back[step]] = true;
  }
  const now = steps >= 1 && steps <= pieces ? [order[steps - 1], ...(both ? [back[steps - 1]] : [])] : [];
  return { forward, backward, now };
}
