// Where the source pieces stand: in as many rows as they need, smaller where these would be too many.

export interface Place {
  x: number; // the middle
  y: number; // the top
  width: number;
}

export interface Layout {
  places: Place[];
  width: number; // of the drawing, in its own units
  height: number; // of all rows
  scale: number; // pixels of a unit
}

export const ROW = 62;

/** Return the width of a text of 13 units, nearly: wide characters (Chinese, Japanese, Korean) take twice the room. */
export function textWidth(text: string): number {
  let width = 0;
  for (const character of text) width += /[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff\uff00-\uff60]/.test(character) ? 14 : 7.4;
  return width;
}

function rows(widths: number[], width: number): Place[] {
  const places: Place[] = [];
  let x = 0, y = 0;
  for (const one of widths) {
    if (x > 0 && x + one > width) {
      x = 0;
      y += ROW;
    }
    places.push({ x: x + one / 2, y, width: one });
    x += one;
  }
  return places;
}

/**
 * Return the layout of texts over strips.
 *
 * @param texts what stands above each strip
 * @param strip the width of a strip
 * @param pixels the width of the place for all
 * @param zoom pixels of a unit, where there is room
 * @param most the height in pixels from which on all is scaled down, to a third at the least
 */
export function layOut(texts: string[], strip: number, pixels: number, zoom = 1, most = (pixels < 380 ? 560 : 330) * zoom): Layout {
  const own = texts.map(text => Math.max(strip + 8, textWidth(text) + 10));
  for (let scale = zoom; ; scale *= 0.92) {
    const width = pixels / scale;
    const places = rows(own, width);
    const height = places[places.length - 1].y + ROW;
    const fits = Math.max(...own) <= width;
    if ((height * scale <= most && fits) || scale < 0.36) return { places, width, height, scale };
  }
}
