// The overview: another period without a new page, times in the reader's own zone, and figures that follow what happens.
import { dressCharts } from "./charts.js";
import { dressMoments, timesChosen } from "./moments.js";
import { followAccount, prepend } from "./live.js";

const REST_MS = 5_000;
let shown = 0;
let waiting = null;
let last = 0;

dressCharts(document);
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-choice]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  choose(new URL(link.href));
});
document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-choice-form]")) return;
  event.preventDefault();
  const address = new URL(location.href);
  address.search = new URLSearchParams(new FormData(event.target)).toString();
  choose(address);
});
document.addEventListener("level5:times", (event) => choose(inZone(new URL(location.href), event.detail)));
addEventListener("popstate", () => show(new URL(location.href)));
const wished = inZone(new URL(location.href), timesChosen());
if (wished.href !== location.href) choose(wished, true);
followAccount({ changed: refreshSoon });

function inZone(address, kind) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (kind === "local" && zone && zone !== "UTC") address.searchParams.set("zone", zone);
  else address.searchParams.delete("zone");
  return address;
}

async function choose(address, quietly = false) {
  address.hash = "";
  history[quietly ? "replaceState" : "pushState"](null, "", address);
  await show(address);
}

// The page itself is asked again, and the parts that depend on the period take the place of those shown.
async function show(address) {
  const turn = ++shown;
  let page;
  try {
    const answer = await fetch(address, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    page = new DOMParser().parseFromString(await answer.text(), "text/html");
  } catch {
    return; // The next event, or the reader, tries again.
  }
  if (turn !== shown) return;
  if (missing(page)) {
    location.reload();
    return;
  }
  for (const part of document.querySelectorAll("[data-part]")) {
    const fresh = page.getElementById(part.id);
    if (!fresh) continue;
    const open = [...part.querySelectorAll("details")].map((details) => details.open);
    part.replaceWith(fresh);
    if (!fresh.querySelector(".custom-range")) fresh.querySelectorAll("details").forEach((details, index) => (details.open = open[index] ?? false));
  }
  prepend(page.querySelector("[data-lines]")?.tBodies[0].innerHTML ?? ""); // Where events do not come through, nobody else brings them.
  dressCharts(document);
  dressMoments(document);
}

// A first charge brings parts that the page did not have.
function missing(page) {
  return [...page.querySelectorAll("[data-part]")].some((part) => !document.getElementById(part.id));
}

// Figures are read again at most every few seconds, however much happens, and never behind the reader's back.
function refreshSoon() {
  if (waiting !== null) return;
  const rest = Math.max(REST_MS - (Date.now() - last), 800);
  waiting = setTimeout(() => {
    waiting = null;
    if (document.hidden) return;
    last = Date.now();
    show(new URL(location.href));
  }, rest);
}
