"use strict";
// What is added to a page that is complete without it: variants to choose, readings of points, folded parts that open
// for print and for a link into them.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // ---- Folded parts ----
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details:not([open])");
    for (const part of closed) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of closed) part.open = false;
  });
  const follow = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let at = target?.closest("details"); at; at = at.parentElement.closest("details")) at.open = true;
    target?.scrollIntoView({ block: "center" });
  };
  addEventListener("hashchange", follow);
  if (location.hash) follow();

  // ---- Figures ----
  // The groups of a figure's series have ids such as NAME-series-0-line; `points` holds where the readings are.
  const parts = (figure, number) => [
    ...all(`[id*="-series-${number}-"]`, figure),
    ...all(`.points[data-series="${number}"]`, figure),
  ];
  const names = new Map(); // Checkboxes by the name of what they show: a choice holds in all figures.
  for (const figure of all("figure:has(.points)")) {
    const choices = figure.querySelector(".choices");
    if (choices) choices.hidden = false;
    for (const box of all("input", figure)) {
      const name = box.parentElement.textContent.trim();
      names.set(name, [...(names.get(name) ?? []), { box, figure }]);
      box.addEventListener("change", () => {
        for (const other of names.get(name)) {
          other.box.checked = box.checked;
          for (const part of parts(other.figure, other.box.value)) part.classList.toggle("absent", !box.checked);
        }
      });
    }
    readPoints(figure);
  }

  // Shows the reading of the point that is nearest to the pointer, or that the arrow keys have gone to.
  function readPoints(figure) {
    const svg = figure.querySelector("svg");
    const points = all(".points circle", svg);
    const texts = new Map();
    for (const point of points) {
      const title = point.querySelector("title");
      texts.set(point, title.textContent);
      title.remove(); // Or the browser would show it, too.
    }
    const reading = document.createElement("div");
    reading.className = "reading";
    reading.setAttribute("role", "status");
    reading.hidden = true;
    figure.append(reading);
    svg.tabIndex = 0;
    let shown = null;

    const place = (point) => {
      const box = point.getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    };
    const show = (point) => {
      if (point === shown) return;
      shown?.classList.remove("read");
      shown = point;
      reading.hidden = !point;
      if (!point) return;
      point.classList.add("read");
      reading.textContent = texts.get(point);
      const frame = figure.getBoundingClientRect();
      const [x, y] = place(point);
      const left = Math.min(x - frame.x + 12, frame.width - reading.offsetWidth);
      reading.style.left = `${Math.max(0, left)}px`;
      reading.style.top = `${y - frame.y + 12}px`;
    };
    const visible = () => points.filter((point) => !point.parentElement.classList.contains("absent"));
    svg.addEventListener("pointermove", (event) => {
      let nearest = null;
      let least = 24; // Pixels; further away, nothing is read.
      for (const point of visible()) {
        const [x, y] = place(point);
        const far = Math.hypot(x - event.clientX, y - event.clientY);
        if (far < least) [nearest, least] = [point, far];
      }
      show(nearest);
    });
    svg.addEventListener("pointerleave", () => show(null));
    svg.addEventListener("blur", () => show(null));
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") show(null);
      if (!step) return;
      event.preventDefault();
      const left = visible();
      const at = left.indexOf(shown);
      if (left.length) show(left[at < 0 ? 0 : (at + step + left.length) % left.length]);
    });
  }
})();
