// Keys for the data browser. Everything that they do is also a link or a form on the page.
"use strict";
const rows = [...document.querySelectorAll("a.open-row")];
const move = by => {
  const here = rows.indexOf(document.activeElement);
  const next = here < 0 ? (by > 0 ? 0 : rows.length - 1) : here + by;
  if (rows[next]) { rows[next].focus(); rows[next].scrollIntoView({block: "nearest"}); }
};
const follow = selector => { const link = document.querySelector(selector); if (link) link.click(); };
addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (event.target.closest("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const onRow = rows.includes(document.activeElement);
  const actions = rows.length || document.getElementById("q") ? {
    j: () => move(1), k: () => move(-1), n: () => follow("a[rel=next]"), p: () => follow("a[rel=prev]"),
    "/": () => document.getElementById("q").focus(),
    ...(onRow ? {ArrowDown: () => move(1), ArrowUp: () => move(-1)} : {}),
  } : {
    j: () => follow("a[rel=next]"), n: () => follow("a[rel=next]"), k: () => follow("a[rel=prev]"), p: () => follow("a[rel=prev]"),
    u: () => follow("a.up"),
  };
  const action = Object.hasOwn(actions, event.key) && actions[event.key];
  if (action) { event.preventDefault(); action(); }
});
