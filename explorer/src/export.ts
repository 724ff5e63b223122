// The panels as one SVG file, and the same as PNG. Colours are those that are seen, light or dark.

import { textWidth } from "./layout.ts";

const GAP = 20;
const NAMES = ["--paper", "--ink", "--faint", "--line", "--mark", "--on-mark", "--plus", "--minus"];

const RULES = `
text { fill: var(--ink); font: 13px system-ui, sans-serif; } .small, .note { fill: var(--faint); font-size: 11px; }
.name { font-weight: 700; font-size: 16px; } .frame { fill: none; stroke: var(--line); } .parting { fill: none; stroke: var(--faint); }
.plus { fill: var(--plus); } .minus { fill: var(--paper); stroke: var(--minus); stroke-width: .8; }
.thread { fill: none; stroke: var(--mark); } .pass { fill: none; stroke: var(--ink); } .told { stroke: var(--ink); stroke-width: 3; } .shade { fill: #000; } .looked { stroke: #fff; } .now { fill: none; stroke: var(--ink); stroke-width: 2; }
.cell { fill: var(--mark); } .surface { fill: none; } .sum { fill: none; stroke: var(--ink); stroke-width: 2; } .lit text, text.lit { font-weight: 700; }`;

const escape = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** Return a text in lines of at most `width` pixels. */
export function wrap(words: string[], width: number): string[] {
  const lines: string[] = [];
  for (const word of words) {
    const longer = lines.length ? `${lines[lines.length - 1]} ${word}` : word;
    if (lines.length && textWidth(longer) <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/** Return what the page shows as one SVG document: the panels side by side, and the bits meter's chart under them. */
export function toSvg(root: Document): { text: string; width: number; height: number } {
  const style = getComputedStyle(root.documentElement);
  const colours = NAMES.map(name => `${name}: ${style.getPropertyValue(name).trim()}`).join("; ");
  const parts: string[] = [];
  const place = (drawing: SVGSVGElement, x: number, y: number): number => {
    const { width, height } = drawing.getBoundingClientRect();
    const copy = drawing.cloneNode(true) as SVGSVGElement;
    for (const [key, value] of Object.entries({ x, y, width, height })) copy.setAttribute(key, String(value));
    copy.removeAttribute("style");
    parts.push(new XMLSerializer().serializeToString(copy));
    return height;
  };
  const write = (text: string, x: number, y: number, name = "") => parts.push(`<text class="${name}" x="${x}" y="${y}">${escape(text)}</text>`);
  const said = (id: string) => root.getElementById(id)?.textContent ?? "";
  const panels = [...root.querySelectorAll<HTMLElement>("section.variant")];
  const width = GAP + panels.reduce((sum, panel) => sum + panel.clientWidth + GAP, 0);
  let top = GAP;
  for (const line of wrap(`source: ${said("source")}`.split(" "), width - 2 * GAP)) write(line, GAP, (top += 18));
  for (const line of wrap(`reference: ${said("reference")}`.split(" "), width - 2 * GAP)) write(line, GAP, (top += 18));
  write(said("count"), GAP, (top += 18), "small");
  top += GAP;
  let x = GAP, bottom = top;
  for (const panel of panels) {
    let y = top + 16;
    write(panel.querySelector("h2")!.textContent!, x, y, "name");
    y += 8 + place(panel.querySelector("svg.flow")!, x, y + 8);
    const written = [...panel.querySelectorAll(".output .past, .output .now")].map(one => one.textContent!);
    for (const line of wrap(written, panel.clientWidth)) write(line, x, (y += 18));
    const matrix = panel.querySelector<SVGSVGElement>("svg.matrix");
    if (matrix) y += 12 + place(matrix, x, y + 12);
    bottom = Math.max(bottom, y);
    x += panel.clientWidth + GAP;
  }
  const chart = root.querySelector<SVGSVGElement>(".meter svg.chart");
  if (chart) {
    write("bits saved over a decoder that never sees the source, summed along the reference", GAP, (bottom += 2 * GAP));
    bottom += place(chart, GAP, bottom + 8);
  }
  const height = Math.ceil(bottom + GAP), wide = Math.ceil(Math.max(width, chart ? chart.getBoundingClientRect().width + 2 * GAP : 0));
  const text = `<svg xmlns="http://www.w3.org/2000/svg" width="${wide}" height="${height}" viewBox="0 0 ${wide} ${height}" style="${colours}">`
    + `<style>${RULES}</style><rect width="100%" height="100%" style="fill: var(--paper)"/>${parts.join("")}</svg>`;
  return { text, width: wide, height };
}

function save(href: string, name: string): void {
  const link = document.createElement("a");
  link.href = href;
  link.download = name;
  link.click();
}

const asAddress = (text: string): string => `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;

export function saveSvg(name: string): void {
  save(asAddress(toSvg(document).text), `${name}.svg`);
}

export async function savePng(name: string): Promise<void> {
  const { text, width, height } = toSvg(document);
  const image = new Image();
  image.src = asAddress(text);
  await image.decode();
  const canvas = document.createElement("canvas");
  const scale = Math.min(2, 8000 / Math.max(width, height)); // Browsers refuse larger canvases.
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.getContext("2d")!.drawImage(image, 0, 0, canvas.width, canvas.height);
  save(canvas.toDataURL("image/png"), `${name}.png`);
}
