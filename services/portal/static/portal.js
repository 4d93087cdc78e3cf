// Asks for this page again every few seconds and replaces the parts that changed, so that nothing flickers.
"use strict";
const PERIOD_MS = 4000;

function carryOver(old, fresh) {
  for (const box of old.querySelectorAll("details[id]")) {
    const its = fresh.querySelector("#" + CSS.escape(box.id));
    if (its) its.open = box.open;
  }
}

async function refresh() {
  const selected = getSelection();
  if (document.hidden || (selected && !selected.isCollapsed)) return;
  const answer = await fetch(location.href, { signal: AbortSignal.timeout(2 * PERIOD_MS) });
  if (!answer.ok) throw new Error(answer.statusText);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-part]")) {
    const fresh = page.getElementById(old.id);
    if (!fresh) continue;
    carryOver(old, fresh);
    if (fresh.outerHTML === old.outerHTML) continue;
    const focused = old.contains(document.activeElement) && document.activeElement.getAttribute("href");
    old.replaceWith(fresh);
    if (focused) fresh.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  }
}

async function forever() {
  try {
    await refresh();
    document.documentElement.classList.remove("is-lost");
  } catch {
    document.documentElement.classList.add("is-lost");
  }
  setTimeout(forever, PERIOD_MS);
}

setTimeout(forever, PERIOD_MS);
document.addEventListener("visibilitychange", () => document.hidden || refresh().catch(() => {}));
