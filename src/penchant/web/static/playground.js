// Reads a conversation again while an answer grows, and gives the keyboard two keys. Everything works without it.
"use strict";

const PAUSE = 400; // milliseconds

function busy() {
  const live = document.getElementById("live");
  return live !== null && live.dataset.busy === "yes";
}

async function read(address) {
  const answer = await fetch(address, { credentials: "same-origin" });
  if (!answer.ok) throw new Error(String(answer.status));
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

// Only what changed is replaced, so that the stop button keeps the focus and chosen text stays chosen.
function grow(page) {
  for (const name of ["text-left", "text-right", "status"]) {
    const now = document.getElementById(name), next = page.getElementById(name);
    if (now && next && now.textContent !== next.textContent) now.textContent = next.textContent;
  }
}

async function finish(address) {
  const page = await read(address);
  const idle = document.activeElement === document.body || document.activeElement.closest("#stop") !== null;
  const said = page.getElementById("status").textContent;
  const status = document.getElementById("status");
  page.getElementById("status").textContent = "";
  document.getElementById("talk").replaceWith(page.getElementById("talk"));
  document.getElementById("status").textContent = said || (status ? status.textContent : "");
  const question = document.getElementById("question");
  if (idle && question) question.focus({ preventScroll: true });
}

async function follow() {
  const from = document.getElementById("live").dataset.from;
  let misses = 0;
  while (busy()) {
    await new Promise((go) => setTimeout(go, PAUSE * (1 + misses)));
    try {
      const page = await read(`${from}?live`);
      grow(page);
      if (page.getElementById("live").dataset.busy === "no") await finish(from);
      misses = 0;
    } catch (error) {
      misses = Math.min(misses + 1, 20);
      const status = document.getElementById("status");
      status.textContent = "The server does not answer; still trying. If it was ended, what stands here is all there is.";
    }
  }
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    const form = document.getElementById("ask");
    if (form && form.contains(document.activeElement)) {
      event.preventDefault();
      form.requestSubmit(form.querySelector("button.primary"));
    }
  } else if (event.key === "Escape" && busy()) {
    const form = document.getElementById("stop");
    event.preventDefault(); // or the browser may take Escape for the end of the loading that begins here
    if (form) form.requestSubmit();
  }
});

if (busy()) follow();
