
(() => {
  "use strict";
  const wait = {{ live.every }};
  const all = (root, what) => [...root.querySelectorAll(what)];
  // the same thing in the page before and after: by its section, its words, and its place among its like
  const keyed = (root, what) => {
    const seen = new Map();
    return new Map(all(root, what).map(node => {
      const section = node.closest("section");
      const words = node.querySelector("summary") || node;
      const name = [section && section.querySelector("h2").textContent, node.tagName,
        node.getAttribute("aria-label") || words.textContent.slice(0, 80)].join("\n");
      const place = seen.get(name) || 0;
      seen.set(name, place + 1);
      return [name + "\n" + place, node];
    }));
  };
  const kinds = ["details", ".scroll", "summary, a[href], .scroll"];
  const swap = next => {
    const old = document.getElementById("main"), fresh = next.getElementById("main");
    const [open, boxes, stops] = kinds.map(kind => keyed(old, kind));
    const [openNow, boxesNow, stopsNow] = kinds.map(kind => keyed(fresh, kind));
    for (const [key, node] of openNow) if (open.has(key)) node.open = open.get(key).open;
    const places = [...boxes].map(([key, node]) => [key, node.scrollLeft]);
    const here = [...stops].find(([, node]) => node === document.activeElement);
    const { scrollX, scrollY } = window;
    old.replaceWith(fresh);
    for (const [key, left] of places) if (left && boxesNow.has(key)) boxesNow.get(key).scrollLeft = left;
    if (here && stopsNow.has(here[0])) stopsNow.get(here[0]).focus({ preventScroll: true });
    window.scrollTo(scrollX, scrollY);
    for (const id of ["standing", "moment"]) {
      const [from, to] = [next, document].map(page => page.getElementById(id));
      if (from.textContent !== to.textContent) to.textContent = from.textContent;
    }
  };
  const renew = async () => {
    try {
      if (!document.hidden && String(getSelection()) === "") {
        const answer = await fetch(location.origin + location.pathname, { cache: "no-store" });
        if (!answer.ok) throw new Error(answer.status);
        swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
      }
    } catch {
      const said = "No answer: the run has ended, or the way to it is closed. This is what was seen last.";
      const standing = document.getElementById("standing");
      if (standing.textContent !== said) standing.textContent = said;
    }
    setTimeout(renew, wait);
  };
  setTimeout(renew, wait);
})();
