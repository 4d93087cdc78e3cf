// Requests this page again every few seconds and replaces the parts that changed, so that nothing flickers.
import { draw } from "./plots.js";

const PERIOD_MS = 4000;
const SEARCH_MS = 150;
const served = new Map(); // the HTML of each part as the server sent it
let pressed = false; // a plot may be in use

function carryOver(old, fresh) {
  for (const box of old.querySelectorAll("details[id]")) {
    const counterpart = fresh.querySelector("#" + CSS.escape(box.id));
    if (counterpart) counterpart.open = box.open;
  }
  for (const box of old.querySelectorAll("figure[id] > .scroll")) {
    const counterpart = fresh.querySelector(`#${CSS.escape(box.parentElement.id)} > .scroll`);
    const { scrollTop } = box;
    if (counterpart && scrollTop) requestAnimationFrame(() => (counterpart.scrollTop = scrollTop));
  }
}

async function refresh() {
  const selected = getSelection();
  if (document.hidden || pressed || (selected && !selected.isCollapsed)) return;
  const address = location.href;
  const response = await fetch(address, { signal: AbortSignal.timeout(2 * PERIOD_MS) });
  if (!response.ok) throw new Error(response.statusText);
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  if (address !== location.href || pressed) return; // a newer request follows
  for (const old of document.querySelectorAll("[data-part]")) {
    const fresh = page.getElementById(old.id);
    if (!fresh) continue;
    const content = fresh.outerHTML;
    if (content === served.get(old.id)) continue;
    served.set(old.id, content);
    carryOver(old, fresh);
    const focused = old.contains(document.activeElement) && document.activeElement.getAttribute("href");
    old.replaceWith(fresh);
    draw(fresh);
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

function searchWhileTyping(form) {
  let waiting;
  form.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const query = new URLSearchParams(new FormData(form));
      history.replaceState(null, "", query.get("q") ? `?${query}` : location.pathname);
      refresh().catch(() => {});
    }, SEARCH_MS);
  });
}

for (const part of document.querySelectorAll("[data-part]")) served.set(part.id, part.outerHTML);
draw(document);
document.querySelectorAll("form[role=search]").forEach(searchWhileTyping);
for (const [type, state] of [["pointerdown", true], ["pointerup", false], ["pointercancel", false]]) addEventListener(type, () => (pressed = state));
setTimeout(forever, PERIOD_MS);
document.addEventListener("visibilitychange", () => document.hidden || refresh().catch(() => {}));
