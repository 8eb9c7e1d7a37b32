"use strict";
// Keeps a page of runs up to date: asks for what changes, and puts in what has changed. All of it is there without.
(() => {
  const root = document.querySelector("[data-live], [data-run]");
  if (!root) return;
  const note = document.getElementById("live-note");
  const seen = new Map();
  const say = (text) => { if (note && note.textContent !== text) note.textContent = text; };

  function keyOf(element) {
    if (!element) return "";
    if (element.id) return `#${CSS.escape(element.id)}`;
    if (element.name) return `[name="${CSS.escape(element.name)}"][value="${CSS.escape(element.value)}"]`;
    const address = element.getAttribute("href");
    if (address) return `a[href="${CSS.escape(address)}"]`;
    return element.tagName === "SUMMARY" ? `#${CSS.escape(element.parentElement.id)} > summary` : "";
  }

  function swap(part) {
    const old = document.getElementById(part.id);
    if (!old || seen.get(part.id) === part.outerHTML) return;
    seen.set(part.id, part.outerHTML);
    const focus = old.contains(document.activeElement) ? keyOf(document.activeElement) : "";
    const open = [...old.querySelectorAll("details[open]")].map(keyOf).filter(Boolean);
    const ticked = [...old.querySelectorAll("input:checked")].map(keyOf);
    const scrolled = [...old.querySelectorAll(".scroll[id]")].map((box) => [keyOf(box), box.scrollLeft]);
    old.replaceWith(part);
    for (const key of open) { const found = part.querySelector(key); if (found) found.open = true; }
    for (const key of ticked) { const found = part.querySelector(key); if (found) found.checked = true; }
    for (const [key, left] of scrolled) { const found = part.querySelector(key); if (found) found.scrollLeft = left; }
    if (focus) part.querySelector(focus)?.focus({ preventScroll: true });
  }

  async function look() {
    if (document.hidden) return true;
    const version = root.querySelector("[data-version]")?.dataset.version ?? "";
    const address = new URL(root.dataset.live, location.href);
    address.searchParams.set("charts", version);
    const answer = await fetch(address, { redirect: "error" });
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const top = window.scrollY;
    for (const part of [...fresh.querySelectorAll("[data-part]")]) {
      if (document.getElementById(part.id)) swap(document.adoptNode(part));
      else root.append(document.adoptNode(part));
    }
    if (window.scrollY !== top) window.scrollTo({ top, behavior: "instant" });
    return !root.querySelector("[data-ended]");
  }

  async function follow() {
    let goesOn = true;
    const every = Number(root.dataset.every);
    let wait = every;
    try {
      goesOn = await look();
      say(goesOn ? "This page keeps itself up to date." : root.dataset.over ?? "");
    } catch {
      wait = 5 * every;
      say("No answer from penchant ui: what is shown is as old as it says.");
    }
    if (goesOn) setTimeout(follow, wait);
  }

  function stepAt(chart, event) {
    const [left, right, first, last] = chart.dataset.steps.split(" ").map(Number);
    const box = chart.getBoundingClientRect();
    const share = ((event.clientX - box.left) / box.width - left) / (right - left);
    return share < 0 || share > 1 ? 0 : Math.round(first + share * (last - first));
  }

  if (root.dataset.run) {
    document.documentElement.classList.add("pointed");
    root.addEventListener("click", (event) => {
      const chart = event.target.closest("svg[data-steps]");
      const step = chart ? stepAt(chart, event) : 0;
      if (step > 0) location.assign(`${root.dataset.run}/step/${step}`);
    });
  }
  if (root.dataset.live) setTimeout(follow, Number(root.dataset.every));
})();
